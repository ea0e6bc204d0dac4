//! What an operator needs in the cluster, as YAML: derived from its kinds and declarations, so that
//! the code and the role can't drift apart.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::cache::Select;
use crate::client::{NamedRules, Permits, Verb};
use crate::kind::Kind;
use crate::webhook::names::Names;
use crate::{Error, Result};

/// Where metrics are served by convention (kubebuilder's).
pub(super) const METRICS_PORT: u16 = 8443;

type Rules = BTreeMap<(String, String), BTreeSet<Verb>>;

/// Where what is declared is granted.
#[derive(Default)]
pub(super) struct Places<'a> {
    /// Namespaced kinds in these namespaces, or everywhere if there are none.
    pub namespaces: Vec<&'a str>,
    /// Reads of these kinds in these namespaces alone.
    pub selected: Vec<(&'a Kind, BTreeSet<String>)>,
}

impl<'a> Places<'a> {
    /// These namespaces, and those by which kinds are selected now.
    pub(super) fn new(namespaces: Vec<&'a str>, selects: &'a [(Kind, Select)]) -> Places<'a> {
        let selected = selects
            .iter()
            .filter(|(kind, _)| kind.namespaced)
            .filter_map(|(kind, select)| Some((kind, select.namespaces.as_ref()?.get())));
        Places { namespaces, selected: selected.collect() }
    }

    /// The rules of the whole cluster, and those of each namespace.
    fn rules(&self, permits: &Permits) -> (Rules, Vec<(String, Rules)>) {
        let mut cluster = Rules::new();
        let mut namespaces: Vec<(String, Rules)> =
            self.namespaces.iter().map(|namespace| ((*namespace).to_owned(), Rules::new())).collect();
        for (resource, verbs) in permits.rules() {
            let here =
                self.selected.iter().find(|(kind, _)| kind.group == resource.0 && kind.plural == resource.1);
            let (reads, others): (BTreeSet<Verb>, BTreeSet<Verb>) =
                verbs.into_iter().partition(|verb| here.is_some() && verb.is_read());
            for namespace in here.iter().filter(|_| !reads.is_empty()).flat_map(|(_, namespaces)| namespaces)
            {
                let at = namespaces.iter().position(|(known, _)| known == namespace).unwrap_or_else(|| {
                    namespaces.push((namespace.clone(), Rules::new()));
                    namespaces.len() - 1
                });
                namespaces[at].1.entry(resource.clone()).or_default().extend(&reads);
            }
            if others.is_empty() {
                continue;
            }
            if self.namespaces.is_empty() || !permits.is_namespaced(&resource.0, &resource.1) {
                cluster.entry(resource).or_default().extend(others);
                continue;
            }
            for (_, rules) in &mut namespaces[..self.namespaces.len()] {
                rules.entry(resource.clone()).or_default().extend(&others);
            }
        }
        namespaces.retain(|(_, rules)| !rules.is_empty());
        (cluster, namespaces)
    }
}

pub(super) fn print(
    name: &str,
    definitions: &[CustomResourceDefinition],
    permits: &Permits,
    own: &Permits,
    further: &[Value],
    namespace: &str,
    places: &Places<'_>,
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
    let (cluster, namespaced) = places.rules(permits);
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
    for (watched, rules) in &namespaced {
        documents.extend(role(name, Some(watched), rules, &NamedRules::new(), &subject));
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
    use crate::cache::Namespaces;
    use crate::client::Permit;
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
        let everywhere = Places::default();
        let text = print("op", &[], &permits(), &sharding::permits(), &[], "op-system", &everywhere).unwrap();
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
        let text =
            print("op", &[], &permits(), &Permits::default(), &[], "op-system", &Places::default()).unwrap();
        let documents = documents(&text);
        let kinds: Vec<&str> = documents.iter().filter_map(|document| document["kind"].as_str()).collect();
        assert_eq!(kinds, ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"]);
    }

    #[test]
    fn each_watched_namespace_gets_a_role_of_its_own() {
        let watched = Places::new(vec!["team", "other"], &[]);
        let text = print("op", &[], &permits(), &sharding::permits(), &[], "op-system", &watched).unwrap();
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

    #[test]
    fn a_kind_that_is_selected_by_namespaces_is_read_in_these_and_written_where_others_are() {
        let mut permits = permits();
        permits.add(Permit::on::<Pod>([Verb::List, Verb::Watch]));
        let own = Select::all().namespaces(&Namespaces::of(["team", "op-system"]));
        let selects = [(Kind::of::<Pod>(), own)];
        let rules = |watched: &[&str]| {
            let places = Places::new(watched.to_vec(), &selects);
            let text = print("op", &[], &permits, &Permits::default(), &[], "op-system", &places).unwrap();
            let roles = documents(&text).into_iter().filter(|one| one["rules"].is_array());
            let of_pods = |role: &Value| {
                let rules = role["rules"].as_array().unwrap().iter();
                let pods = rules.filter(|rule| rule["resources"] == json!(["pods"]));
                pods.map(|rule| rule["verbs"].clone()).collect::<Vec<Value>>()
            };
            roles.map(|role| json!([role["metadata"]["namespace"], of_pods(&role)])).collect::<Vec<Value>>()
        };
        let everywhere = [
            json!([null, [["create", "delete"]]]),
            json!(["op-system", [["list", "watch"]]]),
            json!(["team", [["list", "watch"]]]),
        ];
        assert_eq!(rules(&[]), everywhere);
        let in_team = [
            json!([null, []]),
            json!(["team", [["list", "watch", "create", "delete"]]]),
            json!(["op-system", [["list", "watch"]]]),
        ];
        assert_eq!(rules(&["team"]), in_team);
    }
}
