//! Cluster roles made of others (`aggregationRule`): what their rules have to be.
//!
//! Pure: who watches cluster roles and writes the outcome is a controller's business.

use kubewright_machinery::meta;
use kubewright_machinery::selector::LabelSelector;
use serde_json::Value;

/// The rules of an aggregated role, given all cluster roles: those of every role that one of its selectors takes,
/// selector by selector, roles in the order of their names, each rule once. `None` when the role aggregates nothing, or
/// when a selector is malformed.
pub fn aggregated_rules<'r>(role: &Value, all: impl IntoIterator<Item = &'r Value>) -> Option<Vec<Value>> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array()?;
    let mut others: Vec<&Value> =
        all.into_iter().filter(|other| meta::name(other) != meta::name(role)).collect();
    others.sort_by_key(|other| meta::name(other));
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let selector = LabelSelector::from_value(Some(selector)).ok()?;
        for other in others.iter().filter(|other| selector.matches_object(other)) {
            for rule in other["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_role_gets_the_rules_of_those_its_selectors_take_each_once() {
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let role = |name: &str, label: &str, rules: &[Value]| json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": rules});
        let edit = json!({
            "metadata": {"name": "edit", "labels": {"to": "edit"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "edit"}}]},
            "rules": [rule("stale")],
        });
        let all = [
            role("b", "edit", &[rule("pods"), rule("secrets")]),
            role("a", "edit", &[rule("pods")]),
            role("c", "view", &[rule("nodes")]),
            edit.clone(),
        ];
        assert_eq!(aggregated_rules(&edit, &all), Some(vec![rule("pods"), rule("secrets")]));
        assert_eq!(aggregated_rules(&all[0], &all), None);
    }
}
