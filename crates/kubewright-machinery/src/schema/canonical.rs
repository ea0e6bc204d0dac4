//! The canonical form of an object of a built-in kind: what comes back when Kubernetes decodes and encodes it.
//!
//! [`complete`] drops nulls and zero values that are not written, writes those that are, fills the schema's defaults and
//! brings quantities, times and binary data to their one spelling. What the kind itself defaults comes next, and may
//! tell an empty list from none; [`omit_empty`] then drops the empty lists and maps that are not written. Fields that
//! the schema does not know are left alone: whether they may be there was decided when the object was decoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Schema, Type, Zero};
use crate::quantity::Quantity;
use crate::time;

/// Depth at which the walk stops; decoding refuses objects nested deeper.
const MAX_DEPTH: usize = 200;

/// Brings an object whose kind has no defaults of its own, or has them already, to its canonical form.
pub fn canonicalize(object: &mut Value, schema: &Schema) {
    if complete(object, schema) {
        omit_empty(object, schema);
    }
}

/// Brings an object to its canonical form but for empty lists and maps, which defaulting may look at. Returns whether
/// there are any that [`omit_empty`] has to drop afterwards. Cost: a look-up for each field that is there, and one
/// for each that its types write when it is absent.
pub fn complete(object: &mut Value, schema: &Schema) -> bool {
    let mut walk = Walk { empty: false };
    walk.value(object, schema, 0);
    walk.empty
}

/// Drops the empty lists and maps that Go leaves out when it writes an object.
pub fn omit_empty(object: &mut Value, schema: &Schema) {
    below(object, schema, 0, &mut |value, field| !is_omitted(value, field));
}

/// Turns empty lists and maps that are always written into null: the store of Kubernetes knows no difference, and gives
/// back null. Managers of fields see what was sent, everybody after them what is stored.
pub fn forget_empty(object: &mut Value, schema: &Schema) {
    below(object, schema, 0, &mut |value, field| {
        let empty = match &*value {
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty() && field.properties.is_empty(),
            _ => false,
        };
        if empty && field.zero == Zero::Write {
            *value = Value::Null;
        }
        true
    });
}

/// Fills a field that is absent with its default, in canonical form.
pub fn insert_default(owner: &mut Map<String, Value>, name: &str, field: &Schema) {
    if let Some(default) = &field.default {
        let mut value = (**default).clone();
        canonicalize(&mut value, field);
        owner.insert(name.into(), value);
    }
}

/// Visits the fields that are there, the inner ones first; those for which `keep` is false are dropped.
fn below(
    value: &mut Value,
    schema: &Schema,
    depth: usize,
    keep: &mut impl FnMut(&mut Value, &Schema) -> bool,
) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) if !schema.properties.is_empty() => map.retain(|name, value| {
            let Some(field) = schema.field(name) else { return true };
            below(value, field, depth + 1, keep);
            keep(value, field)
        }),
        Value::Object(map) => {
            if let Some(additional) = &schema.additional {
                map.values_mut().for_each(|value| below(value, additional, depth + 1, keep));
            }
        }
        Value::Array(items) => {
            if let Some(item) = &schema.items {
                items.iter_mut().for_each(|value| below(value, item, depth + 1, keep));
            }
        }
        _ => {}
    }
}

