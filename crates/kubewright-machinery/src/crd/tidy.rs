//! The schema of a definition in the form in which it is kept: as a real server's types read and write it.
//!
//! Keywords with nothing in them go. Schemas under `items`, `additionalProperties` and their like are read by a decoder
//! of their own, which passes over what it does not know, without a word.

use serde_json::{Map, Value};

use crate::field::Path;
use crate::schema::{embedded, structural};

/// Keywords that are written unless they are empty, false or `[]`.
const OMITTED: [&str; 25] = [
    "id",
    "$schema",
    "description",
    "type",
    "format",
    "title",
    "pattern",
    "nullable",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "uniqueItems",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "enum",
    "required",
    "allOf",
    "oneOf",
    "anyOf",
    "properties",
    "patternProperties",
    "dependencies",
    "definitions",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    // A list without a schema is no schema.
    "items",
];

/// Keywords that are written whenever they are there.
const KEPT: [&str; 19] = [
    "$ref",
    "default",
    "maximum",
    "minimum",
    "maxLength",
    "minLength",
    "maxItems",
    "minItems",
    "multipleOf",
    "maxProperties",
    "minProperties",
    "not",
    "additionalProperties",
    "additionalItems",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

/// Brings a schema, and the schemas in it, to that form; values (defaults, enums, examples) stay as they are. `inner` for
/// one that is not read with the definition. Costs a walk of the schema, and a parse of what has a default.
pub(super) fn schema(json: &mut Value, inner: bool) {
    let Some(fields) = json.as_object_mut() else { return };
    fields.retain(|key, value| {
        let key = key.as_str();
        !value.is_null()
            && (!inner || KEPT.contains(&key) || (OMITTED.contains(&key) && !is_empty(key, value)))
    });
    shape_default(fields);
    for (key, value) in fields {
        match key.as_str() {
            "items" | "additionalProperties" | "additionalItems" => match value {
                Value::Array(items) => items.iter_mut().for_each(|item| schema(item, true)),
                other => schema(other, true),
            },
            "not" => schema(value, inner),
            "allOf" | "anyOf" | "oneOf" => {
                value.as_array_mut().into_iter().flatten().for_each(|json| schema(json, inner));
            }
            "properties" | "patternProperties" | "definitions" => {
                value.as_object_mut().into_iter().flatten().for_each(|(_, json)| schema(json, inner));
            }
            _ => {}
        }
    }
}

fn is_empty(key: &str, value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() && key != "items",
        _ => false,
    }
}

/// Gives the metadata of embedded resources in a default the shape of ObjectMeta, as everywhere else; what is wrong
/// with it stays, for validation to say.
fn shape_default(fields: &mut Map<String, Value>) {
    let Some(default) = fields.get("default").filter(|d| d.is_object() || d.is_array()) else { return };
    let mut shaped = default.clone();
    let parsed = structural::parse(&Value::Object(fields.clone()));
    if embedded::coerce(&mut shaped, &parsed, parsed.embedded_resource, false, &Path::ROOT).is_ok() {
        fields.insert("default".into(), shaped);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_under_items_and_maps_is_kept_without_empty_and_unknown_keywords() {
        let odd =
            json!({"type": "string", "title": "", "nullable": false, "enum": [], "odd": 1, "minLength": 0});
        let mut json = json!({"type": "object", "properties": {
            "list": {"type": "array", "items": odd}, "map": {"type": "object", "additionalProperties": odd},
            "none": {"type": "array", "items": {"type": "array", "items": []}}, "null": {"items": null}}});
        schema(&mut json, false);
        let kept = json!({"type": "string", "minLength": 0});
        assert_eq!(
            json["properties"],
            json!({"list": {"type": "array", "items": kept},
                "map": {"type": "object", "additionalProperties": kept},
                "none": {"type": "array", "items": {"type": "array"}}, "null": {}})
        );
    }
}
