//! What an aggregated API server needs in the cluster, derived from the kinds that it serves: nothing of it is written
//! twice. Values only.

use kubewright_machinery::gvk::compare_versions;
use serde_json::{Value, json};

use crate::resources::{Resource, Verb};

/// Where the server is served: the port of the Service, and that of the pods.
const SERVICE_PORT: u16 = 443;
/// The port of the pods.
pub(super) const PORT: u16 = 6443;
const RBAC: &str = "rbac.authorization.k8s.io";

/// The objects, in the order in which they are to be applied. `kinds` are those served.
pub(super) fn of(name: &str, namespace: &str, kinds: &[&Resource]) -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": name});
    let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
    let bound = |kind: &str, metadata: Value, role: &str, role_name: &str| {
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": role, "name": role_name}, "subjects": subject,
        })
    };
    let services: Vec<String> = api_services(kinds).into_iter().map(|(name, _, _)| name).collect();
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}),
        // It asks the cluster who callers are and what they may do.
        bound(
            "ClusterRoleBinding",
            json!({"name": format!("{name}:auth-delegator")}),
            "ClusterRole",
            "system:auth-delegator",
        ),
        bound(
            "RoleBinding",
            json!({"name": format!("{name}:authentication-reader"), "namespace": "kube-system"}),
            "Role",
            "extension-apiserver-authentication-reader",
        ),
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [
                {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
                {"apiGroups": ["apiregistration.k8s.io"], "resources": ["apiservices"], "resourceNames": services,
                    "verbs": ["get", "patch"]},
            ],
        }),
        bound("ClusterRoleBinding", json!({"name": name}), "ClusterRole", name),
    ];
    objects.extend(roles_of_users(name, kinds));
    objects.push(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"selector": labels, "ports": [{"name": "https", "port": SERVICE_PORT, "targetPort": PORT}]},
    }));
    for (service, group, version) in api_services(kinds) {
        objects.push(json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": service},
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 1000,
                "versionPriority": priority(kinds, group, version),
                "service": {"namespace": namespace, "name": name, "port": SERVICE_PORT},
            },
        }));
    }
    objects
}

/// The group versions served: name of the APIService, group, version; each once.
pub(super) fn api_services<'k>(kinds: &[&'k Resource]) -> Vec<(String, &'k str, &'k str)> {
    let mut found: Vec<(String, &str, &str)> = Vec::new();
    for kind in kinds {
        let name = format!("{}.{}", kind.version, kind.group);
        if !found.iter().any(|(known, _, _)| *known == name) {
            found.push((name, &kind.group, &kind.version));
        }
    }
    found
}

/// The preferred version has the highest number.
fn priority(kinds: &[&Resource], group: &str, version: &str) -> usize {
    let versions = api_services(kinds).into_iter().filter(|(_, g, _)| *g == group);
    let above = versions.filter(|(_, _, v)| compare_versions(v, version).is_gt());
    100_usize.saturating_sub(10 * above.count()).max(1)
}

/// What viewers and editors of namespaces may do with the kinds: part of the roles view, edit and admin.
fn roles_of_users(name: &str, kinds: &[&Resource]) -> Vec<Value> {
    let reads = [Verb::Get, Verb::List, Verb::Watch];
    let writes = [Verb::Create, Verb::Delete, Verb::DeleteCollection, Verb::Patch, Verb::Update];
    let role = |what: &str, to: &[&str], verbs: &[Verb]| {
        let rules: Vec<Value> = kinds
            .iter()
            .filter_map(|kind| {
                let verbs: Vec<&str> =
                    verbs.iter().filter(|verb| kind.verbs.has(**verb)).map(|verb| verb.as_str()).collect();
                (!verbs.is_empty())
                    .then(|| json!({"apiGroups": [kind.group], "resources": [kind.plural], "verbs": verbs}))
            })
            .collect();
        let labels: serde_json::Map<String, Value> =
            to.iter().map(|role| (format!("{RBAC}/aggregate-to-{role}"), json!("true"))).collect();
        (!rules.is_empty()).then(|| {
            json!({
                "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
                "metadata": {"name": format!("{name}:{what}"), "labels": labels}, "rules": rules,
            })
        })
    };
    [role("view", &["view", "edit", "admin"], &reads), role("edit", &["edit", "admin"], &writes)]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Verbs;

    #[test]
    fn the_objects_follow_from_what_is_served() {
        let one = Resource::stored("a.io", "v1", "X", "xs", true);
        let old = Resource::stored("a.io", "v1beta1", "X", "xs", true);
        let read =
            Resource { verbs: Verbs::of(&[Verb::Get]), ..Resource::stored("a.io", "v1", "Y", "ys", true) };
        let objects = of("s", "s-system", &[&one, &old, &read]);
        let named = |kind: &str, name: &str| {
            let found = objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
            found.unwrap_or_else(|| panic!("no {kind} {name}"))
        };
        assert_eq!(named("APIService", "v1.a.io")["spec"]["versionPriority"], 100);
        assert_eq!(named("APIService", "v1beta1.a.io")["spec"]["versionPriority"], 90);
        let rules = &named("ClusterRole", "s")["rules"];
        assert_eq!(rules[1]["resourceNames"], json!(["v1.a.io", "v1beta1.a.io"]));
        assert_eq!(
            named("ClusterRole", "s:edit")["rules"].as_array().unwrap().len(),
            2,
            "ys cannot be written"
        );
        assert_eq!(named("ClusterRole", "s:view")["rules"][2]["verbs"], json!(["get"]));
    }
}