/// Whether a value is an empty list or map that is left out.
fn is_omitted(value: &Value, schema: &Schema) -> bool {
    match value {
        _ if schema.zero != Zero::Drop || schema.default.is_some() => false,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

struct Walk {
    /// Whether an empty list or map was kept that is to be omitted.
    empty: bool,
}

impl Walk {
    fn value(&mut self, value: &mut Value, schema: &Schema, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        match value {
            Value::Object(map) if !schema.properties.is_empty() => self.fields(map, schema, depth),
            Value::Object(map) => {
                if let Some(additional) = &schema.additional {
                    for value in map.values_mut() {
                        if value.is_null() {
                            *value = zero_of(additional);
                        } else {
                            self.value(value, additional, depth + 1);
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
                        self.value(value, item, depth + 1);
                    }
                }
            }
            Value::String(_) | Value::Number(_) if schema.format.is_some() => spell(value, schema),
            _ => {}
        }
    }

    fn fields(&mut self, map: &mut Map<String, Value>, schema: &Schema, depth: usize) {
        // Few objects have something to drop: walking is cheaper than retaining.
        let mut drops = false;
        for (name, value) in map.iter_mut() {
            let Some(field) = schema.properties.get(name) else { continue };
            let field: &Schema = field;
            match value {
                Value::String(text) if field.format.is_none() => {
                    drops |= text.is_empty() && field.zero == Zero::Drop;
                    continue;
                }
                Value::Null => {}
                _ => self.value(value, field, depth + 1),
            }
            drops |= !self.keeps(value, field);
        }
        if drops {
            map.retain(|name, value| {
                schema.properties.get(name).is_none_or(|field| self.keeps(value, field))
            });
        }
        for (name, field) in schema.properties.written() {
            if map.contains_key(name) {
                continue;
            }
            let value = match &field.default {
                Some(default) => {
                    let mut value = (**default).clone();
                    self.value(&mut value, field, depth + 1);
                    value
                }
                None if nil_is_null(field) => Value::Null,
                None => zero_of(field),
            };
            if field.zero != Zero::Drop || !is_zero(&value) {
                map.insert(name.into(), value);
            }
        }
    }

    /// Whether a value stays; what is always written and has no value is made anew.
    fn keeps(&mut self, value: &Value, field: &Schema) -> bool {
        if is_omitted(value, field) {
            self.empty = true;
            return true;
        }
        match value {
            Value::Null => false,
            value => field.zero != Zero::Drop || !is_zero(value),
        }
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
            let canonical = match &*value {
                Value::String(text) => match Quantity::canonical(text.trim()) {
                    Ok(canonical) if canonical != *text => canonical.into_owned(),
                    _ => return,
                },
                number => match Quantity::from_value(number) {
                    Ok(quantity) => quantity.to_string(),
                    Err(_) => return,
                },
            };
            *value = canonical.into();
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
    use super::super::SchemaRef;
    use super::*;
    use serde_json::json;

    fn field(ty: Type, zero: Zero) -> Schema {
        Schema { ty: Some(ty), zero, ..Schema::default() }
    }

    fn object(fields: Vec<(&str, Schema)>) -> Schema {
        let properties = fields.into_iter().map(|(name, s)| (name.into(), SchemaRef::from(s))).collect();
        Schema { properties, ..field(Type::Object, Zero::Keep) }
    }

    fn spec() -> Schema {
        let map = Schema {
            additional: Some(field(Type::String, Zero::Keep).into()),
            ..field(Type::Object, Zero::Drop)
        };
        let item =
            object(vec![("names", field(Type::Array, Zero::Drop)), ("n", field(Type::Integer, Zero::Drop))]);
        object(vec![
            ("policies", field(Type::Array, Zero::Drop)),
            ("labels", map),
            ("rules", field(Type::Array, Zero::Write)),
            ("replicas", Schema { default: Some(Box::new(1.into())), ..field(Type::Integer, Zero::Keep) }),
            ("paused", field(Type::Boolean, Zero::Drop)),
            ("items", Schema { items: Some(item.into()), ..field(Type::Array, Zero::Drop) }),
        ])
    }

    #[test]
    fn empty_lists_stay_until_they_are_omitted() {
        let sent = json!({"policies": [], "labels": {}, "paused": false, "items": [{"names": [], "n": 0}]});
        let mut value = sent.clone();
        assert!(complete(&mut value, &spec()));
        assert_eq!(
            value,
            json!({"policies": [], "labels": {}, "rules": null, "replicas": 1, "items": [{"names": []}]})
        );
        omit_empty(&mut value, &spec());
        assert_eq!(value, json!({"rules": null, "replicas": 1, "items": [{}]}));
        let mut at_once = sent;
        canonicalize(&mut at_once, &spec());
        assert_eq!(at_once, value);
        assert!(!complete(&mut value, &spec()), "there is nothing left to omit");
    }

    #[test]
    fn empty_lists_that_are_always_written_are_stored_as_null() {
        let mut value = json!({"rules": [], "replicas": 0});
        canonicalize(&mut value, &spec());
        assert_eq!(value, json!({"rules": [], "replicas": 0}));
        forget_empty(&mut value, &spec());
        assert_eq!(value, json!({"rules": null, "replicas": 0}));
    }
}
