//! Strategic merge patches of built-in kinds. Input: a line with a kind, a line with an object, a line with a patch.

use kubewright_kinds::catalogue::Catalogue;
use kubewright_machinery::patch::strategic;
use serde_json::{Value, json};

const KINDS: [(&str, &str, &str); 5] = [
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("", "v1", "ConfigMap"),
];

/// A patch is applied or refused with an answer; the empty one changes nothing, and one without directives is done
/// once it was done.
pub fn check(input: &[u8]) {
    let mut lines = input.splitn(3, |&byte| byte == b'\n');
    let (Some(kind), Some(object), Some(body)) = (lines.next(), lines.next(), lines.next()) else { return };
    let Some((group, version, kind)) = KINDS.into_iter().find(|(_, _, name)| name.as_bytes() == kind) else {
        return;
    };
    let schema = Catalogue::builtin().kind(group, version, kind).expect("a built-in kind has a schema");
    let Ok(object) = serde_json::from_slice::<Value>(object) else { return };
    let patch = match strategic::parse(body) {
        Ok(decoded) => decoded.value,
        Err(error) => return assert!(error.status().code >= 400),
    };
    if object.is_object() {
        assert_eq!(strategic::apply(object.clone(), json!({}), schema), Ok(object.clone()));
    }
    let once = match strategic::apply(object, patch.clone(), schema) {
        Ok(once) => once,
        Err(error) => return assert!(error.status().code >= 400),
    };
    if !has_directives(&patch) && !has_twins(&once) && !has_twins(&patch) {
        // What is patched into nothing is taken as it is, and may be what can't be merged: items without their key.
        if let Ok(twice) = strategic::apply(once.clone(), patch, schema) {
            // So are nulls in new items of a list, which then delete.
            assert_eq!(without_nulls(twice), without_nulls(once));
        }
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn has_directives(patch: &Value) -> bool {
    match patch {
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key.starts_with('$') || has_directives(value))
        }
        Value::Array(items) => items.iter().any(has_directives),
        _ => false,
    }
}

/// Whether a list has items that cannot be told apart, so that which of them a patch means is anybody's guess.
fn has_twins(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().any(has_twins),
        Value::Array(items) => {
            let same = |a: &Value, b: &Value| {
                a == b
                    || a.as_object()
                        .is_some_and(|fields| fields.iter().any(|(key, value)| b.get(key) == Some(value)))
            };
            items.iter().enumerate().any(|(i, a)| has_twins(a) || items[..i].iter().any(|b| same(a, b)))
        }
        _ => false,
    }
}
