//! Defaults of a schema, applied to a value in place (apiextensions, "defaulting").
//!
//! Idempotent. Nothing is looked at that the schema does not specify.

use serde_json::Value;

use super::Schema;

/// Drops nulls where null is no value and there is no default, then sets absent (and such null) fields to their
/// defaults, in nested objects, lists and maps too.
pub fn apply(value: &mut Value, schema: &Schema) {
    forget_nulls(value, schema);
    fill(value, schema);
}

/// Drops nulls where null is no value and there is no default.
pub fn forget_nulls(value: &mut Value, schema: &Schema) {
    prune_nulls(value, Some(schema));
}

fn prune_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            let schema = schema.and_then(|s| s.field(name));
            let drop = value.is_null() && schema.is_some_and(|s| !s.nullable && s.default.is_none());
            if !drop {
                prune_nulls(value, schema);
            }
            !drop
        }),
        Value::Array(items) => {
            let schema = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|item| prune_nulls(item, schema));
        }
        _ => {}
    }
}

/// Sets absent fields, and nulls where null is no value, to their defaults. Nulls that have no default stay.
pub fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (name, property) in schema.properties.written() {
                let Some(default) = property.default.as_deref() else { continue };
                match fields.get_mut(name) {
                    None => {
                        fields.insert(name.to_string(), default.clone());
                    }
                    Some(present) if present.is_null() && !property.nullable => *present = default.clone(),
                    Some(_) => {}
                }
            }
            for (name, field) in fields.iter_mut() {
                let Some(schema) = schema.field(name) else { continue };
                replace_null(field, schema);
                fill(field, schema);
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return };
            for item in items {
                replace_null(item, schema);
                fill(item, schema);
            }
        }
        _ => {}
    }
}

fn replace_null(value: &mut Value, schema: &Schema) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = schema.default.as_deref()
    {
        *value = default.clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::structural::parse;
    use super::*;

    fn applied(schema: Value, mut value: Value) -> Value {
        apply(&mut value, &parse(&schema));
        value
    }

    #[test]
    fn defaults_reach_into_what_defaults_made() {
        let schema = json!({"type": "object", "properties": {"o": {"type": "object", "default": {},
            "properties": {"a": {"type": "integer", "default": 1}, "b": {"type": "integer"}}}}});
        assert_eq!(applied(schema.clone(), json!({})), json!({"o": {"a": 1}}));
        assert_eq!(applied(schema, json!({"o": {"a": 2, "b": null}})), json!({"o": {"a": 2}}));
    }

    #[test]
    fn null_stays_where_it_is_a_value_and_is_defaulted_or_dropped_elsewhere() {
        let schema = json!({"type": "object", "properties": {
            "n": {"type": "string", "nullable": true, "default": "d"},
            "d": {"type": "string", "default": "d"}, "p": {"type": "string"}},});
        let value = json!({"n": null, "d": null, "p": null, "unknown": null});
        assert_eq!(applied(schema, value), json!({"n": null, "d": "d", "unknown": null}));
    }

    #[test]
    fn items_and_map_values_are_defaulted() {
        let inner = json!({"type": "object", "properties": {"a": {"type": "integer", "default": 1}}});
        let schema = json!({"type": "object", "properties": {
            "l": {"type": "array", "items": inner}, "m": {"type": "object", "additionalProperties": inner}}});
        let value = json!({"l": [{}, {"a": 2}], "m": {"k": {}}});
        assert_eq!(applied(schema, value), json!({"l": [{"a": 1}, {"a": 2}], "m": {"k": {"a": 1}}}));
    }
}
