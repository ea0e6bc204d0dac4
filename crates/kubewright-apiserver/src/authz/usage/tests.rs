//! Uses and grants put together by hand, and what the report makes of them.

use serde_json::{Value, json};

use super::report::compare;
use super::*;
use crate::authn::UserInfo;
use crate::authz::rbac::{Index, Policies};
use crate::resources::Snapshot;

const USER: &str = "system:serviceaccount:ns:op";

fn snapshot(objects: &[(&str, Value)]) -> Snapshot {
    let objects = objects.iter().map(|(key, object)| (Box::from(*key), Arc::new(object.clone())));
    Snapshot { serial: 1, objects: Arc::new(objects.collect()) }
}

/// The account bound to cluster-wide rules, and to others in its own namespace.
fn index(cluster: Value, own: Value) -> Index {
    let binding = |kind: &str| {
        json!({"metadata": {"name": "b"}, "roleRef": {"kind": kind, "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "op", "namespace": "ns"}]})
    };
    let everybody = json!({"metadata": {"name": "e"}, "roleRef": {"kind": "ClusterRole", "name": "everybody"},
        "subjects": [{"kind": "Group", "name": "system:authenticated"}]});
    let reviews = json!([{"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews"], "verbs": ["create"]}]);
    Index::build(&Policies {
        cluster_roles: snapshot(&[
            ("r", json!({"rules": cluster})),
            ("everybody", json!({"rules": reviews})),
        ]),
        cluster_role_bindings: snapshot(&[("b", binding("ClusterRole")), ("e", everybody)]),
        roles: snapshot(&[("ns/r", json!({"rules": own}))]),
        role_bindings: snapshot(&[("ns/b", binding("Role"))]),
    })
}

/// `verb group resource namespace name`; a dash is empty.
fn used(usage: &Usage, uses: &[&str]) {
    let user = UserInfo::new(USER, &[]);
    for one in uses {
        let parts: Vec<&str> = one.split(' ').map(|part| if part == "-" { "" } else { part }).collect();
        let (resource, sub) = parts[2].split_once('/').unwrap_or((parts[2], ""));
        usage.note(
            &Attributes {
                subresource: sub.into(),
                namespace: parts[3].into(),
                name: parts[4].into(),
                ..Attributes::of_resource(&user, parts[0], parts[1], "v1", resource)
            },
            true,
        );
    }
}

fn told(permissions: &[Permission]) -> Vec<String> {
    permissions.iter().map(Permission::to_string).collect()
}

#[test]
fn uses_and_grants_are_compared_verb_by_verb() {
    let rules = json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["update"]},
    ]);
    let usage = Usage::default();
    used(
        &usage,
        &[
            "list apps deployments - -",
            "patch apps deployments a web",
            "create apps deployments a -",
            "get - pods a p",
            "create authorization.k8s.io selfsubjectaccessreviews - -",
        ],
    );
    let report = compare(USER, &usage.of(USER), &index(rules, json!([])));
    assert_eq!(told(&report.not_granted), ["get pods p in a"]);
    assert_eq!(told(&report.unused), ["update pods/status", "delete deployments.apps"]);
    assert!(!report.is_least() && report.wide.is_empty() && !report.incomplete);
    assert_eq!(told(&report.clone().ignoring(&["pods/status"]).unused), ["delete deployments.apps"]);
    assert!(report.ignoring(&["*/status", "deployments.apps"]).unused.is_empty());
}

#[test]
fn names_and_namespaces_limit_a_grant() {
    let own = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine", "other"], "verbs": ["get"]}]);
    let usage = Usage::default();
    used(&usage, &["get - secrets ns mine", "get - secrets ns theirs", "get - secrets elsewhere mine"]);
    let report = compare(USER, &usage.of(USER), &index(json!([]), own));
    assert_eq!(told(&report.not_granted), ["get secrets mine in elsewhere", "get secrets theirs in ns"]);
    assert_eq!(told(&report.unused), ["get secrets other in ns"]);
}

#[test]
fn wildcards_are_told_with_what_they_were_used_for() {
    let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let usage = Usage::default();
    used(&usage, &["list apps deployments - -", "update - pods/status a p"]);
    let report = compare(USER, &usage.of(USER), &index(rules, json!([])));
    assert!(report.not_granted.is_empty() && report.unused.is_empty());
    let (wide, uses) = &report.wide[0];
    assert_eq!(wide.to_string(), "* *.*");
    assert_eq!(told(uses), ["update pods/status", "list deployments.apps"]);
    assert!(report.to_string().contains("used for update pods/status, list deployments.apps"));
    assert!(!report.is_least());
}

#[test]
fn what_exactly_suffices_is_least() {
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]);
    let usage = Usage::default();
    used(&usage, &["watch - pods - -"]);
    compare(USER, &usage.of(USER), &index(rules, json!([]))).assert_least();
    usage.forget(USER);
    assert_eq!(usage.of(USER).used.len(), 0);
}

#[test]
fn memory_is_bounded_and_says_so() {
    let usage = Usage::default();
    for i in 0..3 * MAX_NAMES {
        used(&usage, &[&format!("get - pods a p{i}")]);
    }
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    assert!(compare(USER, &usage.of(USER), &index(rules, json!([]))).incomplete);
    for i in 0..2 * MAX_PERMISSIONS {
        used(&usage, &[&format!("get - r{i} a -")]);
    }
    let account = usage.of(USER);
    assert!(account.more && account.used.len() == MAX_PERMISSIONS);
    let names = &account.used["get  pods "].places["a"];
    assert!(names.more && names.some.len() == MAX_NAMES);
}
