//! Merge patches (RFC 7386). Input: a line with a document, a line with a patch or another document.

use kubewright_machinery::patch::merge;
use serde_json::Value;

/// Twice is once, and the difference of two documents makes the one into the other where a patch can say so.
pub fn check(input: &[u8]) {
    let mut lines = input.splitn(2, |&byte| byte == b'\n');
    let (Some(document), Some(body)) = (lines.next(), lines.next()) else { return };
    let Ok(document) = serde_json::from_slice::<Value>(document) else { return };
    let patch = match merge::parse(body) {
        Ok(decoded) => decoded.value,
        Err(error) => return assert!(error.status().code >= 400),
    };

    let mut once = document.clone();
    merge::apply(&mut once, patch.clone());
    let mut twice = once.clone();
    merge::apply(&mut twice, patch.clone());
    assert_eq!(twice, once);

    let to = without_nulls(patch);
    let mut made = document.clone();
    merge::apply(&mut made, merge::diff(&document, &to));
    if document.is_object() {
        assert_eq!(made, to);
    }
    let mut same = document.clone();
    merge::apply(&mut same, merge::diff(&document, &document));
    if document.is_object() {
        assert_eq!(same, document);
    }
}

/// No patch makes a null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
