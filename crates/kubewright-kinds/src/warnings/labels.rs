//! Labels of nodes that have a newer name, and terms that select by them.

use kubewright_machinery::names;
use serde_json::Value;

use crate::fields::{items, text};

const OLD_NODE_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// What to use instead of a label, if it is an old one.
pub(super) fn old_label(key: &str) -> Option<&'static str> {
    OLD_NODE_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

/// Old labels in a term of a node selector, and where `values` are to be looked at, those that no label has.
pub(super) fn node_selector_term(term: &Value, values: bool, path: &str, out: &mut Vec<String>) {
    for (i, expression) in items(term, &["matchExpressions"]).iter().enumerate() {
        let key = text(expression, &["key"]);
        if let Some(why) = old_label(key) {
            out.push(format!("{path}.matchExpressions[{i}].key: {key} is {why}"));
        }
        for (j, value) in items(expression, &["values"]).iter().enumerate().filter(|_| values) {
            let value = value.as_str().unwrap_or_default();
            for fault in names::is_label_value(value) {
                out.push(format!("{path}.matchExpressions[{i}].values[{j}]: {value} is invalid, {fault}"));
            }
        }
    }
}
