//! The JSON schema of a Rust type in the form that Kubernetes takes: structural OpenAPI v3. Pure.
//!
//! Structural means that every field has one type that can be found without trying alternatives: what schemars writes
//! as alternatives (enums, options) is written as one type here, and what cannot be is left to the type's own decoding.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Formats that mean something to Kubernetes; others are dropped.
const FORMATS: [&str; 16] = [
    "int32",
    "int64",
    "float",
    "double",
    "date",
    "date-time",
    "byte",
    "uuid",
    "ipv4",
    "ipv6",
    "cidr",
    "email",
    "hostname",
    "uri",
    "mac",
    "duration",
];
/// Keywords that structural schemas do not have.
const FOREIGN: [&str; 8] =
    ["title", "$schema", "$defs", "definitions", "examples", "readOnly", "writeOnly", "contentEncoding"];

/// The schema of objects whose body is a `T`.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    complete(schema.to_value())
}

/// A schema of objects as it is to be: structural, and without a word about metadata.
pub(super) fn complete(mut schema: Value) -> Value {
    structural(&mut schema);
    if !schema.is_object() {
        schema = json!({});
    }
    schema["type"] = json!("object");
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    for (name, ty) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
        schema["properties"][name] = json!({"type": ty});
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !["apiVersion", "kind", "metadata"].iter().any(|known| name == known));
    }
    schema
}

fn structural(schema: &mut Value) {
    if let Value::Bool(_) = schema {
        *schema = json!({"x-kubernetes-preserve-unknown-fields": true});
        return;
    }
    let Some(fields) = schema.as_object_mut() else { return };
    for keyword in FOREIGN {
        fields.remove(keyword);
    }
    if let Some(constant) = fields.remove("const") {
        fields.insert("enum".into(), json!([constant]));
    }
    if fields.get("format").is_some_and(|f| !FORMATS.iter().any(|known| f == known)) {
        fields.remove("format");
    }
    single_type(fields);
    for keyword in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(parts)) = fields.remove(keyword) {
            join(fields, keyword, parts);
        }
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    if let Some(items) = fields.get_mut("items") {
        structural(items);
    }
    match fields.get_mut("additionalProperties") {
        // Unknown fields are pruned anyway.
        Some(Value::Bool(false)) => drop(fields.remove("additionalProperties")),
        Some(Value::Bool(true)) => {
            fields.remove("additionalProperties");
            fields.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        }
        Some(values) => structural(values),
        None => {}
    }
    let typed = fields.contains_key("type") || fields.contains_key("x-kubernetes-int-or-string");
    if !typed && fields.get("enum").is_some_and(|values| values[0].is_string()) {
        fields.insert("type".into(), "string".into());
    } else if !typed {
        fields.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
}

/// `type: [T, "null"]` is a T that may be null.
fn single_type(fields: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = fields.get("type") else { return };
    let nullable = types.iter().any(|ty| ty == "null");
    let others: Vec<Value> = types.iter().filter(|ty| *ty != "null").cloned().collect();
    match others.as_slice() {
        [one] => drop(fields.insert("type".into(), one.clone())),
        _ => drop(fields.remove("type")),
    }
    if nullable {
        fields.insert("nullable".into(), true.into());
    }
}

