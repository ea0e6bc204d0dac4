//! Short ways into JSON objects for rules that read and set single fields.
//!
//! Absent, null and a wrong type all read as "not there": what is wrong with a type was said when the object was
//! decoded.

use serde_json::{Map, Value};

/// The value at a path of field names; null when there is none.
pub(crate) fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    static NULL: Value = Value::Null;
    let mut value = value;
    for name in path {
        match value.get(name) {
            Some(next) => value = next,
            None => return &NULL,
        }
    }
    value
}

/// A string, or empty.
pub(crate) fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    at(value, path).as_str().unwrap_or_default()
}

/// An integer, if there is one.
pub(crate) fn int(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).as_i64()
}

/// A boolean; false when there is none.
pub(crate) fn flag(value: &Value, path: &[&str]) -> bool {
    at(value, path).as_bool().unwrap_or_default()
}

/// The items of a list, or none.
pub(crate) fn items<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The entries of an object, or none.
pub(crate) fn entries<'v>(
    value: &'v Value,
    path: &[&str],
) -> impl Iterator<Item = (&'v str, &'v Value)> + use<'v> {
    at(value, path).as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

/// The object at a path, to be changed; none where it is not an object.
pub(crate) fn object_mut<'v>(value: &'v mut Value, path: &[&str]) -> Option<&'v mut Map<String, Value>> {
    let mut value = value;
    for name in path {
        value = value.get_mut(*name)?;
    }
    value.as_object_mut()
}

/// The objects of a list, to be changed.
pub(crate) fn items_mut<'v>(
    owner: &'v mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'v mut Map<String, Value>> {
    owner.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// A member object, to be changed; none where it is absent.
pub(crate) fn member<'v>(
    owner: &'v mut Map<String, Value>,
    name: &str,
) -> Option<&'v mut Map<String, Value>> {
    owner.get_mut(name)?.as_object_mut()
}

/// A member object, made if absent. None where something else is in its place.
pub(crate) fn member_made<'v>(
    owner: &'v mut Map<String, Value>,
    name: &str,
) -> Option<&'v mut Map<String, Value>> {
    let slot = owner.entry(name).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

/// Sets a field that is absent or null.
pub(crate) fn absent(owner: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    match owner.get(name) {
        None | Some(Value::Null) => {
            owner.insert(name.into(), value.into());
        }
        Some(_) => {}
    }
}

/// Sets a field that is absent, null or the empty string.
pub(crate) fn empty(owner: &mut Map<String, Value>, name: &str, value: &str) {
    match owner.get(name) {
        Some(Value::Null) | None => {
            owner.insert(name.into(), value.into());
        }
        Some(Value::String(s)) if s.is_empty() => {
            owner.insert(name.into(), value.into());
        }
        Some(_) => {}
    }
}

/// Sets a number that is absent, null or 0.
pub(crate) fn zero(owner: &mut Map<String, Value>, name: &str, value: i64) {
    match owner.get(name) {
        Some(Value::Number(n)) if n.as_i64() != Some(0) => {}
        Some(Value::Number(_) | Value::Null) | None => {
            owner.insert(name.into(), value.into());
        }
        Some(_) => {}
    }
}

/// Puts the value of a field of `from` into `to`, or removes it there when `from` has none.
pub(crate) fn carry(to: &mut Value, from: &Value, name: &str) {
    let Some(to) = to.as_object_mut() else { return };
    match from.get(name) {
        Some(value) => {
            to.insert(name.into(), value.clone());
        }
        None => {
            to.remove(name);
        }
    }
}

/// Whether two values are equal where absent, null and empty are the same.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let hollow = |v: &Value| match v {
        Value::Null => true,
        Value::Object(m) => m.is_empty(),
        Value::Array(l) => l.is_empty(),
        _ => false,
    };
    (hollow(a) && hollow(b)) || a == b
}
