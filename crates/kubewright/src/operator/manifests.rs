//! What an operator needs in the cluster, as YAML: derived from its kinds and declarations, so that
//! the code and the role can't drift apart.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::client::{NamedRules, Permits, Verb};
use crate::webhook::names::Names;
use crate::{Error, Result};

/// Where metrics are served by convention (kubebuilder's).
pub(super) const METRICS_PORT: u16 = 8443;

type Rules = BTreeMap<(String, String), BTreeSet<Verb>>;

pub(super) fn print(
    name: &str,
    definitions: &[CustomResourceDefinition],
    permits: &Permits,
    own: &Permits,
    further: &[Value],
    namespace: &str,
    watched: &[&str],
) -> Result<String> {
    let mut documents = vec![json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
    })];
    let mut seen = BTreeSet::new();
    for definition in definitions {
        if seen.insert(definition.metadata.name.clone()) {
            documents.push(serde_json::to_value(definition)?);
        }
    }
    documents.push(json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace},
    }));
    let (namespaced, cluster): (Rules, Rules) = permits
        .rules()
        .into_iter()
        .partition(|((group, resource), _)| !watched.is_empty() && permits.is_namespaced(group, resource));
    let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
    let named = permits.named_rules();
    if !cluster.is_empty() || !named.is_empty() {
        documents.extend(role(name, None, &cluster, &named, &subject));
    }
    // What replicas agree on with each other, where they live.
    if !own.is_empty() {
        let replicas = format!("{name}-replicas");
        documents.extend(role(&replicas, Some(namespace), &own.rules(), &own.named_rules(), &subject));
    }
    for watched in watched.iter().filter(|_| !namespaced.is_empty()) {
        documents.extend(role(name, Some(watched), &namespaced, &NamedRules::new(), &subject));
    }
    documents.extend_from_slice(further);
    yaml(&documents)
}

/// What scrapers of secured metrics need: a Service to find them by, and a role that lets its subjects get them. It is
/// bound to whoever scrapes by those who know them.
pub(super) fn metrics(names: &Names) -> [Value; 2] {
    [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": names.metrics_service(), "namespace": names.namespace,
                "labels": {"app.kubernetes.io/name": names.operator},
            },
            "spec": {
                "selector": {"app.kubernetes.io/name": names.operator},
                "ports": [{"name": "https", "port": METRICS_PORT, "targetPort": METRICS_PORT, "protocol": "TCP"}],
            },
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": format!("{}-metrics-reader", names.operator)},
            "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
        }),
    ]
}

fn role(
    name: &str,
    namespace: Option<&str>,
    rules: &Rules,
    named: &NamedRules,
    subjects: &Value,
) -> [Value; 2] {
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata,
            "rules": grouped(rules, named),
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": subjects,
        }),
    ]
}

/// One rule for all resources of a group that have the same verbs.
fn grouped(rules: &Rules, named: &NamedRules) -> Vec<Value> {
    let mut groups: BTreeMap<(&str, &BTreeSet<Verb>), Vec<&str>> = BTreeMap::new();
    for ((group, resource), verbs) in rules {
        groups.entry((group, verbs)).or_default().push(resource);
    }
    let words = |verbs: &BTreeSet<Verb>| verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>();
    let all = groups.into_iter().map(|((group, verbs), resources)| {
        json!({"apiGroups": [group], "resources": resources, "verbs": words(verbs)})
    });
    let some = named.iter().map(|((group, resource, names), verbs)| {
        json!({"apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": words(verbs)})
    });
    all.chain(some).collect()
}

/// Objects as documents of YAML.
pub(super) fn yaml(documents: &[Value]) -> Result<String> {
    let mut text = String::new();
    for document in documents {
        text.push_str("---\n");
        let document = serde_saphyr::to_string(document);
        text.push_str(&document.map_err(|error| Error::Print(std::io::Error::other(error)))?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod};

    use super::*;
    use crate::client::Permit;
    use crate::kind::Kind;
    use crate::sharding;

    fn permits() -> Permits {
        let mut permits = Permits::default();
        permits.name(&Kind::of::<Pod>());
        permits.name(&Kind::of::<Node>());
        permits.add(Permit::on::<Pod>([Verb::Create, Verb::Delete]));
        permits.add(Permit::on::<Node>([Verb::Get]));
        permits.add(Permit::on_resource("", "configmaps", [Verb::Get]));
        permits
    }

    fn documents(text: &str) -> Vec<Value> {
        text.split("---\n")
            .filter(|part| !part.is_empty())
            .map(|part| serde_saphyr::from_str(part).expect("valid YAML"))
            .collect()
    }

    #[test]
    fn roles_follow_from_what_is_declared() {
        let text = print("op", &[], &permits(), &sharding::permits(), &[], "op-system", &[]).unwrap();
        let documents = documents(&text);
        let kinds: Vec<&str> = documents.iter().filter_map(|document| document["kind"].as_str()).collect();
        assert_eq!(
            kinds,
            ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
        );
        assert_eq!(documents[4]["metadata"], json!({"name": "op-replicas", "namespace": "op-system"}));
        assert_eq!(documents[4]["rules"][0]["resources"], json!(["leases"]));
        assert_eq!(
            documents[2]["rules"],
            json!([
                {"apiGroups": [""], "resources": ["configmaps", "nodes"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete"]},
            ])
        );
        assert_eq!(documents[3]["subjects"][0]["namespace"], "op-system");
    }

    #[test]
    fn another_cluster_needs_an_account_and_a_role_and_no_more() {
        let text = print("op", &[], &permits(), &Permits::default(), &[], "op-system", &[]).unwrap();
        let documents = documents(&text);
        let kinds: Vec<&str> = documents.iter().filter_map(|document| document["kind"].as_str()).collect();
        assert_eq!(kinds, ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"]);
    }

    #[test]
    fn each_watched_namespace_gets_a_role_of_its_own() {
        let text =
            print("op", &[], &permits(), &sharding::permits(), &[], "op-system", &["team", "other"]).unwrap();
        let documents = documents(&text);
        let roles: Vec<&Value> =
            documents.iter().filter(|document| document["kind"] == "Role").skip(1).collect();
        assert_eq!(roles.len(), 2);
        for (role, namespace) in roles.iter().zip(["team", "other"]) {
            assert_eq!(role["metadata"]["namespace"], namespace);
            assert_eq!(role["rules"][0]["resources"], json!(["pods"]));
        }
        let cluster = documents.iter().find(|document| document["kind"] == "ClusterRole").unwrap();
        assert_eq!(cluster["rules"][0]["resources"], json!(["configmaps", "nodes"]));
    }
}
