//! The field set of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ty::{Kind, Relation, Ty};
use crate::fieldset::path::PathElement;
use crate::fieldset::set::Set;

/// What the walk says of a value: whether it is a leaf, and what is below it.
struct Found {
    leaf: bool,
    below: Set,
}

impl Found {
    const LEAF: Self = Self { leaf: true, below: Set::EMPTY };
    const NOTHING: Self = Self { leaf: false, below: Set::EMPTY };
}

pub(super) fn set_of(ty: Ty<'_>, object: &Value) -> Set {
    visit(ty, object).below
}

fn visit(ty: Ty<'_>, value: &Value) -> Found {
    match (ty.kind(value), value) {
        (Kind::Scalar, _) => Found::LEAF,
        (Kind::Map, _) if ty.map_atomic() => Found::LEAF,
        (Kind::Map, Value::Object(fields)) => Found { leaf: false, below: map(ty, fields) },
        (Kind::List, _) if matches!(ty.list().relation, Relation::Atomic) => Found::LEAF,
        (Kind::List, Value::Array(items)) => Found { leaf: false, below: list(ty, items) },
        (Kind::Map | Kind::List, _) => Found::NOTHING,
    }
}

fn map(ty: Ty<'_>, fields: &Map<String, Value>) -> Set {
    let (mut members, mut children) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        let Some(child) = ty.child(name) else { continue };
        let found = visit(child.ty, value);
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        let element = PathElement::field(name);
        if found.leaf || empty || !child.declared {
            members.push(element.clone());
        }
        if !found.below.is_empty() {
            children.push((element, found.below));
        }
    }
    Set::from_parts(members, children)
}

fn list(ty: Ty<'_>, items: &[Value]) -> Set {
    let list = ty.list();
    let elements: Vec<_> = items.iter().map(|item| list.element(item).ok()).collect();
    let mut counts: BTreeMap<&PathElement, usize> = BTreeMap::new();
    for element in elements.iter().flatten() {
        *counts.entry(element).or_default() += 1;
    }
    let (mut members, mut children) = (Vec::new(), Vec::new());
    for (item, element) in items.iter().zip(&elements) {
        let Some(element) = element else { continue };
        members.push(element.clone());
        // Items that can't be told apart are owned as one thing.
        if counts.get(element) == Some(&1) {
            children.push((element.clone(), visit(list.item, item).below));
        }
    }
    Set::from_parts(members, children)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ty;
    use super::*;

    fn fields(spec: Value) -> Value {
        let set = ty().field_set(&json!({ "spec": spec })).to_value();
        set.get("f:spec").cloned().unwrap_or(Value::Null)
    }

    #[test]
    fn leaves_are_owned_and_named_fields_above_them_are_not() {
        assert_eq!(
            fields(json!({"nested": {"a": "1", "b": {"c": 2}}})),
            json!({"f:nested": {"f:a": {}, "f:b": {"f:c": {}}}})
        );
    }

    #[test]
    fn items_are_owned_with_their_keys_defaulted_ones_included() {
        assert_eq!(
            fields(json!({"ports": [{"port": 80}], "items": [{"name": "a", "value": "1"}]})),
            json!({
                "f:items": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:value": {}}},
                "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
            })
        );
    }

    #[test]
    fn atomic_lists_and_maps_are_one_field() {
        assert_eq!(
            fields(json!({"atomic": [{"name": "a"}], "whole": {"a": "b"}})),
            json!({"f:atomic": {}, "f:whole": {}})
        );
    }

    #[test]
    fn nulls_and_empty_maps_are_owned_and_empty_lists_are_not() {
        assert_eq!(
            fields(json!({"nested": {}, "labels": {}, "text": null, "items": null, "set": []})),
            json!({"f:items": {}, "f:labels": {}, "f:nested": {}, "f:text": {}})
        );
    }

    #[test]
    fn values_of_sets_and_keys_of_maps_are_members() {
        assert_eq!(
            fields(json!({"set": ["b", "a"], "labels": {"x": "y"}, "structs": {"k": {"a": "1"}}})),
            json!({
                "f:labels": {"f:x": {}},
                "f:set": {"v:\"a\"": {}, "v:\"b\"": {}},
                "f:structs": {"f:k": {".": {}, "f:a": {}}},
            })
        );
    }

    #[test]
    fn unknown_ground_is_owned_leaf_by_leaf_and_its_lists_whole() {
        assert_eq!(
            fields(json!({"free": {"a": 1, "b": {"c": [1, {"d": 2}]}, "e": {}, "l": []}})),
            json!({"f:free": {"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:e": {}, "f:l": {}}})
        );
    }

    #[test]
    fn items_that_cannot_be_told_apart_are_owned_as_one() {
        assert_eq!(
            fields(
                json!({"items": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}, {"name": "b"}]})
            ),
            json!({"f:items": {"k:{\"name\":\"a\"}": {}, "k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}})
        );
    }
}