/// Alternatives as one schema.
fn join(fields: &mut Map<String, Value>, keyword: &str, mut parts: Vec<Value>) {
    parts.iter_mut().for_each(structural);
    if keyword != "allOf" {
        let before = parts.len();
        parts.retain(|part| !is_null(part));
        if parts.len() < before {
            fields.insert("nullable".into(), true.into());
        }
    }
    if let [Value::Object(one)] = parts.as_slice() {
        for (key, value) in one {
            fields.entry(key.clone()).or_insert_with(|| value.clone());
        }
        return;
    }
    let values: Option<Vec<&Value>> = parts
        .iter()
        .map(|part| part.get("enum").and_then(Value::as_array))
        .collect::<Option<Vec<_>>>()
        .map(|lists| lists.into_iter().flatten().collect());
    if let Some(values) = values {
        let values = json!(values);
        fields.insert("enum".into(), values);
        fields.insert("type".into(), "string".into());
        return;
    }
    let objects = parts.iter().all(|part| part["type"] == "object");
    if !objects {
        // No one type: the type's own decoding tells.
        fields.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        return;
    }
    // A field that any alternative has may be there; one that all of them need has to be.
    let mut required: Option<Vec<Value>> = None;
    let mut properties = Map::new();
    for part in &parts {
        for (name, property) in part["properties"].as_object().into_iter().flatten() {
            match properties.get_mut(name) {
                None => drop(properties.insert(name.clone(), property.clone())),
                Some(known) if known != property => widen(known, property),
                Some(_) => {}
            }
        }
        let needs = part["required"].as_array().cloned().unwrap_or_default();
        required = Some(match required {
            None => needs,
            Some(so_far) if keyword == "allOf" => {
                so_far.iter().chain(needs.iter().filter(|n| !so_far.contains(n))).cloned().collect()
            }
            Some(so_far) => so_far.into_iter().filter(|name| needs.contains(name)).collect(),
        });
    }
    if let Some(Value::Object(own)) = fields.get("properties") {
        properties.extend(own.clone());
    }
    let mut needs = fields.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    needs.extend(required.unwrap_or_default());
    fields.insert("type".into(), "object".into());
    fields.insert("properties".into(), properties.into());
    if !needs.is_empty() {
        fields.insert("required".into(), needs.into());
    }
}

/// A field that two alternatives have: the tag of an enum takes the values of both.
fn widen(known: &mut Value, other: &Value) {
    match (known["enum"].as_array().cloned(), other["enum"].as_array()) {
        (Some(mut values), Some(more)) => {
            values.extend(
                more.iter()
                    .filter(|value| !known["enum"].as_array().is_some_and(|k| k.contains(value)))
                    .cloned(),
            );
            known["enum"] = values.into();
        }
        _ => *known = json!({"x-kubernetes-preserve-unknown-fields": true}),
    }
}

fn is_null(schema: &Value) -> bool {
    schema["type"] == "null" || schema["enum"] == json!([null])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Colour {
        /// Like blood.
        Red,
        /// Like grass.
        Green,
    }

    #[derive(JsonSchema)]
    #[serde(tag = "kind", rename_all = "camelCase")]
    #[allow(dead_code)]
    enum Shape {
        Round { radius: u32, colour: Option<Colour> },
        Square { side: u32 },
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Body {
        #[schemars(range(min = 1))]
        size: u32,
        colour: Colour,
        second: Option<Colour>,
        note: Option<String>,
        shape: Shape,
        tags: BTreeMap<String, u8>,
        any: Value,
    }

    #[test]
    fn enums_options_and_maps_have_one_type_each() {
        let schema = of::<Body>();
        let of = |name: &str| schema["properties"][name].clone();
        assert_eq!(
            (of("size")["type"].clone(), of("size")["format"].clone()),
            (json!("integer"), Value::Null)
        );
        assert_eq!(of("size")["minimum"].as_f64(), Some(1.0));
        assert_eq!(
            (of("colour")["type"].clone(), of("colour")["enum"].clone()),
            (json!("string"), json!(["Red", "Green"]))
        );
        assert_eq!(of("second")["nullable"], true);
        assert_eq!(of("second")["enum"], json!(["Red", "Green"]));
        assert_eq!(
            (of("note")["type"].clone(), of("note")["nullable"].clone()),
            (json!("string"), json!(true))
        );
        assert_eq!(of("shape")["properties"]["kind"]["enum"], json!(["round", "square"]));
        assert_eq!(of("shape")["required"], json!(["kind"]));
        assert_eq!(of("tags")["additionalProperties"]["type"], "integer");
        assert_eq!(of("any")["x-kubernetes-preserve-unknown-fields"], true);
        assert_eq!(of("metadata"), json!({"type": "object"}));
        assert!(!schema["required"].as_array().unwrap().contains(&json!("metadata")));
    }
}
