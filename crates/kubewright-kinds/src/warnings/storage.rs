//! Warnings about volumes, claims and classes of storage.

use serde_json::Value;

use super::labels::{node_selector_term, old_label};
use super::{amount, old_volumes};
use crate::fields::{at, entries, items, text};

fn old_annotation(object: &Value, key: &str, why: &str, out: &mut Vec<String>) {
    if !at(object, &["metadata", "annotations", key]).is_null() {
        out.push(format!("metadata.annotations[{key}]: {why}"));
    }
}

fn old_class(object: &Value, out: &mut Vec<String>) {
    let why = "deprecated since v1.8; use \"storageClassName\" attribute instead";
    old_annotation(object, "volume.beta.kubernetes.io/storage-class", why, out);
}

pub(crate) fn persistent_volume(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    old_class(object, &mut out);
    old_annotation(
        object,
        "volume.beta.kubernetes.io/mount-options",
        "deprecated since v1.31; use \"mountOptions\" attribute instead",
        &mut out,
    );
    let spec = at(object, &["spec"]);
    if text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
        out.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the \
             recommended approach is to use dynamic provisioning."
                .into(),
        );
    }
    let terms = items(spec, &["nodeAffinity", "required", "nodeSelectorTerms"]);
    for (i, term) in terms.iter().enumerate() {
        let path = format!("spec.nodeAffinity.required.nodeSelectorTerms[{i}]");
        node_selector_term(term, false, &path, &mut out);
    }
    old_volumes(spec, "spec", &mut out);
    out
}

pub(crate) fn claim(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    old_class(object, &mut out);
    claim_spec(at(object, &["spec"]), "spec", &mut out);
    out
}

/// The spec of a claim, wherever it is.
pub(super) fn claim_spec(spec: &Value, path: &str, out: &mut Vec<String>) {
    for field in ["requests", "limits"] {
        amount(at(spec, &["resources", field]), "storage", &format!("{path}.resources.{field}"), out);
    }
}

pub(crate) fn storage_class(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    for (i, topology) in items(object, &["allowedTopologies"]).iter().enumerate() {
        for (j, expression) in items(topology, &["matchLabelExpressions"]).iter().enumerate() {
            if let Some(why) = old_label(text(expression, &["key"])) {
                out.push(format!("allowedTopologies[{i}].matchLabelExpressions[{j}].key: {why}"));
            }
        }
    }
    out
}

pub(crate) fn storage_capacity(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    node_selector_term(at(object, &["nodeTopology"]), false, "nodeTopology", &mut out);
    for (key, _) in entries(object, &["nodeTopology", "matchLabels"]) {
        if let Some(why) = old_label(key) {
            out.push(format!("nodeTopology.matchLabels.{key}: {why}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_ask_for_whole_bytes() {
        let object =
            json!({"spec": {"resources": {"requests": {"storage": "200m"}, "limits": {"storage": "100m"}}}});
        assert_eq!(
            claim(&object, None),
            [
                r#"spec.resources.requests[storage]: fractional byte value "200m" is invalid, must be an integer"#,
                r#"spec.resources.limits[storage]: fractional byte value "100m" is invalid, must be an integer"#,
            ]
        );
    }

    #[test]
    fn old_names_in_volumes_are_warned_about() {
        let term = json!({"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "In", "values": ["x"]}]});
        let object = json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/mount-options": "ro"}},
            "spec": {"cephfs": {}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}});
        assert_eq!(
            persistent_volume(&object, None),
            [
                r#"metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead"#,
                r#"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead"#,
                "spec.cephfs: deprecated in v1.28, non-functional in v1.31+",
            ]
        );
    }
}
