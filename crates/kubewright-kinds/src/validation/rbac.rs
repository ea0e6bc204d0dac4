//! Roles, cluster roles and their bindings.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use kubewright_machinery::selector::{LabelSelector, label};
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{gotypes, metadata};

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLE_REF: Path<'static> = Path::new("roleRef");

pub(super) fn role(role: &Value, e: &mut Errors) {
    metadata::create(role, true, names::name_is_path_segment, e);
    rules(role, true, e);
}

pub(super) fn cluster_role(role: &Value, e: &mut Errors) {
    metadata::create(role, false, names::name_is_path_segment, e);
    rules(role, false, e);
    if !role.has("aggregationRule") {
        return;
    }
    let aggregation = Path::new("aggregationRule");
    let path = aggregation.child("clusterRoleSelectors");
    let selectors = role.sub("aggregationRule").items("clusterRoleSelectors");
    if selectors.is_empty() {
        e.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (i, selector) in selectors.iter().enumerate() {
        let path = path.index(i);
        e.extend(label::validate(selector, false, &path));
        if LabelSelector::from_value(Some(selector)).is_err() {
            e.invalid(&path, Value::Null, "invalid label selector.");
        }
    }
}

fn rules(role: &Value, namespaced: bool, e: &mut Errors) {
    let list = Path::new("rules");
    for (i, rule) in role.items("rules").iter().enumerate() {
        let path = list.index(i);
        if rule.strings("verbs").is_empty() {
            e.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        let [groups, resources, names, urls] =
            ["apiGroups", "resources", "resourceNames", "nonResourceURLs"].map(|field| rule.strings(field));
        if !urls.is_empty() {
            let path = path.child("nonResourceURLs");
            if namespaced {
                e.invalid(&path, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
            }
            if !(groups.is_empty() && resources.is_empty() && names.is_empty()) {
                e.invalid(&path, urls, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if groups.is_empty() {
            e.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            e.required(&path.child("resources"), "resource rules must supply at least one resource");
        }
    }
}

pub(super) fn role_binding(binding: &Value, e: &mut Errors) {
    self::binding(binding, true, &["Role", "ClusterRole"], e);
}

pub(super) fn cluster_role_binding(binding: &Value, e: &mut Errors) {
    self::binding(binding, false, &["ClusterRole"], e);
}

fn binding(binding: &Value, namespaced: bool, kinds: &[&str], e: &mut Errors) {
    metadata::create(binding, namespaced, names::name_is_path_segment, e);
    let reference = binding.sub("roleRef");
    if reference.text("apiGroup") != GROUP {
        e.not_supported(&ROLE_REF.child("apiGroup"), reference.text("apiGroup"), &[GROUP]);
    }
    if !kinds.contains(&reference.text("kind")) {
        e.not_supported(&ROLE_REF.child("kind"), reference.text("kind"), kinds);
    }
    let (name, path) = (reference.text("name"), ROLE_REF.child("name"));
    if name.is_empty() {
        e.required(&path, "");
    }
    for message in names::name_is_path_segment(name, false) {
        e.invalid(&path, name, message);
    }
    let list = Path::new("subjects");
    for (i, subject) in binding.items("subjects").iter().enumerate() {
        self::subject(subject, namespaced, &list.index(i), e);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, e: &mut Errors) {
    let (name, group) = (subject.text("name"), subject.text("apiGroup"));
    let at = path.child("name");
    if name.is_empty() {
        e.required(&at, "");
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                for message in names::name_is_subdomain(name, false) {
                    e.invalid(&at, name, message);
                }
            }
            if !group.is_empty() {
                e.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && subject.text("namespace").is_empty() {
                e.required(&path.child("namespace"), "");
            }
        }
        kind @ ("User" | "Group") => {
            if name.is_empty() {
                e.invalid(&at, name, format!("{} name cannot be empty", kind.to_lowercase()));
            }
            if group != GROUP {
                e.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        kind => e.not_supported(&path.child("kind"), kind, &["ServiceAccount", "User", "Group"]),
    }
}

/// What both kinds of binding check of a change, after everything that is checked of a new one.
pub(super) fn binding_update(binding: &Value, old: &Value, e: &mut Errors) {
    metadata::update(binding, old, e);
    let (new, old) = (binding.sub("roleRef"), old.sub("roleRef"));
    let parts = |reference: &Value| ["apiGroup", "kind", "name"].map(|f| reference.text(f).to_string());
    if parts(new) != parts(old) {
        e.invalid_go(&ROLE_REF, &gotypes::ROLE_REF, new, "cannot change roleRef");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(check: impl FnOnce(&mut Errors)) -> Vec<String> {
        let mut errors = Errors::new();
        check(&mut errors);
        errors.into_vec().into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn a_rule_needs_verbs_groups_and_resources() {
        let empty = json!({"metadata": {"name": "x", "namespace": "a"}, "rules": [{}]});
        assert_eq!(
            fields(|e| role(&empty, e)),
            ["rules[0].verbs", "rules[0].apiGroups", "rules[0].resources"]
        );
    }

    #[test]
    fn a_role_may_not_allow_paths_and_a_cluster_role_may() {
        let rules = json!([{"verbs": ["get"], "nonResourceURLs": ["/x"]}]);
        let of =
            |namespace: Value| json!({"metadata": {"name": "x", "namespace": namespace}, "rules": rules});
        assert_eq!(fields(|e| role(&of("a".into()), e)), ["rules[0].nonResourceURLs"]);
        assert!(fields(|e| cluster_role(&of(Value::Null), e)).is_empty());
    }

    #[test]
    fn the_role_of_a_binding_stays() {
        let binding = |role: &str| {
            json!({
                "metadata": {"name": "x", "namespace": "a", "resourceVersion": "1"},
                "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": role},
                "subjects": [{"kind": "User", "name": "u", "apiGroup": GROUP}],
            })
        };
        assert!(fields(|e| role_binding(&binding("r"), e)).is_empty());
        assert_eq!(fields(|e| binding_update(&binding("r"), &binding("s"), e)), ["roleRef"]);
    }
}
