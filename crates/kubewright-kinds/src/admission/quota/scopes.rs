//! Scopes of quotas: which pods and claims a quota is about. Pure.

use serde_json::Value;

use crate::fields::{at, int, items, text};
use crate::strategies::pods::qos_class;

/// One scope of a quota, from `spec.scopes` or `spec.scopeSelector`.
pub(super) struct Scope<'v> {
    name: &'v str,
    operator: &'v str,
    values: &'v [Value],
}

/// The scopes of a quota. An object has to be in all of them.
pub(super) fn of(quota: &Value) -> Vec<Scope<'_>> {
    let plain = items(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str);
    let plain = plain.map(|name| Scope { name, operator: "Exists", values: &[] });
    let selected = items(quota, &["spec", "scopeSelector", "matchExpressions"]).iter();
    let selected = selected.map(|e| Scope {
        name: text(e, &["scopeName"]),
        operator: text(e, &["operator"]),
        values: items(e, &["values"]),
    });
    plain.chain(selected).collect()
}

impl Scope<'_> {
    /// Whether a value (empty: none) is selected.
    fn selects(&self, value: &str) -> bool {
        let listed = self.values.iter().any(|v| v == value);
        match self.operator {
            "Exists" => !value.is_empty(),
            "DoesNotExist" => value.is_empty(),
            "In" => !value.is_empty() && listed,
            "NotIn" => value.is_empty() || !listed,
            _ => false,
        }
    }
}

/// Whether a pod is in a scope.
pub(super) fn has_pod(scope: &Scope<'_>, pod: &Value) -> bool {
    let terminating = || int(pod, &["spec", "activeDeadlineSeconds"]).is_some_and(|s| s >= 0);
    let best_effort = || match text(pod, &["status", "qosClass"]) {
        "" => qos_class(at(pod, &["spec"])) == "BestEffort",
        class => class == "BestEffort",
    };
    match scope.name {
        "Terminating" => terminating(),
        "NotTerminating" => !terminating(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => scope.selects(text(pod, &["spec", "priorityClassName"])),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether an affinity looks at pods of other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        !items(term, &["namespaces"]).is_empty()
            || term.get("namespaceSelector").is_some_and(Value::is_object)
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let affinity = at(pod, &["spec", "affinity", kind]);
        items(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]).iter().any(crosses)
            || items(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"])
                .iter()
                .any(|weighted| crosses(at(weighted, &["podAffinityTerm"])))
    })
}

/// Whether a claim is in a scope: it uses, did use or is to use a class of volume attributes.
pub(super) fn has_claim(scope: &Scope<'_>, claim: &Value) -> bool {
    if scope.name != "VolumeAttributesClass" {
        return false;
    }
    let names = [
        text(claim, &["spec", "volumeAttributesClassName"]),
        text(claim, &["status", "currentVolumeAttributesClassName"]),
        text(claim, &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"]),
    ];
    let mut named = names.into_iter().filter(|n| !n.is_empty()).peekable();
    match named.peek() {
        None => scope.selects(""),
        Some(_) => named.any(|name| scope.selects(name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_judged_by_its_deadline_class_and_affinity() {
        let pod = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high", "containers": [],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"namespaces": ["other"]}}]}}}});
        let is_in = |scope: Value| {
            let quota = json!({"spec": {"scopeSelector": {"matchExpressions": [scope]}}});
            of(&quota).iter().all(|s| has_pod(s, &pod))
        };
        assert!(is_in(json!({"scopeName": "Terminating", "operator": "Exists"})));
        assert!(is_in(json!({"scopeName": "BestEffort", "operator": "Exists"})));
        assert!(is_in(json!({"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"})));
        assert!(is_in(json!({"scopeName": "PriorityClass", "operator": "In", "values": ["low", "high"]})));
        assert!(!is_in(json!({"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]})));
        assert!(!is_in(json!({"scopeName": "VolumeAttributesClass", "operator": "Exists"})));
        let both = json!({"spec": {"scopes": ["BestEffort", "NotTerminating"]}});
        assert_eq!(of(&both).iter().filter(|s| has_pod(s, &pod)).count(), 1);
    }
}
