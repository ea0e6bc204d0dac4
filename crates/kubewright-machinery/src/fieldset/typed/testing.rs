//! The type that the tests of field sets share.

use serde_json::{Value, json};

use super::ObjectType;
use crate::schema::{ListType, Schema, SchemaRef, Type};

/// A type with a field of each sort under `spec`, and a `status`.
pub(in crate::fieldset) fn ty() -> ObjectType {
    crd(json!({
        "items": [{"name": "string", "value": "string", "sub": {"a": "string", "b": "string"}}, "map", "name"],
        "ports": [{"port": "integer", "protocol": "string=TCP", "name": "string", "target": "integer"}, "map", "port", "protocol"],
        "set": ["string", "set"],
        "numbers": ["number", "set"],
        "atomic": [{"name": "string"}, "atomic"],
        "whole": {"*": "string", "!": true},
        "labels": {"*": "string"},
        "structs": {"*": {"a": "string", "b": "string"}},
        "nested": {"a": "string", "b": {"c": "integer", "d": "integer"}},
        "text": "string",
        "time": "string:date-time",
        "quantity": "string:quantity",
        "intOrString": "any",
        "flag": "boolean",
        "replicas": "integer",
        "free": {"?": true},
    }))
}

/// A type whose `spec` has the given fields, in a shorthand: `"string"`, `"string:format"`, `"string=default"`;
/// `[items, list type, keys…]`; `{field: …, "*": values of a map, "!": atomic, "?": keeps unknown fields}`.
pub(in crate::fieldset) fn crd(spec: Value) -> ObjectType {
    let root = json!({ "spec": spec, "status": {"phase": "string", "replicas": "integer"} });
    ObjectType::new(SchemaRef::from(schema(&root)))
}

/// The schema of a type.
pub(in crate::fieldset) fn schema_of(ty: &ObjectType) -> SchemaRef {
    ty.schema.clone()
}

fn schema(short: &Value) -> Schema {
    match short {
        Value::String(text) => scalar(text),
        Value::Array(parts) => Schema {
            ty: Some(Type::Array),
            items: Some(schema(&parts[0]).into()),
            list_type: match parts[1].as_str().unwrap() {
                "map" => ListType::Map,
                "set" => ListType::Set,
                _ => ListType::Atomic,
            },
            list_type_stated: true,
            list_map_keys: parts[2..].iter().map(|key| key.as_str().unwrap().into()).collect(),
            ..Schema::default()
        },
        Value::Object(fields) => Schema {
            ty: Some(Type::Object),
            properties: fields
                .iter()
                .filter(|(name, _)| !["*", "!", "?"].contains(&name.as_str()))
                .map(|(name, field)| (name.as_str().into(), schema(field).into()))
                .collect(),
            additional: fields.get("*").map(|values| schema(values).into()),
            map_atomic: fields.contains_key("!"),
            preserve_unknown_fields: fields.contains_key("?"),
            ..Schema::default()
        },
        other => panic!("no shorthand: {other}"),
    }
}

fn scalar(text: &str) -> Schema {
    let (text, default) = text.split_once('=').map_or((text, None), |(text, default)| (text, Some(default)));
    let (ty, format) = text.split_once(':').map_or((text, None), |(ty, format)| (ty, Some(format)));
    Schema {
        ty: match ty {
            "string" => Some(Type::String),
            "integer" => Some(Type::Integer),
            "number" => Some(Type::Number),
            "boolean" => Some(Type::Boolean),
            _ => None,
        },
        int_or_string: ty == "any",
        format: format.map(Into::into),
        default: default.map(|default| Box::new(json!(default))),
        ..Schema::default()
    }
}
