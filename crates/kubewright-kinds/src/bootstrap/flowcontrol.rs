//! The flow schemas and priority levels that every server starts with: the two mandatory ones and those suggested for
//! the components of a cluster (Kubernetes 1.36). The API server's `server/fairness` makes room for requests by them;
//! nothing here does.

use serde_json::{Value, json};

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
const EVERYONE: [&str; 2] = ["system:unauthenticated", "system:authenticated"];

/// The objects, in the order in which they are to be created: priority levels, then what refers to them.
pub fn objects() -> Vec<Value> {
    let mut objects = levels();
    objects.extend(schemas());
    objects
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": kind, "spec": spec,
        "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
    })
}

fn levels() -> Vec<Value> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let mut levels = vec![object("PriorityLevelConfiguration", "exempt", &exempt)];
    // Name, shares, how much of them may be lent (percent), and how many queues with how large hands; without
    // queues, what does not fit is rejected.
    levels.push(limited("catch-all", 5, 0, None));
    levels.push(limited("system", 30, 33, Some((64, 6))));
    levels.push(limited("node-high", 40, 25, Some((64, 6))));
    levels.push(limited("leader-election", 10, 0, Some((16, 4))));
    levels.push(limited("workload-high", 40, 50, Some((128, 6))));
    levels.push(limited("workload-low", 100, 90, Some((128, 6))));
    levels.push(limited("global-default", 20, 50, Some((128, 6))));
    levels
}

fn limited(name: &str, shares: i64, lendable: i64, queues: Option<(i64, i64)>) -> Value {
    let response = match queues {
        None => json!({"type": "Reject"}),
        Some((queues, hand)) => {
            json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}})
        }
    };
    let spec = json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares,
        "lendablePercent": lendable, "limitResponse": response}});
    object("PriorityLevelConfiguration", name, &spec)
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn system_accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}})
}

fn resource_rule(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// A rule for all requests of the subjects.
fn all_of(subjects: &[Value]) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resource_rule(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn schemas() -> Vec<Value> {
    let probes = json!({"subjects": groups(&EVERYONE),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    let mut electors = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    electors.push(system_accounts());
    let leases = |verbs| resource_rule(verbs, "coordination.k8s.io", &["leases"], false);
    let election =
        json!({"subjects": electors, "resourceRules": [leases(&["get", "create", "update"] as &[&str])]});
    let nodes = json!({"subjects": groups(&["system:nodes"]), "resourceRules":
        [resource_rule(&["*"], "", &["nodes", "nodes/status"], true), leases(&["*"])]});
    // Name, priority level, precedence, what tells flows apart, the rule.
    let all: [(&str, &str, i64, &str, Value); 11] = [
        ("exempt", "exempt", 1, "", all_of(&groups(&["system:masters"]))),
        ("catch-all", "catch-all", 10_000, "ByUser", all_of(&groups(&EVERYONE))),
        ("system-nodes", "system", 500, "ByUser", all_of(&groups(&["system:nodes"]))),
        ("system-node-high", "node-high", 400, "ByUser", nodes),
        ("probes", "exempt", 2, "", probes),
        ("system-leader-election", "leader-election", 100, "ByUser", election),
        (
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            all_of(&users(&["system:kube-controller-manager"])),
        ),
        ("kube-scheduler", "workload-high", 800, "ByNamespace", all_of(&users(&["system:kube-scheduler"]))),
        ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", all_of(&[system_accounts()])),
        ("service-accounts", "workload-low", 9000, "ByUser", all_of(&groups(&["system:serviceaccounts"]))),
        ("global-default", "global-default", 9900, "ByUser", all_of(&groups(&EVERYONE))),
    ];
    all.map(|(name, level, precedence, by, rule)| {
        let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
            "rules": [rule]});
        if !by.is_empty() {
            spec["distinguisherMethod"] = json!({ "type": by });
        }
        let mut schema = object("FlowSchema", name, &spec);
        schema["status"] = json!({"conditions": [{"type": "Dangling", "status": "False", "reason": "Found",
        "message": format!(
            "This FlowSchema references the PriorityLevelConfiguration object named \"{level}\" and it exists"
        )}]});
        schema
    })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_valid_and_refer_to_levels_that_are_there() {
        let objects = objects();
        let levels: Vec<&Value> =
            objects.iter().filter(|o| o["kind"] != "FlowSchema").map(|o| &o["metadata"]["name"]).collect();
        assert_eq!((levels.len(), objects.len()), (8, 19));
        for object in &objects {
            let kind = object["kind"].as_str().expect("a kind");
            let faults = crate::validation::create("flowcontrol.apiserver.k8s.io", kind, object);
            assert!(faults.is_empty(), "{}: {faults:?}", object["metadata"]["name"]);
            let level = &object["spec"]["priorityLevelConfiguration"]["name"];
            assert!(level.is_null() || levels.contains(&level), "{level}");
        }
    }
}
