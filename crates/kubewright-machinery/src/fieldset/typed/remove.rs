//! Taking fields out of an object, and taking them alone.

use serde_json::{Map, Value};

use super::ty::{Kind, Relation, Ty};
use crate::fieldset::path::PathElement;
use crate::fieldset::set::Set;

/// A container that had nothing left, was atomic with something to remove in it, or held nothing from the start
/// becomes null: its owner decides whether the field stays.
pub(super) fn remove(ty: Ty<'_>, value: &Value, fields: &Set) -> Value {
    match (ty.kind(value), value) {
        (Kind::Scalar, _) => value.clone(),
        (Kind::Map, Value::Object(map)) if !ty.map_atomic() => {
            let mut out = Map::new();
            for (name, field) in map {
                let element = PathElement::field(name);
                if fields.has_member(&element) {
                    continue;
                }
                let kept = match (fields.child(&element), ty.child(name)) {
                    (Some(below), Some(child)) => remove(child.ty, field, below),
                    _ => field.clone(),
                };
                out.insert(name.clone(), kept);
            }
            if out.is_empty() { Value::Null } else { Value::Object(out) }
        }
        (Kind::List, Value::Array(items)) if !matches!(ty.list().relation, Relation::Atomic) => {
            let list = ty.list();
            let kept: Vec<_> = items
                .iter()
                .filter_map(|item| {
                    let Ok(element) = list.element(item) else { return Some(item.clone()) };
                    if fields.has_member(&element) {
                        return None;
                    }
                    Some(
                        fields
                            .child(&element)
                            .map_or_else(|| item.clone(), |below| remove(list.item, item, below)),
                    )
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        (Kind::Map | Kind::List, _) => Value::Null,
    }
}

pub(super) fn extract(ty: Ty<'_>, object: &Value, fields: &Set, keys: bool) -> Value {
    if !keys {
        return only(ty, object, fields);
    }
    let there = super::set_of::set_of(ty, object);
    let mut with_keys = Set::new();
    fields.for_each(|path| {
        if !there.has(path) {
            return;
        }
        for (i, element) in path.iter().enumerate() {
            if let PathElement::Key(names) = element {
                for (name, _) in names.iter() {
                    let mut key = path[..=i].to_vec();
                    key.push(PathElement::field(name));
                    with_keys.insert(&key);
                }
            }
        }
    });
    only(ty, object, &fields.union(&with_keys))
}

fn only(ty: Ty<'_>, value: &Value, fields: &Set) -> Value {
    match (ty.kind(value), value) {
        (Kind::Map, Value::Object(map)) if !ty.map_atomic() && !map.is_empty() => {
            let mut out = Map::new();
            for (name, field) in map {
                let element = PathElement::field(name);
                let kept = match (fields.child(&element), ty.child(name)) {
                    (Some(below), Some(child)) => only(child.ty, field, below),
                    _ if fields.has_member(&element) => field.clone(),
                    _ => continue,
                };
                out.insert(name.clone(), kept);
            }
            if out.is_empty() { Value::Null } else { Value::Object(out) }
        }
        (Kind::List, Value::Array(items))
            if !matches!(ty.list().relation, Relation::Atomic) && !items.is_empty() =>
        {
            let list = ty.list();
            let kept: Vec<_> = items
                .iter()
                .filter_map(|item| {
                    let element = list.element(item).ok()?;
                    match fields.child(&element) {
                        Some(below) => Some(only(list.item, item, below)),
                        None => fields.has_member(&element).then(|| item.clone()),
                    }
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ty;
    use super::*;

    fn object() -> Value {
        json!({"spec": {
            "text": "a",
            "labels": {"x": "1", "y": "2"},
            "items": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}],
            "set": ["a", "b"],
            "atomic": [{"name": "a"}],
        }})
    }

    fn set(spec: Value) -> Set {
        Set::from_value(&json!({ "f:spec": spec })).unwrap()
    }

    #[test]
    fn removed_fields_go_with_what_is_below_them() {
        let fields = set(json!({
            "f:labels": {"f:x": {}}, "f:items": {"k:{\"name\":\"a\"}": {}, "k:{\"name\":\"b\"}": {"f:value": {}}},
            "f:set": {"v:\"a\"": {}}, "f:atomic": {},
        }));
        assert_eq!(
            ty().remove(&object(), &fields),
            json!({"spec": {"text": "a", "labels": {"y": "2"}, "items": [{"name": "b"}], "set": ["b"]}})
        );
    }

    #[test]
    fn a_container_with_nothing_left_becomes_null() {
        let fields =
            set(json!({"f:labels": {"f:x": {}, "f:y": {}}, "f:set": {"v:\"a\"": {}, "v:\"b\"": {}}}));
        let left = ty().remove(&object(), &fields);
        assert_eq!(left["spec"]["labels"], Value::Null);
        assert_eq!(left["spec"]["set"], Value::Null);
    }

    #[test]
    fn removing_nothing_changes_nothing() {
        assert_eq!(ty().remove(&object(), &Set::new()), object());
    }

    #[test]
    fn extracted_fields_come_alone_and_items_can_keep_their_keys() {
        let fields = set(
            json!({"f:text": {}, "f:labels": {"f:x": {}}, "f:items": {"k:{\"name\":\"b\"}": {"f:value": {}}}}),
        );
        let alone = json!({"spec": {"text": "a", "labels": {"x": "1"}, "items": [{"value": "2"}]}});
        assert_eq!(ty().extract(&object(), &fields, false), alone);
        let keyed =
            json!({"spec": {"text": "a", "labels": {"x": "1"}, "items": [{"name": "b", "value": "2"}]}});
        assert_eq!(ty().extract(&object(), &fields, true), keyed);
    }

    #[test]
    fn what_an_object_sets_is_the_object() {
        let object = object();
        assert_eq!(ty().extract(&object, &ty().field_set(&object), false), object);
    }
}
