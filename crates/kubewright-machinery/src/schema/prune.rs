//! Removal of fields that a schema does not specify (apiextensions, "field pruning").
//!
//! Idempotent; what it removed is reported for `fieldValidation=Warn|Strict`.

use std::fmt::Write as _;

use serde_json::Value;

use super::Schema;

/// The fields of every resource.
pub const RESOURCE_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes unknown fields and returns their paths (`spec.list[0].x`), sorted. With `resource_root` the value is a
/// whole resource, whose apiVersion, kind and metadata are left alone as in embedded resources.
pub fn prune(value: &mut Value, schema: &Schema, resource_root: bool) -> Vec<String> {
    let mut pruner = Pruner { path: String::new(), unknown: Vec::new() };
    pruner.value(value, Some(schema), resource_root || schema.embedded_resource);
    pruner.unknown.sort();
    pruner.unknown
}

struct Pruner {
    path: String,
    unknown: Vec<String>,
}

impl Pruner {
    fn value(&mut self, value: &mut Value, schema: Option<&Schema>, resource: bool) {
        if let Some(schema) = schema.filter(|s| s.preserve_unknown_fields) {
            return self.preserved(value, schema, resource);
        }
        match value {
            Value::Object(fields) => {
                let at_root = self.path.is_empty();
                fields.retain(|name, field| {
                    let resource_field = RESOURCE_FIELDS.contains(&name.as_str());
                    if resource && resource_field {
                        return true;
                    }
                    if let Some(schema) = schema.and_then(|s| s.field(name)) {
                        self.below(name, |this| this.value(field, Some(schema), schema.embedded_resource));
                        return true;
                    }
                    if schema.is_some_and(|s| s.additional_false) {
                        self.below(name, |this| this.value(field, None, false));
                        return true;
                    }
                    if !(at_root && resource_field && schema.is_some()) {
                        let len = self.enter(name);
                        self.unknown.push(self.path.clone());
                        self.path.truncate(len);
                    }
                    false
                });
            }
            Value::Array(items) => {
                let schema = schema.and_then(|s| s.items.as_deref());
                for (i, item) in items.iter_mut().enumerate() {
                    let embedded = schema.is_some_and(|s| s.embedded_resource);
                    self.item(i, |this| this.value(item, schema, embedded));
                }
            }
            _ => {}
        }
    }

    /// Under preserve-unknown-fields: only what is specified is pruned again.
    fn preserved(&mut self, value: &mut Value, schema: &Schema, resource: bool) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    if resource && RESOURCE_FIELDS.contains(&name.as_str()) {
                        continue;
                    }
                    if let Some(schema) = schema.field(name) {
                        self.below(name, |this| this.value(field, Some(schema), schema.embedded_resource));
                    }
                }
            }
            Value::Array(items) => {
                let Some(schema) = schema.items.as_deref() else { return };
                for (i, item) in items.iter_mut().enumerate() {
                    self.item(i, |this| this.preserved(item, schema, schema.embedded_resource));
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, name: &str) -> usize {
        let len = self.path.len();
        if len > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        len
    }

    fn below(&mut self, name: &str, then: impl FnOnce(&mut Self)) {
        let len = self.enter(name);
        then(self);
        self.path.truncate(len);
    }

    fn item(&mut self, index: usize, then: impl FnOnce(&mut Self)) {
        let len = self.path.len();
        let _ = write!(self.path, "[{index}]");
        then(self);
        self.path.truncate(len);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::structural::parse;
    use super::*;

    fn pruned(schema: Value, mut value: Value) -> (Value, Vec<String>) {
        let unknown = prune(&mut value, &parse(&schema), true);
        (value, unknown)
    }

    #[test]
    fn unknown_fields_go_and_are_named_in_order() {
        let box_ = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "list": {"type": "array", "items": box_}, "map": {"type": "object", "additionalProperties": box_}}}}});
        let value = json!({"kind": "W", "apiVersion": "v1", "metadata": {"x": 1}, "extra": 1,
            "spec": {"list": [{"b": 1}, {"a": "x", "b": {"c": 1}}], "map": {"k": {"z": 1}}, "y": []}});
        let (value, unknown) = pruned(schema, value);
        assert_eq!(
            value,
            json!({"kind": "W", "apiVersion": "v1", "metadata": {"x": 1},
            "spec": {"list": [{}, {"a": "x"}], "map": {"k": {}}}})
        );
        assert_eq!(unknown, ["extra", "spec.list[0].b", "spec.list[1].b", "spec.map.k.z", "spec.y"]);
    }

    #[test]
    fn preserved_siblings_stay_while_a_specified_child_is_pruned() {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"deep": {"type": "object", "properties": {"x": {"type": "string"}}}}});
        let (value, unknown) = pruned(schema, json!({"free": {"a": [1]}, "deep": {"x": "1", "y": 2}}));
        assert_eq!(value, json!({"free": {"a": [1]}, "deep": {"x": "1"}}));
        assert_eq!(unknown, ["deep.y"]);
    }

    #[test]
    fn an_embedded_resource_keeps_its_resource_fields() {
        let schema = json!({"type": "object", "properties": {"e": {"type": "object",
            "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}}});
        let value =
            json!({"e": {"kind": "K", "apiVersion": "v1", "metadata": {}, "spec": {"y": 1}, "status": 1}});
        let (value, unknown) = pruned(schema, value);
        assert_eq!(value, json!({"e": {"kind": "K", "apiVersion": "v1", "metadata": {}, "spec": {}}}));
        assert_eq!(unknown, ["e.spec.y", "e.status"]);
    }

    #[test]
    fn additional_properties_true_keeps_scalars_and_empties_objects() {
        let schema =
            json!({"type": "object", "properties": {"m": {"type": "object", "additionalProperties": true}}});
        let (value, unknown) = pruned(schema, json!({"m": {"a": 1, "b": {"c": 1}, "d": null}}));
        assert_eq!(value, json!({"m": {"a": 1, "b": {}, "d": null}}));
        assert_eq!(unknown, ["m.b.c"]);
    }
}
