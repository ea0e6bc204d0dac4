//! The metadata that belongs to the server: what requests may not set, what every object gets, when generation moves.

use jiff::Timestamp;
use kubewright_machinery::status::Status;
use kubewright_machinery::{meta, time};
use serde_json::Value;

use super::Call;
use crate::resources::Generation;

/// Drops what only the server sets, of an object to be created.
pub(super) fn wipe(object: &mut Value) {
    let metadata = meta::metadata_mut(object);
    for field in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
}

/// Sets what every object is born with.
pub(super) fn fill(call: &Call, object: &mut Value, now: Timestamp) {
    meta::set(object, "creationTimestamp", time::format(now));
    meta::set(object, "uid", call.core.uid());
}

/// Makes the namespace of the object that of the request, or refuses another one.
pub(super) fn ensure_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let own = meta::namespace(object);
    if own == namespace {
        return Ok(());
    }
    if namespace.is_empty() {
        meta::remove(object, "namespace");
        return Ok(());
    }
    if own.is_empty() {
        meta::set(object, "namespace", namespace);
        return Ok(());
    }
    Err(Status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

/// Refuses an object whose name is not that in the URL.
pub(super) fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    match meta::name(object) {
        own if own == name => Ok(()),
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        own => Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        ))),
    }
}

/// Drops owner references that are there twice, and warns of them.
pub(super) fn dedup_owners(call: &Call, object: &mut Value, after_admission: bool) {
    if meta::owner_references(object).len() < 2 {
        return;
    }
    let Some(Value::Array(references)) = meta::metadata_mut(object).get_mut("ownerReferences") else {
        return;
    };
    let mut kept: Vec<Value> = Vec::with_capacity(references.len());
    let mut twice = Vec::new();
    for reference in references.drain(..) {
        if kept.contains(&reference) {
            twice.push(reference["uid"].as_str().unwrap_or_default().to_string());
        } else {
            kept.push(reference);
        }
    }
    *references = kept;
    if twice.is_empty() {
        return;
    }
    let when = if after_admission { "after mutating admission happens " } else { "" };
    call.warn(format!(
        ".metadata.ownerReferences contains duplicate entries {when}and API server dedups owner references in 1.20+, \
         and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        twice.join(", ")
    ));
}

/// The generation of a new object.
pub(super) fn first_generation(rule: &Generation, object: &mut Value) {
    match rule {
        Generation::None => {
            meta::remove(object, "generation");
        }
        Generation::Fields(_) | Generation::AllExcept(_) => meta::set(object, "generation", 1),
    }
}

/// The generation after a change: one more where the rule says that something changed.
pub(super) fn next_generation(rule: &Generation, object: &mut Value, old: &Value) {
    let changed = match rule {
        Generation::None => false,
        Generation::Fields(fields) => fields.iter().any(|path| {
            let of = |value: &'_ Value| match path.split_once('.') {
                Some((outer, inner)) => value.get(outer).and_then(|v| v.get(inner)).cloned(),
                None => value.get(&**path).cloned(),
            };
            of(object) != of(old)
        }),
        Generation::AllExcept(fields) => {
            let skip = |key: &str| {
                matches!(key, "metadata" | "kind" | "apiVersion") || fields.iter().any(|f| **f == *key)
            };
            match (object.as_object(), old.as_object()) {
                (Some(new), Some(old)) => {
                    let new = new.iter().filter(|(key, _)| !skip(key));
                    let old = old.iter().filter(|(key, _)| !skip(key));
                    !new.eq(old)
                }
                _ => true,
            }
        }
    };
    if changed {
        meta::set(object, "generation", meta::generation(old) + 1);
    }
}

/// Puts back what an update cannot change: identity, birth and death.
pub(super) fn keep(object: &mut Value, old: &Value) {
    let kept = |field: &str| meta::get(old, field).cloned();
    if meta::uid(object).is_empty()
        && let Some(uid) = kept("uid")
    {
        meta::set(object, "uid", uid);
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if let Some(value) = kept(field) {
            meta::set(object, field, value);
        }
    }
    if let Some(value) = kept("deletionGracePeriodSeconds")
        && meta::get(object, "deletionGracePeriodSeconds").is_none()
    {
        meta::set(object, "deletionGracePeriodSeconds", value);
    }
    meta::remove(object, "selfLink");
}

/// Whether an update of an object that is being deleted is the last one: nothing holds it any more.
pub(super) fn is_released(object: &Value, old: &Value) -> bool {
    meta::finalizers(object).next().is_none()
        && meta::is_deleting(old)
        && meta::deletion_grace_period_seconds(old).unwrap_or(0) == 0
}
