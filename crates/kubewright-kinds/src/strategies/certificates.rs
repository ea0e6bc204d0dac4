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
    prepare_status: |cx, csr, old| stamp(cx, csr, old),
    reset: &[&["spec"], &["status"]],
    status_metadata: StatusMetadata::Keep,
    ..Row::PLAIN
};

/// /approval: only the conditions.
pub(crate) const CSR_APPROVAL: Row = Row {
    prepare_status: |cx, csr, old| {
        let conditions = at(csr, &["status", "conditions"]).clone();
        keep_all_but_metadata(csr, old);
        if let Some(csr) = csr.as_object_mut()
            && let Some(status) = csr.entry("status").or_insert_with(|| json!({})).as_object_mut()
        {
            match conditions {
                Value::Array(list) if !list.is_empty() => {
                    status.insert("conditions".into(), Value::Array(list))
                }
                _ => status.remove("conditions"),
            };
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
