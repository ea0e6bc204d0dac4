//! The canonical form of an object of a built-in kind: what comes back when Kubernetes decodes and encodes it.
//!
//! One walk along the schema drops nulls and zero values that are not written, writes those that are, fills the
//! schema's defaults and brings quantities, times and binary data to their one spelling. Fields that the schema does
//! not know are left alone: whether they may be there was decided when the object was decoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::schema::{Schema, Type, Zero};
use kubewright_machinery::time;
use serde_json::{Map, Value};

/// Depth at which the walk stops; decoding refuses objects nested deeper.
const MAX_DEPTH: usize = 200;

/// Brings an object to its canonical form. Cost: one look-up for each field that its types have.
pub fn canonicalize(object: &mut Value, schema: &Schema) {
    walk(object, schema, 0);
}

/// Turns empty lists and maps that are always written into null: the store of Kubernetes knows no difference, and gives
/// back null. Managers of fields see what was sent, everybody after them what is stored.
pub(crate) fn forget_empty(value: &mut Value, schema: &Schema) {
    forget(value, schema, 0);
}

fn forget(value: &mut Value, schema: &Schema, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let Some(field) = schema.field(name) else { continue };
                let empty = match &*value {
                    Value::Array(items) => items.is_empty(),
                    Value::Object(map) => map.is_empty() && field.properties.is_empty(),
                    _ => false,
                };
                if empty && field.zero == Zero::Write {
                    *value = Value::Null;
                } else {
                    forget(value, field, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = &schema.items {
                items.iter_mut().for_each(|value| forget(value, item, depth + 1));
            }
        }
        _ => {}
    }
}

/// Fills a field that is absent with its default, in canonical form.
pub(crate) fn insert_default(owner: &mut Map<String, Value>, name: &str, field: &Schema) {
    if let Some(default) = &field.default {
        let mut value = (**default).clone();
        walk(&mut value, field, 1);
        owner.insert(name.into(), value);
    }
}

