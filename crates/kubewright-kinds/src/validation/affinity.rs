//! Where pods may run: affinity, node selectors, tolerations, taints and topology spread.

use std::collections::{BTreeMap, BTreeSet};

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::checks;
use super::errors::Errors;
use super::read::Fields;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `spec.affinity`.
pub(super) fn affinity(affinity: &Value, path: &Path<'_>, e: &mut Errors) {
    if let Some(nodes) = affinity.some("nodeAffinity") {
        let path = &path.child("nodeAffinity");
        if let Some(selector) = nodes.some(REQUIRED) {
            node_selector(selector, false, &path.child(REQUIRED), e);
        }
        let preferred = path.child(PREFERRED);
        for (i, term) in nodes.items(PREFERRED).iter().enumerate() {
            weight(term, &preferred.index(i), e);
            node_selector_term(term.sub("preference"), true, &preferred.index(i).child("preference"), e);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.some(kind) else { continue };
        let path = &path.child(kind);
        let required = path.child(REQUIRED);
        for (i, term) in pods.items(REQUIRED).iter().enumerate() {
            pod_term(term, &required.index(i), e);
        }
        let preferred = path.child(PREFERRED);
        for (i, term) in pods.items(PREFERRED).iter().enumerate() {
            weight(term, &preferred.index(i), e);
            pod_term(term.sub("podAffinityTerm"), &preferred.index(i).child("podAffinityTerm"), e);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, e: &mut Errors) {
    let weight = term.int("weight");
    if !(1..=100).contains(&weight) {
        e.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A selector of nodes: at least one term.
pub(super) fn node_selector(selector: &Value, any_value: bool, path: &Path<'_>, e: &mut Errors) {
    let list = path.child("nodeSelectorTerms");
    let terms = selector.items("nodeSelectorTerms");
    if terms.is_empty() {
        e.required(&list, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_selector_term(term, any_value, &list.index(i), e);
    }
}

fn node_selector_term(term: &Value, any_value: bool, path: &Path<'_>, e: &mut Errors) {
    let list = path.child("matchExpressions");
    for (i, requirement) in term.items("matchExpressions").iter().enumerate() {
        node_requirement(requirement, any_value, &list.index(i), e);
    }
    let list = path.child("matchFields");
    for (i, requirement) in term.items("matchFields").iter().enumerate() {
        node_field_requirement(requirement, &list.index(i), e);
    }
}

fn node_requirement(requirement: &Value, any_value: bool, path: &Path<'_>, e: &mut Errors) {
    let values = requirement.strings("values");
    let values_path = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            e.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            e.forbidden(&values_path, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            e.required(&values_path, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => e.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    checks::label_key(requirement.text("key"), &path.child("key"), e);
    if !any_value {
        for (i, value) in values.into_iter().enumerate() {
            e.each(&values_path.index(i), value, names::is_label_value(value));
        }
    }
}

fn node_field_requirement(requirement: &Value, path: &Path<'_>, e: &mut Errors) {
    let values = requirement.strings("values");
    let values_path = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                e.required(&values_path, detail);
            }
        }
        other => e.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    if requirement.text("key") != "metadata.name" {
        return e.invalid(&path.child("key"), requirement.text("key"), "not a valid field selector key");
    }
    for (i, value) in values.into_iter().enumerate() {
        checks::subdomain(value, &values_path.index(i), e);
    }
}

fn pod_term(term: &Value, path: &Path<'_>, e: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        checks::label_selector(term.some(field), false, &path.child(field), e);
    }
    for namespace in term.strings("namespaces") {
        checks::namespace_name(namespace, &path.child("namespace"), e);
    }
    label_keys(term, path, e);
    let topology = term.text("topologyKey");
    if topology.is_empty() {
        e.required(&path.child("topologyKey"), "can not be empty");
    }
    checks::label_key(topology, &path.child("topologyKey"), e);
}

/// `matchLabelKeys` and `mismatchLabelKeys` of an affinity term or a spread constraint. New pods have them among the
/// expressions of the selector already: a key that is there once more was stated by the user too.
fn label_keys(term: &Value, path: &Path<'_>, e: &mut Errors) {
    let selector = term.some("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.strings(field);
        let list = path.child(field);
        if !keys.is_empty() && selector.is_none() {
            e.forbidden(&list, "must not be specified when labelSelector is not set");
            continue;
        }
        for (i, key) in keys.into_iter().enumerate() {
            checks::label_key(key, &list.index(i), e);
        }
    }
    let (matching, mismatching) = (term.strings("matchLabelKeys"), term.strings("mismatchLabelKeys"));
    if let Some(selector) = selector {
        let positions: BTreeMap<&str, usize> =
            matching.iter().enumerate().map(|(i, key)| (*key, i)).collect();
        let mut seen: BTreeSet<&str> = selector.entries("matchLabels").map(|(key, _)| key).collect();
        for expression in selector.items("matchExpressions") {
            let key = expression.text("key");
            if let Some(i) = positions.get(key).filter(|_| seen.contains(key)) {
                e.invalid(&path.index(*i), key, "exists in both matchLabelKeys and labelSelector");
            }
            seen.insert(key);
        }
    }
    let list = path.child("matchLabelKeys");
    for (i, key) in matching.into_iter().enumerate().filter(|(_, key)| mismatching.contains(key)) {
        e.invalid(&list.index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

/// `spec.tolerations`.
pub(super) fn tolerations(tolerations: &[Value], path: &Path<'_>, e: &mut Errors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let item = path.index(i);
        let (key, value) = (toleration.text("key"), toleration.text("value"));
        let (operator, effect) = (toleration.text("operator"), toleration.text("effect"));
        let operator_path = item.child("operator");
        if !key.is_empty() {
            checks::label_key(key, &item.child("key"), e);
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            e.invalid(&operator_path, operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            e.invalid(&item.child("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let messages = names::is_label_value(value);
                if !messages.is_empty() {
                    e.invalid(&operator_path, value, messages.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    e.invalid(&operator_path, value, "value must be empty when `operator` is 'Exists'");
                }
            }
            _ => e.not_supported(&operator_path, operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            e.not_supported(&item.child("effect"), effect, &EFFECTS);
        }
    }
}

/// `spec.taints` of a node.
pub(super) fn taints(taints: &[Value], path: &Path<'_>, e: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let item = path.index(i);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        checks::label_key(key, &item.child("key"), e);
        let messages = names::is_label_value(value);
        if !messages.is_empty() {
            e.invalid(&item.child("value"), value, messages.join(";"));
        }
        match effect {
            "" => e.required(&item.child("effect"), ""),
            _ if EFFECTS.contains(&effect) => {}
            _ => e.not_supported(&item.child("effect"), effect, &EFFECTS),
        }
        if !seen.insert((effect, key)) {
            let detail = "taints must be unique by key and effect pair";
            e.duplicate_go(&item, &super::gotypes::TAINT, taint, detail);
        }
    }
}

/// `spec.topologySpreadConstraints`.
pub(super) fn topology_spread(constraints: &[Value], path: &Path<'_>, e: &mut Errors) {
    for (i, constraint) in constraints.iter().enumerate() {
        let item = path.index(i);
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        if constraint.int("maxSkew") <= 0 {
            e.invalid(&item.child("maxSkew"), constraint.int("maxSkew"), checks::NOT_POSITIVE);
        }
        if key.is_empty() {
            e.required(&item.child("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            e.not_supported(&item.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let same = |c: &Value| c.text("topologyKey") == key && c.text("whenUnsatisfiable") == action;
        if constraints[i + 1..].iter().any(same) {
            e.duplicate(&item.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = constraint.opt_int("minDomains") {
            let path = item.child("minDomains");
            if domains <= 0 {
                e.invalid(&path, domains, checks::NOT_POSITIVE);
            }
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                e.invalid(&path, domains, detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.opt_text(field).filter(|p| !matches!(*p, "Honor" | "Ignore")) {
                e.not_supported(&item.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(constraint, &item, e);
        checks::label_selector(constraint.some("labelSelector"), false, &item.child("labelSelector"), e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn texts(check: impl Fn(&Path<'_>, &mut Errors)) -> Vec<String> {
        errors::texts(|e| check(&Path::new("f"), e))
    }

    #[test]
    fn a_toleration_of_everything_needs_exists() {
        let list = [json!({"operator": "Equal"}), json!({"key": "a", "operator": "Exists", "value": "b"})];
        assert_eq!(
            texts(|p, e| tolerations(&list, p, e)),
            [
                "f[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                "f[1].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            ]
        );
    }

    #[test]
    fn taints_are_unique_by_key_and_effect() {
        let list = [
            json!({"key": "x", "effect": "NoSchedule"}),
            json!({"key": "x", "value": "o", "effect": "NoSchedule"}),
        ];
        assert_eq!(
            texts(|p, e| taints(&list, p, e)),
            [
                r#"f[1]: Duplicate value: {"Key":"x","Value":"o","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair"#
            ]
        );
    }

    #[test]
    fn spread_constraints_do_not_repeat() {
        let c = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
        assert_eq!(
            texts(|p, e| topology_spread(&[c.clone(), c.clone()], p, e)),
            [r#"f[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, DoNotSchedule}""#]
        );
    }
}
