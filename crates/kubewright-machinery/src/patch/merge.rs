//! JSON merge patch (RFC 7386): objects are merged, null deletes, everything else replaces.

use serde_json::Value;

use crate::decode::{self, Decoded};
use crate::status::Status;

/// A body is no merge patch. The text is the server's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or no object.
    #[error("error decoding patch: {0}")]
    Decode(#[from] decode::Error),
    /// The patch is null.
    #[error("Invalid JSON Patch")]
    Null,
}

impl Error {
    /// The answer: 400 `BadRequest`.
    pub fn status(&self) -> Status {
        Status::bad_request(self.to_string())
    }
}

/// Reads a merge patch, which for an API server has to be an object; also gives its duplicate fields.
///
/// # Errors
/// When the body is not JSON or no object.
pub fn parse(body: &[u8]) -> Result<Decoded, Error> {
    let decoded = decode::json(body)?;
    match &decoded.value {
        Value::Object(_) => Ok(decoded),
        Value::Null => Err(Error::Null),
        other => Err(Error::Decode(decode::Error::Type {
            found: decode::json_type(other).into(),
            place: "value".into(),
            expected: "map[string]interface {}".into(),
        })),
    }
}

/// Merges a patch into a document.
pub fn apply(target: &mut Value, patch: Value) {
    let (target, patch) = match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => (target, patch),
        (target, mut fresh) => {
            drop_nulls(&mut fresh);
            *target = fresh;
            return;
        }
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            apply(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// What is new holds no nulls: they would delete what is not there. Objects within lists are cleaned as well, as
/// the API server does; nulls that are list items stay.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The merge patch that makes `from` into `to`. Where `to` holds nulls in objects no patch can; they are left out.
pub fn diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = serde_json::Map::new();
    for (key, value) in to {
        match from.get(key) {
            Some(before) if before == value => {}
            Some(before) => {
                patch.insert(key.clone(), diff(before, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in from.keys().filter(|k| !to.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// JSON values; with `nulls`, also null.
    pub fn any_json(nulls: bool) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(move |b| if nulls { Value::Null } else { b.into() }),
            (0i64..4).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    /// JSON values without null.
    pub fn any_json_without_nulls() -> impl Strategy<Value = Value> {
        any_json(false)
    }

    fn applied(mut target: Value, patch: Value) -> Value {
        apply(&mut target, patch);
        target
    }

    #[test]
    fn the_examples_of_the_rfc_hold_and_objects_in_new_lists_lose_their_nulls() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({}), json!({"a": [null, {"b": null}]}), json!({"a": [null, {}]})),
        ] {
            assert_eq!(applied(target, patch), result);
        }
    }

    #[test]
    fn only_objects_are_patches() {
        let error = |b: &str| parse(b.as_bytes()).unwrap_err().status();
        let words = error("[]").message;
        assert_eq!(
            words,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        );
        assert_eq!(error("{\"spec\":").message, "error decoding patch: unexpected end of JSON input");
        assert_eq!(
            error("s: 1").message,
            "error decoding patch: invalid character 's' looking for beginning of value"
        );
        assert_eq!((error("null").message.as_str(), error("null").code), ("Invalid JSON Patch", 400));
        assert_eq!(parse(br#"{"a":1,"a":2}"#).unwrap().strict, [r#"duplicate field "a""#]);
    }

    proptest! {
        #[test]
        fn applying_twice_is_applying_once(target in any_json(true), patch in any_json(true)) {
            let once = applied(target, patch.clone());
            prop_assert_eq!(applied(once.clone(), patch), once);
        }

        #[test]
        fn the_difference_leads_from_one_to_the_other(from in any_json(false), to in any_json(false)) {
            let patch = diff(&from, &to);
            prop_assert_eq!(applied(from, patch), to);
        }
    }
}
