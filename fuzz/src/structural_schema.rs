//! Schemas of custom resources. Input: a line with a schema as a definition has it, a line with a value, a line with
//! the value before.

use kubewright_machinery::field::Path;
use kubewright_machinery::schema::{default, list_map, openapi, prune, structural, validate};
use serde_json::Value;

/// Any schema is judged, and any value by any schema; defaulting and pruning twice is once; what did not change is
/// valid; what is published says what was stated.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n').map(serde_json::from_slice::<Value>);
    let Some(Ok(json)) = lines.next() else { return };
    let faults = structural::check(&Path::new("schema"), &json);
    let _ = structural::unsupported(&json);
    let schema = structural::parse(&json);
    let published = openapi::schema(&schema, openapi::Version::V3);
    let _ = openapi::schema(&schema, openapi::Version::V2);
    if faults.is_empty() {
        assert_eq!(openapi::schema(&structural::parse(&published), openapi::Version::V3), published);
    }

    let value = lines.next().and_then(Result::ok).unwrap_or_default();
    let old = lines.next().and_then(Result::ok).unwrap_or_default();
    let _ = validate::validate(&schema, &value, None);
    let _ = list_map::validate(&schema, &value, &Path::ROOT);
    let _ = validate::validate_update(&schema, &value, &old, Some(&Path::new("x")));
    assert!(validate::validate_update(&schema, &value, &value, None).is_empty());

    let mut once = value.clone();
    default::apply(&mut once, &schema);
    let mut twice = once.clone();
    default::apply(&mut twice, &schema);
    assert_eq!(twice, once);

    let mut once = value;
    prune::prune(&mut once, &schema, true);
    let mut twice = once.clone();
    assert!(prune::prune(&mut twice, &schema, true).is_empty());
    assert_eq!(twice, once);
}