fn walk(value: &mut Value, schema: &Schema, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) if !schema.properties.is_empty() => fields(map, schema, depth),
        Value::Object(map) => {
            if let Some(additional) = &schema.additional {
                for value in map.values_mut() {
                    if value.is_null() {
                        *value = zero_of(additional);
                    } else {
                        walk(value, additional, depth + 1);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = &schema.items {
                for value in items {
                    if value.is_null() {
                        *value = zero_of(item);
                    }
                    walk(value, item, depth + 1);
                }
            }
        }
        Value::String(_) | Value::Number(_) if schema.format.is_some() => spell(value, schema),
        _ => {}
    }
}

fn fields(map: &mut Map<String, Value>, schema: &Schema, depth: usize) {
    for (name, field) in &schema.properties {
        match map.get_mut(&**name) {
            Some(Value::Null) | None => {}
            Some(value) => {
                walk(value, field, depth + 1);
                if field.zero != Zero::Drop || !is_zero(value) {
                    continue;
                }
            }
        }
        // Absent, null, or a zero that is not written.
        if let Some(default) = &field.default {
            let mut value = (**default).clone();
            walk(&mut value, field, depth + 1);
            if field.zero != Zero::Drop || !is_zero(&value) {
                map.insert(name.to_string(), value);
                continue;
            }
        } else if field.zero == Zero::Write {
            match map.get(&**name) {
                Some(Value::Null) if nil_is_null(field) => {}
                _ => {
                    map.insert(
                        name.to_string(),
                        if nil_is_null(field) { Value::Null } else { zero_of(field) },
                    );
                }
            }
            continue;
        }
        map.remove(&**name);
    }
}

fn nil_is_null(schema: &Schema) -> bool {
    !schema.int_or_string && schema.format.as_deref() != Some("quantity")
}

/// What an absent value of the type is.
fn zero_of(schema: &Schema) -> Value {
    if schema.format.as_deref() == Some("quantity") {
        return "0".into();
    }
    if schema.int_or_string {
        return 0.into();
    }
    match schema.ty {
        Some(Type::String) if schema.format.as_deref() != Some("date-time") => "".into(),
        Some(Type::Integer | Type::Number) => 0.into(),
        Some(Type::Boolean) => false.into(),
        Some(Type::Object) if !schema.properties.is_empty() => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The one spelling of a value with a format.
fn spell(value: &mut Value, schema: &Schema) {
    match schema.format.as_deref() {
        Some("quantity") => {
            if let Ok(quantity) = Quantity::from_value(value) {
                let canonical = quantity.to_string();
                if value.as_str() != Some(&canonical) {
                    *value = canonical.into();
                }
            }
        }
        Some("date-time") => {
            let Some(text) = value.as_str() else { return };
            let micro = schema.name.as_deref().is_some_and(|n| n.ends_with(".MicroTime"));
            // Most times are in their canonical form already: no need to parse those.
            let bytes = text.as_bytes();
            if bytes.len() == if micro { 27 } else { 20 } && bytes[bytes.len() - 1] == b'Z' {
                return;
            }
            let canonical = if micro {
                time::parse_micro(text).map(time::format_micro)
            } else {
                time::parse(text).map(time::format)
            };
            if let Ok(canonical) = canonical {
                *value = canonical.into();
            }
        }
        Some("byte") => {
            let Some(text) = value.as_str() else { return };
            if text.bytes().any(|b| b == b'\n' || b == b'\r') {
                let joined: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
                if let Ok(bytes) = STANDARD.decode(&joined) {
                    *value = STANDARD.encode(bytes).into();
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use serde_json::json;

    fn canonical(kind: &str, mut object: Value) -> Value {
        canonicalize(&mut object, Catalogue::builtin().schema(kind).expect("a kind"));
        object
    }

    #[test]
    fn zero_values_are_left_out_or_written_as_the_kind_says() {
        let deployment = canonical(
            "io.k8s.api.apps.v1.Deployment",
            json!({"metadata": {"labels": {}, "name": "x"}, "spec": {"paused": false, "replicas": 0, "selector": null}}),
        );
        assert_eq!(deployment["metadata"], json!({"name": "x"}));
        assert_eq!(deployment["spec"]["replicas"], 0);
        assert!(deployment["spec"].get("paused").is_none());
        assert_eq!(deployment["status"], json!({}));
        let event = canonical("io.k8s.api.core.v1.Event", json!({}));
        assert_eq!(event["eventTime"], Value::Null);
        assert!(event.as_object().is_some_and(|e| e.contains_key("firstTimestamp")));
        assert_eq!(event["source"], json!({}));
        assert_eq!(event["reportingComponent"], "");
        assert!(event.get("count").is_none());
    }

    #[test]
    fn quantities_and_times_have_one_spelling() {
        let pod = canonical(
            "io.k8s.api.core.v1.Pod",
            json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1000m", "memory": 1, "x/y": null}}}]},
                "status": {"startTime": "2020-01-01T01:00:00.5+01:00"}}),
        );
        assert_eq!(
            pod["spec"]["containers"][0]["resources"]["limits"],
            json!({"cpu": "1", "memory": "1", "x/y": "0"})
        );
        assert_eq!(pod["status"]["startTime"], "2020-01-01T00:00:00Z");
    }

    #[test]
    fn empty_lists_that_are_always_written_are_stored_as_null() {
        let schema = Catalogue::builtin().schema("io.k8s.api.rbac.v1.ClusterRole").expect("a kind");
        let mut role = json!({"rules": []});
        canonicalize(&mut role, schema);
        assert_eq!(role["rules"], json!([]));
        forget_empty(&mut role, schema);
        assert_eq!(role["rules"], Value::Null);
    }

    #[test]
    fn nulls_inside_free_form_data_stay() {
        let object = json!({"data": {"a": [1, null]}, "revision": 1});
        let revision = canonical("io.k8s.api.apps.v1.ControllerRevision", object);
        assert_eq!(revision["data"], json!({"a": [1, null]}));
    }
}
