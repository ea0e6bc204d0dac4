//! What CertificateSigningRequests do with writes: who asks is the server's to say, and each endpoint changes its part.

use kubewright_apiserver::resources::WriteContext;
use serde_json::{Value, json};

use super::{Row, StatusMetadata, keep_all_but_metadata};
use crate::fields::{at, carry, object_mut};

pub(crate) const CSR: Row = Row {
    prepare_create: |cx, csr| {
        if let Some(spec) = object_mut(csr, &["spec"]) {
            for name in ["username", "uid", "groups", "extra"] {
                spec.remove(name);
            }
            spec.insert("username".into(), cx.user.name.as_str().into());
            if !cx.user.uid.is_empty() {
                spec.insert("uid".into(), cx.user.uid.as_str().into());
            }
            if !cx.user.groups.is_empty() {
                spec.insert("groups".into(), json!(cx.user.groups));
            }
            if !cx.user.extra.is_empty() {
                spec.insert("extra".into(), json!(cx.user.extra));
            }
        }
    },
    prepare_update: |_, csr, old| carry(csr, old, "spec"),
    fields: &["spec.signerName"],
    prepare_status: |cx, csr, old| {
        // Approvals and denials are those of the old object; the signer adds the rest.
        let decided = |c: &&Value| matches!(c["type"].as_str(), Some("Approved" | "Denied"));
        let kept: Vec<Value> = at(old, &["status", "conditions"])
            .as_array()
            .into_iter()
            .flatten()
            .filter(decided)
            .cloned()
            .collect();
        if let Some(status) = object_mut(csr, &["status"]) {
            let sent = status.remove("conditions");
            let others = sent
                .as_ref()
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter(|c| !decided(c))
                .cloned();
            let all: Vec<Value> = kept.into_iter().chain(others).collect();
            if !all.is_empty() {
                status.insert("conditions".into(), Value::Array(all));
            }
        }
        stamp(cx, csr, old);
    },
    status_metadata: StatusMetadata::Keep,
    ..Row::PLAIN
};

/// /approval: only the conditions.
pub(crate) const CSR_APPROVAL: Row = Row {
    prepare_status: |cx, csr, old| {
        let conditions = at(csr, &["status", "conditions"]).clone();
        let metadata = csr.get("metadata").cloned();
        keep_all_but_metadata(csr, old);
        if let (Some(csr), Some(old)) = (csr.as_object_mut(), old.as_object()) {
            // Metadata is not the approver's, except what records the write.
            let mut kept = old.get("metadata").cloned().unwrap_or_default();
            if let (Some(kept), Some(Value::Object(new))) = (kept.as_object_mut(), metadata) {
                for name in ["managedFields", "resourceVersion"] {
                    match new.get(name) {
                        Some(value) => kept.insert(name.into(), value.clone()),
                        None => kept.remove(name),
                    };
                }
            }
            csr.insert("metadata".into(), kept);
            let status = csr.entry("status").or_insert_with(|| json!({}));
            if let Some(status) = status.as_object_mut() {
                match conditions {
                    Value::Array(list) if !list.is_empty() => {
                        status.insert("conditions".into(), Value::Array(list));
                    }
                    _ => {
                        status.remove("conditions");
                    }
                }
            }
        }
        stamp(cx, csr, old);
    },
    ..CSR
};

/// Times of conditions: an update is now; a transition is now where the status changed.
fn stamp(cx: &WriteContext<'_>, csr: &mut Value, old: &Value) {
    let now = super::core::now(cx);
    let before = at(old, &["status", "conditions"]).as_array().cloned().unwrap_or_default();
    let Some(status) = object_mut(csr, &["status"]) else { return };
    for condition in crate::fields::items_mut(status, "conditions") {
        let missing = |c: &serde_json::Map<String, Value>, n: &str| c.get(n).is_none_or(Value::is_null);
        let was = before.iter().find(|c| Some(&c["type"]) == condition.get("type"));
        if missing(condition, "lastUpdateTime") {
            condition.insert("lastUpdateTime".into(), now.as_str().into());
        }
        if missing(condition, "lastTransitionTime") {
            let kept = was.filter(|w| Some(&w["status"]) == condition.get("status"));
            let time = kept.map(|w| w["lastTransitionTime"].clone()).filter(|t| !t.is_null());
            condition.insert("lastTransitionTime".into(), time.unwrap_or_else(|| now.as_str().into()));
        }
    }
}
