//! The bootstrap roles and bindings, read from a compact table; and how a server that finds older ones in its store
//! brings them up to date.

use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("rbac.txt");
const API_GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The objects, in the order in which they are to be created: cluster roles, their bindings, then those of namespaces
/// (`kube-system` and `kube-public` have to exist).
///
/// Costs about a millisecond; called once at start.
pub fn objects() -> Vec<Value> {
    parse(TABLE)
}

/// Where the rules that follow a line go.
#[derive(Clone, Copy)]
struct Open {
    at: usize,
}

fn parse(table: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    let mut open: Option<Open> = None;
    for line in table.lines() {
        let is_rule = line.starts_with("  ");
        let mut words = line.split_whitespace();
        let Some(first) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        if is_rule {
            if let Some(Open { at }) = open
                && let Value::Array(rules) = &mut objects[at]["rules"]
            {
                rules.push(rule(first, words));
            }
            continue;
        }
        let mut next = || words.next().unwrap_or_default();
        match first {
            "clusterrole" => {
                let name = next();
                let mut role = object("ClusterRole", name, None);
                words.for_each(|label| aggregate_label(&mut role, label));
                role["rules"] = json!([]);
                open = Some(Open { at: objects.len() });
                objects.push(role);
            }
            "aggregate" => {
                let (name, of) = (next(), next());
                let mut role = object("ClusterRole", name, None);
                words.for_each(|label| aggregate_label(&mut role, label));
                role["aggregationRule"] =
                    json!({"clusterRoleSelectors": [{"matchLabels": {aggregate_key(of): "true"}}]});
                role["rules"] = Value::Null;
                objects.push(role);
            }
            "controller" => {
                let name = next();
                let role_name = format!("system:controller:{name}");
                let subject = format!("account:kube-system/{name}");
                objects.push(binding(&role_name, None, "ClusterRole", &role_name, [&*subject].into_iter()));
                let mut role = object("ClusterRole", &role_name, None);
                role["rules"] = json!([]);
                open = Some(Open { at: objects.len() });
                objects.push(role);
            }
            "role" => {
                let (namespace, name) = (next(), next());
                let mut role = object("Role", name, Some(namespace));
                role["rules"] = json!([]);
                open = Some(Open { at: objects.len() });
                objects.push(role);
            }
            "clusterbinding" => {
                let name = next();
                objects.push(binding(name, None, "ClusterRole", name, words));
            }
            "binding" => {
                let (namespace, name, role) = (next(), next(), next());
                objects.push(binding(name, Some(namespace), "Role", role, words));
            }
            _ => {}
        }
    }
    objects.sort_by_key(|object| {
        let order = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
        order.iter().position(|kind| object["kind"] == *kind)
    });
    objects
}

fn object(kind: &str, name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({
        "annotations": {AUTOUPDATE: "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "name": name,
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata})
}

fn aggregate_key(label: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{label}")
}

fn aggregate_label(role: &mut Value, label: &str) {
    role["metadata"]["labels"][aggregate_key(label)] = "true".into();
}

fn rule<'t>(verbs: &str, mut words: impl Iterator<Item = &'t str>) -> Value {
    if verbs == "events" {
        return rule("create,patch,update", ["core,events.k8s.io", "events"].into_iter());
    }
    let verbs = verbs
        .replace("read", "get,list,watch")
        .replace("write", "create,delete,deletecollection,patch,update");
    let list = |text: &str| -> Value {
        let mut items: Vec<&str> =
            text.split(',').map(|item| if item == "core" { "" } else { item }).collect();
        items.sort_unstable();
        items.into()
    };
    let (group, things) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if group == "url" {
        return json!({"nonResourceURLs": list(things), "verbs": list(&verbs)});
    }
    let mut rule = json!({"apiGroups": list(group), "resources": list(things), "verbs": list(&verbs)});
    if let Some(names) = words.next() {
        rule["resourceNames"] = list(names);
    }
    rule
}

