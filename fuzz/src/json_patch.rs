//! JSON patches (RFC 6902 as kube-apiserver has it). Input: the document in the first line, the patch in the rest.

use kubewright_machinery::decode;
use kubewright_machinery::patch::json;
use serde_json::{Value, json};

/// A patch is read and applied, or refused with an answer; what came out is what a `test` of the whole then finds.
pub fn check(input: &[u8]) {
    let (document, body) =
        input.split_at(input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len()));
    let Ok(document) = decode::json(document).map(|decoded| decoded.value) else { return };
    let patch = match json::parse(body) {
        Ok((patch, _)) => patch,
        Err(error) => return assert!(error.status().code >= 400),
    };
    let patched = match patch.apply(document.clone()) {
        Ok(patched) => patched,
        Err(error) => return assert!(error.status().code >= 400),
    };
    if patch.is_empty() {
        assert_eq!(patched, document);
    }
    // Every object can be tested field by field; what it holds came out of the patch.
    let tests: Value = patched
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let path = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
            json!({"op": "test", "path": path, "value": value})
        })
        .collect();
    let Ok((tests, _)) = json::parse(tests.to_string().as_bytes()) else {
        // Deeper than a body may be, or more fields than a patch may have operations.
        return;
    };
    assert_eq!(tests.apply(patched.clone()), Ok(patched));
}
