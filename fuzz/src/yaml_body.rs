//! Bodies in YAML. Input: the body.

use kubewright_apiserver::request::yaml;
use kubewright_machinery::decode;

/// A document is read or refused; what is written of it reads as the same value, and so does its JSON.
pub fn check(input: &[u8]) {
    let Ok(decoded) = decode::yaml(input) else { return };
    if merges(&decoded.value) {
        return;
    }
    let written = yaml::write(&decoded.value);
    let again = decode::yaml(written.as_bytes())
        .unwrap_or_else(|error| panic!("{error}: {written:?} of {}", decoded.value));
    assert_eq!(again.value, decoded.value, "{written:?}");
    assert!(again.strict.is_empty(), "{:?} in {written:?}", again.strict);
    let json = decoded.value.to_string();
    assert_eq!(decode::json(json.as_bytes()).map(|again| again.value), Ok(decoded.value));
}

/// Whether a key is written, as Kubernetes writes it, in a way that reads as a merge.
fn merges(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(fields) => fields.iter().any(|(key, value)| key == "<<" || merges(value)),
        serde_json::Value::Array(items) => items.iter().any(merges),
        _ => false,
    }
}
