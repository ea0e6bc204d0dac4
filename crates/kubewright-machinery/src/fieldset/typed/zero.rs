//! The object of a built-in kind that nobody set a field of.
//!
//! Built-in kinds are structs that write some fields whether they are set or not. A create is compared with
//! such an object, so that nobody comes to own what is always there.

use serde_json::{Map, Value, json};

use crate::schema::{Schema, Type};

/// The zero object, as far as `object` has its fields; none for custom resources, which always write what was
/// sent and no more.
pub(super) fn zero(schema: &Schema, object: &Value) -> Option<Value> {
    schema.name.as_ref()?;
    Some(of_struct(schema, object))
}

fn of_struct(schema: &Schema, object: &Value) -> Value {
    let Value::Object(fields) = object else { return Value::Object(Map::new()) };
    let mut out = Map::new();
    for (name, value) in fields {
        let Some(field) = schema.properties.get(name.as_str()) else { continue };
        let zero = match field.default.as_deref() {
            // A struct that is no pointer: always there, and so on inside.
            Some(Value::Object(default)) if default.is_empty() && field.ty == Some(Type::Object) => {
                of_struct(field, value)
            }
            // A scalar that is written when it is zero.
            Some(default) if *default == json!("") || *default == json!(0) || *default == json!(false) => {
                default.clone()
            }
            None if value.is_null() || schema.required.iter().any(|required| **required == **name) => {
                Value::Null
            }
            _ => continue,
        };
        out.insert(name.clone(), zero);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use crate::schema::SchemaRef;

    use super::*;

    fn field(ty: Type, default: Option<Value>) -> SchemaRef {
        Schema { ty: Some(ty), default: default.map(Box::new), ..Schema::default() }.into()
    }

    fn spec() -> Schema {
        Schema {
            ty: Some(Type::Object),
            default: Some(Box::new(json!({}))),
            required: vec!["containers".into()],
            properties: [
                ("containers".into(), field(Type::Array, None)),
                ("text".into(), field(Type::String, None)),
                ("written".into(), field(Type::String, Some(json!("")))),
                ("protocol".into(), field(Type::String, Some(json!("TCP")))),
                ("time".into(), field(Type::String, None)),
            ]
            .into_iter()
            .collect(),
            ..Schema::default()
        }
    }

    fn kind(name: Option<&str>) -> Schema {
        Schema {
            ty: Some(Type::Object),
            name: name.map(Into::into),
            properties: [("spec".into(), spec().into())].into_iter().collect(),
            ..Schema::default()
        }
    }

    #[test]
    fn structs_and_what_they_always_write_are_there() {
        let object = json!({"spec": {"containers": [1], "text": "a", "written": "b", "protocol": "TCP", "time": null}});
        assert_eq!(
            zero(&kind(Some("io.k8s.Thing")), &object),
            Some(json!({"spec": {"containers": null, "written": "", "time": null}}))
        );
        assert_eq!(zero(&kind(Some("io.k8s.Thing")), &json!({})), Some(json!({})));
    }

    #[test]
    fn custom_resources_begin_with_nothing() {
        assert_eq!(zero(&kind(None), &json!({"spec": {}})), None);
    }
}
