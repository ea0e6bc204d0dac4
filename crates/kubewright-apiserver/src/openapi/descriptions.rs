//! What types and fields are for, in words: told by whoever knows, put beside the facts of a document.
//!
//! Facts come from the resources alone. Nothing is described twice: a type that says what it is keeps its own words.

use serde_json::{Map, Value, json};

use super::Dialect;

/// Knows what the types of built-in resources and their fields are for.
pub trait Descriptions: Send + Sync {
    /// JSON schemas by the names of their types, such as `io.k8s.api.apps.v1.Deployment`: those of a group and version
    /// (`apps`, `v1`; the core group is empty) and all they refer to. Only each `description` in them is read, of a type
    /// and of its `properties`. Asked whenever a document is rendered, and not kept.
    fn schemas(&self, group: &str, version: &str) -> Map<String, Value>;
}

/// Describes definitions, where they do not say what they are themselves.
pub(super) fn describe(dialect: Dialect, definitions: &mut Map<String, Value>, known: &Map<String, Value>) {
    for (name, definition) in definitions {
        let Some(about) = known.get(name) else { continue };
        text(about).into_iter().for_each(|text| beside(dialect, definition, text));
        let Some(Value::Object(properties)) = definition.get_mut("properties") else { continue };
        for (field, property) in properties {
            text(&about["properties"][field]).into_iter().for_each(|text| beside(dialect, property, text));
        }
    }
}

fn text(schema: &Value) -> Option<&str> {
    schema["description"].as_str().filter(|text| !text.is_empty())
}

fn beside(dialect: Dialect, schema: &mut Value, text: &str) {
    let Some(object) = schema.as_object_mut().filter(|object| !object.contains_key("description")) else {
        return;
    };
    // In v3, keywords beside a reference are ignored.
    if dialect == Dialect::V3
        && let Some(reference) = object.remove("$ref")
    {
        object.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
    object.insert("description".into(), text.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_beside_facts_and_references_stay_references() {
        let facts = json!({"pod": {"type": "object", "properties": {
            "spec": {"$ref": "#/spec"}, "kind": {"type": "string", "description": "its own"}, "x": {}}}});
        let known = json!({"pod": {"description": "A pod.", "properties": {
            "spec": {"description": "What it is."}, "kind": {"description": "other"}, "gone": {"description": "no"}}}});
        let described = |dialect| {
            let mut facts = facts.as_object().cloned().unwrap_or_default();
            describe(dialect, &mut facts, known.as_object().expect("an object"));
            facts["pod"].clone()
        };
        assert_eq!(
            described(Dialect::V3),
            json!({"type": "object", "description": "A pod.", "properties": {
                "spec": {"allOf": [{"$ref": "#/spec"}], "description": "What it is."},
                "kind": {"type": "string", "description": "its own"}, "x": {}}})
        );
        assert_eq!(
            described(Dialect::V2)["properties"]["spec"],
            json!({"$ref": "#/spec", "description": "What it is."})
        );
    }
}