fn binding<'t>(
    name: &str,
    namespace: Option<&str>,
    role_kind: &str,
    role: &str,
    subjects: impl Iterator<Item = &'t str>,
) -> Value {
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    let mut binding = object(kind, name, namespace);
    binding["roleRef"] = json!({"apiGroup": API_GROUP, "kind": role_kind, "name": role});
    let subjects: Vec<Value> = subjects.filter_map(subject).collect();
    if !subjects.is_empty() {
        binding["subjects"] = subjects.into();
    }
    binding
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "group" => Some(json!({"apiGroup": API_GROUP, "kind": "Group", "name": name})),
        "user" => Some(json!({"apiGroup": API_GROUP, "kind": "User", "name": name})),
        _ => {
            let (namespace, name) = name.split_once('/')?;
            Some(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}))
        }
    }
}

/// What a stored object has to become, given what a server of this version starts with: missing labels, annotations,
/// rules and subjects are added, nothing is taken away. `None` when nothing is missing, or when the object says (by its
/// `autoupdate` annotation) that it is not to be touched.
pub fn reconcile(stored: &Value, expected: &Value) -> Option<Value> {
    if stored["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let mut next = stored.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in expected["metadata"][field].as_object().into_iter().flatten() {
            if next["metadata"].get(field).is_none_or(|map| !map.is_object()) {
                next["metadata"][field] = Value::Object(Map::new());
            }
            if next["metadata"][field].get(key).is_none() {
                next["metadata"][field][key] = value.clone();
            }
        }
    }
    // Of an aggregated role the rules are the controller's.
    if expected.get("aggregationRule").is_some() {
        if next.get("aggregationRule").is_none() {
            next["aggregationRule"] = expected["aggregationRule"].clone();
        }
    } else {
        for field in ["rules", "subjects"] {
            for item in expected[field].as_array().into_iter().flatten() {
                match &mut next[field] {
                    Value::Array(items) if items.contains(item) => {}
                    Value::Array(items) => items.push(item.clone()),
                    empty => *empty = json!([item]),
                }
            }
        }
    }
    remove_nulls_added(&mut next, stored);
    (next != *stored).then_some(next)
}

/// Looking for lists that are not there leaves nulls behind.
fn remove_nulls_added(next: &mut Value, stored: &Value) {
    if let Value::Object(fields) = next {
        fields.retain(|key, value| !value.is_null() || stored.get(key).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
        let found = objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    #[test]
    fn every_line_of_the_table_is_read() {
        let known = ["clusterrole", "aggregate", "controller", "role", "clusterbinding", "binding"];
        for line in TABLE.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if line.starts_with("  ") {
                assert!(words == ["events"] || words.len() == 3 || words.len() == 4, "{line}");
            } else {
                assert!(known.contains(&words[0]) && words.len() > 1, "{line}");
            }
        }
        let objects = objects();
        for object in &objects {
            let kind = object["kind"].as_str().unwrap();
            if kind.ends_with("Binding") {
                let role = object["roleRef"]["name"].as_str().unwrap();
                named(&objects, object["roleRef"]["kind"].as_str().unwrap(), role);
            } else {
                let aggregated = object.get("aggregationRule").is_some();
                assert!(aggregated || !object["rules"].as_array().unwrap().is_empty(), "{object}");
            }
        }
    }

    #[test]
    fn rules_are_sorted_and_abbreviations_spelled_out() {
        let objects = objects();
        let role = named(&objects, "ClusterRole", "system:controller:namespace-controller");
        let all = json!({
            "apiGroups": ["*"], "resources": ["*"],
            "verbs": ["delete", "deletecollection", "get", "list", "watch"],
        });
        assert_eq!(role["rules"][2], all);
        let edit = named(&objects, "ClusterRole", "edit");
        assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
        assert_eq!(edit["rules"], Value::Null);
        let node = named(&objects, "ClusterRoleBinding", "system:node");
        assert!(node.get("subjects").is_none());
    }

    #[test]
    fn an_older_role_gets_what_it_lacks_and_keeps_what_it_has() {
        let objects = objects();
        let expected = named(&objects, "ClusterRole", "system:basic-user");
        assert_eq!(reconcile(expected, expected), None);
        let mut older = expected.clone();
        let own = json!({"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]});
        older["rules"] = json!([own]);
        let next = reconcile(&older, expected).unwrap();
        assert_eq!(next["rules"].as_array().unwrap().len(), 3);
        assert_eq!(next["rules"][0], own);
        older["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(reconcile(&older, expected), None);
    }
}
