//! Validation of an object against its type: what an apply refuses before it merges.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::ty::{Kind, Relation, Scalar, Ty};
use crate::fieldset::path::PathElement;
use crate::fieldset::value;

/// How deep objects may nest; parsers of requests allow less.
const MAX_DEPTH: usize = 300;

/// What to make of items of one key, or of one value in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// They are faults: for applied objects.
    Refused,
    /// They are left alone: for stored objects, which may have got them on other ways.
    Allowed,
}

/// One fault of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the value, such as `.spec.replicas`; empty for the object itself.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// The faults of an object, in order; never none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [single] = self.0.as_slice() {
            return single.fmt(f);
        }
        f.write_str("errors:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

pub(super) fn validate(ty: Ty<'_>, object: &Value, duplicates: Duplicates) -> Result<(), FieldErrors> {
    let mut walk = Walk { duplicates, path: Vec::new(), errors: Vec::new() };
    walk.visit(ty, object);
    if walk.errors.is_empty() { Ok(()) } else { Err(FieldErrors(walk.errors)) }
}

/// The place of the walk, as cheap as can be: the path becomes text only for a fault.
enum Step<'v> {
    Field(&'v str),
    Item(PathElement),
}

struct Walk<'v> {
    duplicates: Duplicates,
    path: Vec<Step<'v>>,
    errors: Vec<FieldError>,
}

