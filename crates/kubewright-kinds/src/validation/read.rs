//! Reading fields of decoded objects as Go reads its structs: an absent field is the zero value of its type.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// Typed reads; the types are right already, so anything else reads as the zero value.
pub(super) trait Fields {
    /// The field unless absent or null: a pointer that is set.
    fn some(&self, name: &str) -> Option<&Value>;
    /// The field, or null.
    fn sub(&self, name: &str) -> &Value;
    fn has(&self, name: &str) -> bool;
    fn opt_text(&self, name: &str) -> Option<&str>;
    fn text(&self, name: &str) -> &str;
    fn opt_int(&self, name: &str) -> Option<i64>;
    fn int(&self, name: &str) -> i64;
    fn opt_flag(&self, name: &str) -> Option<bool>;
    fn flag(&self, name: &str) -> bool;
    fn items(&self, name: &str) -> &[Value];
    fn strings(&self, name: &str) -> Vec<&str>;
    fn map(&self, name: &str) -> Option<&Map<String, Value>>;
    /// The entries of a map, sorted by key.
    fn entries(&self, name: &str) -> impl Iterator<Item = (&str, &Value)>;
    /// The entry of a map of strings.
    fn entry(&self, name: &str, key: &str) -> Option<&str>;
}

impl Fields for Value {
    fn some(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|v| !v.is_null())
    }

    fn sub(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&NULL)
    }

    fn has(&self, name: &str) -> bool {
        self.some(name).is_some()
    }

    fn opt_text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    fn text(&self, name: &str) -> &str {
        self.opt_text(name).unwrap_or_default()
    }

    fn opt_int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_i64)
    }

    fn int(&self, name: &str) -> i64 {
        self.opt_int(name).unwrap_or_default()
    }

    fn opt_flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(Value::as_bool)
    }

    fn flag(&self, name: &str) -> bool {
        self.opt_flag(name).unwrap_or_default()
    }

    fn items(&self, name: &str) -> &[Value] {
        self.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn strings(&self, name: &str) -> Vec<&str> {
        self.items(name).iter().filter_map(Value::as_str).collect()
    }

    fn map(&self, name: &str) -> Option<&Map<String, Value>> {
        self.get(name).and_then(Value::as_object)
    }

    fn entries(&self, name: &str) -> impl Iterator<Item = (&str, &Value)> {
        self.map(name).into_iter().flatten().map(|(k, v)| (k.as_str(), v))
    }

    fn entry(&self, name: &str, key: &str) -> Option<&str> {
        self.get(name)?.get(key)?.as_str()
    }
}

/// Equality as Go's semantic equality has it: absent, null and empty lists and maps are the same. Quantities
/// are canonical in decoded objects, so their texts compare.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let missing = |m: &Map<String, Value>, k: &str, v: &Value| !m.contains_key(k) && !is_empty(v);
            !a.iter().any(|(k, v)| missing(b, k, v))
                && !b.iter().any(|(k, v)| missing(a, k, v))
                && a.iter().all(|(k, v)| b.get(k).is_none_or(|w| same(v, w)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_null_and_empty_lists_are_the_same() {
        assert!(same(&json!({"a": []}), &json!({"a": null})));
        assert!(same(&json!({"a": []}), &json!({})));
        assert!(!same(&json!({"a": [1]}), &json!({})));
        assert!(!same(&json!({"a": {}}), &json!({})), "a pointer that is set differs from none");
    }
}