impl<'v> Walk<'v> {
    fn fault(&mut self, message: String) {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Step::Item(element) => path.push_str(&element.to_string()),
            }
        }
        self.errors.push(FieldError { path, message });
    }

    fn visit(&mut self, ty: Ty<'_>, value: &'v Value) {
        if value.is_null() {
            return;
        }
        if self.path.len() >= MAX_DEPTH {
            self.fault("nested too deeply".into());
            return;
        }
        match (ty.kind(value), value) {
            (Kind::Scalar, _) => self.scalar(ty.scalar(), value),
            (Kind::Map, Value::Object(fields)) => {
                for (name, field) in fields {
                    self.path.push(Step::Field(name));
                    match ty.child(name) {
                        Some(child) => self.visit(child.ty, field),
                        None => {
                            self.fault("field not declared in schema".into());
                            self.path.pop();
                            return;
                        }
                    }
                    self.path.pop();
                }
            }
            (Kind::Map, _) => self.fault(format!("expected map, got &{{{}}}", value::plain(value))),
            (Kind::List, Value::Array(items)) => self.list(ty, items),
            (Kind::List, _) => self.fault(format!("expected list, got &{{{}}}", value::plain(value))),
        }
    }

    fn list(&mut self, ty: Ty<'_>, items: &'v [Value]) {
        let list = ty.list();
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let element = if matches!(list.relation, Relation::Atomic) {
                PathElement::Index(i64::try_from(i).unwrap_or(i64::MAX))
            } else {
                match list.element(item) {
                    Err(why) => {
                        self.fault(format!("element {i}: {why}"));
                        return;
                    }
                    Ok(element) => {
                        if !seen.insert(element.clone()) && self.duplicates == Duplicates::Refused {
                            self.fault(format!("duplicate entries for key {element}"));
                        }
                        element
                    }
                }
            };
            self.path.push(Step::Item(element));
            self.visit(list.item, item);
            self.path.pop();
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        let fits = match scalar {
            Scalar::Numeric => value.is_number(),
            Scalar::String => value.is_string(),
            Scalar::Boolean => value.is_boolean(),
            Scalar::Any => !value.is_array() && !value.is_object(),
        };
        if fits {
            return;
        }
        self.fault(match scalar {
            Scalar::Numeric => format!("expected numeric (int or float), got {}", value::type_name(value)),
            Scalar::String => {
                format!("expected string, got &value.valueUnstructured{{Value:{}}}", value::literal(value))
            }
            Scalar::Boolean => format!("expected boolean, got &{{{}}}", value::plain(value)),
            Scalar::Any => format!("expected any scalar, got &{{{}}}", value::plain(value)),
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ty;
    use super::*;

    fn faults(spec: Value) -> String {
        match ty().validate(&json!({ "spec": spec }), Duplicates::Refused) {
            Ok(()) => String::new(),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn messages_are_those_of_a_real_server() {
        for (spec, message) in [
            (json!({"nope": 1}), ".spec.nope: field not declared in schema"),
            (
                json!({"items": [{"name": "c", "imagee": 1}]}),
                ".spec.items[name=\"c\"].imagee: field not declared in schema",
            ),
            (json!({"replicas": "3"}), ".spec.replicas: expected numeric (int or float), got string"),
            (json!({"text": 5}), ".spec.text: expected string, got &value.valueUnstructured{Value:5}"),
            (json!({"flag": "yes"}), ".spec.flag: expected boolean, got &{yes}"),
            (json!({"nested": "x"}), ".spec.nested: expected map, got &{x}"),
            (json!({"items": {"name": "c"}}), ".spec.items: expected list, got &{map[name:c]}"),
            (
                json!({"items": ["c"]}),
                ".spec.items: element 0: associative list with keys may not have non-map elements",
            ),
            (
                json!({"items": [{"name": "c"}, null]}),
                ".spec.items: element 1: associative list with keys may not have a null element",
            ),
            (
                json!({"items": [{"value": "c"}]}),
                ".spec.items: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
            ),
            (
                json!({"items": [{"name": "c"}, {"name": "c"}]}),
                ".spec.items: duplicate entries for key [name=\"c\"]",
            ),
            (
                json!({"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}),
                ".spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]",
            ),
            (json!({"set": ["a", "a"]}), ".spec.set: duplicate entries for key [=\"a\"]"),
            (
                json!({"set": [null]}),
                ".spec.set: element 0: associative list without keys has an element that's an explicit null",
            ),
            (
                json!({"set": [{}]}),
                ".spec.set: element 0: associative list without keys has an element that's a map type",
            ),
            (
                json!({"atomic": [{"name": 1}]}),
                ".spec.atomic[0].name: expected string, got &value.valueUnstructured{Value:1}",
            ),
            (json!({"quantity": {}}), ".spec.quantity: expected any scalar, got &{map[]}"),
        ] {
            assert_eq!(faults(spec), message);
        }
    }

    #[test]
    fn the_first_unknown_field_of_a_map_ends_its_walk_but_not_that_of_others() {
        assert_eq!(faults(json!({"nah": 1, "nope": 2})), ".spec.nah: field not declared in schema");
        assert_eq!(
            faults(json!({"flag": 1, "nested": {"x": 1, "y": 2}, "text": 2})),
            "errors:\n  .spec.flag: expected boolean, got &{1}\n  .spec.nested.x: field not declared in schema\n  .spec.text: expected string, got &value.valueUnstructured{Value:2}"
        );
    }

    #[test]
    fn nulls_pass_and_so_does_what_the_schema_leaves_open() {
        assert_eq!(
            faults(json!({"text": null, "items": null, "nested": null, "free": {"a": [1, {"b": null}]}})),
            ""
        );
        assert_eq!(faults(json!({"intOrString": 1, "quantity": 5, "time": "x"})), "");
        let meta = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["x"], "ownerReferences": [{"uid": "1"}]}});
        assert!(ty().validate(&meta, Duplicates::Refused).is_ok());
        let errors = ty().validate(&json!({"metadata": {"nope": 1}}), Duplicates::Refused).unwrap_err();
        assert_eq!(errors.to_string(), ".metadata.nope: field not declared in schema");
    }

    #[test]
    fn duplicates_of_stored_objects_are_left_alone() {
        let object = json!({"spec": {"set": ["a", "a"], "items": [{"name": "c"}, {"name": "c"}]}});
        assert!(ty().validate(&object, Duplicates::Allowed).is_ok());
    }

    #[test]
    fn hostile_depth_is_a_fault() {
        let mut value = json!(1);
        for _ in 0..1000 {
            value = json!({ "a": value });
        }
        assert!(faults(json!({ "free": value })).ends_with("nested too deeply"));
    }
}
