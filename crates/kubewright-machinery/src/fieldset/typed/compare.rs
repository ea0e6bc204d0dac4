//! What differs between two objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ty::{Kind, Relation, Ty};
use crate::fieldset::path::PathElement;
use crate::fieldset::set::Set;
use crate::fieldset::value;

/// The differences between two objects, as sets of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Fields, items and keys that only the old object has, with all below them.
    pub removed: Set,
    /// Leaves with another value.
    pub modified: Set,
    /// Fields, items and keys that only the new object has, with all below them.
    pub added: Set,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// The same sets, each through a filter.
    pub fn map(self, filter: impl Fn(Set) -> Set) -> Self {
        Self { removed: filter(self.removed), modified: filter(self.modified), added: filter(self.added) }
    }

    fn union(&self, other: &Self) -> Self {
        Self {
            removed: self.removed.union(&other.removed),
            modified: self.modified.union(&other.modified),
            added: self.added.union(&other.added),
        }
    }
}

/// A value on both sides: whether it is a leaf that was modified, and what differs below.
#[derive(Default)]
struct Both {
    modified: bool,
    below: Comparison,
}

/// A level in the making.
#[derive(Default)]
struct Parts {
    removed: (Vec<PathElement>, Vec<(PathElement, Set)>),
    modified: (Vec<PathElement>, Vec<(PathElement, Set)>),
    added: (Vec<PathElement>, Vec<(PathElement, Set)>),
}

impl Parts {
    fn remove(&mut self, element: &PathElement, below: Set) {
        self.removed.0.push(element.clone());
        self.removed.1.push((element.clone(), below));
    }

    fn add(&mut self, element: &PathElement, below: Set) {
        self.added.0.push(element.clone());
        self.added.1.push((element.clone(), below));
    }

    /// `element` is made only where something differs: most of an object stays as it is.
    fn change(&mut self, element: impl FnOnce() -> PathElement, found: Both) {
        if !found.modified && found.below.is_same() {
            return;
        }
        let element = element();
        if found.modified {
            self.modified.0.push(element.clone());
        }
        let Comparison { removed, modified, added } = found.below;
        for (below, children) in
            [(removed, &mut self.removed.1), (modified, &mut self.modified.1), (added, &mut self.added.1)]
        {
            if !below.is_empty() {
                children.push((element.clone(), below));
            }
        }
    }

    fn finish(self) -> Comparison {
        Comparison {
            removed: Set::from_parts(self.removed.0, self.removed.1),
            modified: Set::from_parts(self.modified.0, self.modified.1),
            added: Set::from_parts(self.added.0, self.added.1),
        }
    }
}

pub(super) fn compare(ty: Ty<'_>, old: &Value, new: &Value) -> Comparison {
    both(ty, old, new).below
}

fn both(ty: Ty<'_>, old: &Value, new: &Value) -> Both {
    let (before, after) = (ty.kind(old), ty.kind(new));
    let found = walk(ty, after, old, new);
    if before == after {
        return found;
    }
    // The value took another form: what it was goes as well.
    let other = walk(ty, before, old, new);
    Both { modified: found.modified || other.modified, below: found.below.union(&other.below) }
}

fn leaf(old: &Value, new: &Value) -> Both {
    Both { modified: !value::equal(old, new), below: Comparison::default() }
}

fn walk(ty: Ty<'_>, kind: Kind, old: &Value, new: &Value) -> Both {
    static NO_FIELDS: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    match kind {
        Kind::Scalar => leaf(old, new),
        Kind::Map => {
            let before = old.as_object().unwrap_or(&NO_FIELDS);
            let after = new.as_object().unwrap_or(&NO_FIELDS);
            if ty.map_atomic() || (before.is_empty() && after.is_empty()) {
                return leaf(old, new);
            }
            Both { modified: false, below: map(ty, before, after) }
        }
        Kind::List => {
            let before = old.as_array().map_or(&[][..], Vec::as_slice);
            let after = new.as_array().map_or(&[][..], Vec::as_slice);
            if matches!(ty.list().relation, Relation::Atomic) || (before.is_empty() && after.is_empty()) {
                return leaf(old, new);
            }
            Both { modified: false, below: list(ty, before, after) }
        }
    }
}

fn map(ty: Ty<'_>, before: &Map<String, Value>, after: &Map<String, Value>) -> Comparison {
    let mut parts = Parts::default();
    for (name, old) in before {
        let element = || PathElement::field(name);
        let child = ty.child(name);
        match (after.get(name), child) {
            (None, _) => parts.remove(&element(), child.map_or(Set::EMPTY, |child| all_below(child.ty, old))),
            (Some(new), Some(child)) => parts.change(element, both(child.ty, old, new)),
            (Some(new), None) => parts.change(element, leaf(old, new)),
        }
    }
    for (name, new) in after {
        if !before.contains_key(name) {
            let below = ty.child(name).map_or(Set::EMPTY, |child| all_below(child.ty, new));
            parts.add(&PathElement::field(name), below);
        }
    }
    parts.finish()
}

fn list(ty: Ty<'_>, before: &[Value], after: &[Value]) -> Comparison {
    let list = ty.list();
    let mut items: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in before {
        if let Ok(element) = list.element(item) {
            items.entry(element).or_default().0.push(item);
        }
    }
    for item in after {
        if let Ok(element) = list.element(item) {
            items.entry(element).or_default().1.push(item);
        }
    }
    let mut parts = Parts::default();
    for (element, (old, new)) in &items {
        match (old.as_slice(), new.as_slice()) {
            ([old], [new]) => parts.change(|| element.clone(), both(list.item, old, new)),
            ([old], []) => parts.remove(element, all_below(list.item, old)),
            ([], [new]) => parts.add(element, all_below(list.item, new)),
            // Items that can't be told apart are one thing.
            ([_, _, ..], [_, _, ..]) => {
                let same = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| value::equal(a, b));
                parts.change(|| element.clone(), Both { modified: !same, below: Comparison::default() });
            }
            (_, [new]) => {
                parts.add(element, all_below(list.item, new));
                parts.remove(element, Set::EMPTY);
            }
            ([old], _) => {
                parts.remove(element, all_below(list.item, old));
                parts.add(element, Set::EMPTY);
            }
            (_, []) => parts.remove(element, Set::EMPTY),
            ([], _) => parts.add(element, Set::EMPTY),
        }
    }
    parts.finish()
}

/// Everything below a value that is on one side only: leaves and what holds them.
fn all_below(ty: Ty<'_>, value: &Value) -> Set {
    let (mut members, mut children) = (Vec::new(), Vec::new());
    match (ty.kind(value), value) {
        (Kind::Map, Value::Object(fields)) if !ty.map_atomic() => {
            for (name, field) in fields {
                let element = PathElement::field(name);
                let below = ty.child(name).map_or(Set::EMPTY, |child| all_below(child.ty, field));
                members.push(element.clone());
                children.push((element, below));
            }
        }
        (Kind::List, Value::Array(items)) if !matches!(ty.list().relation, Relation::Atomic) => {
            let list = ty.list();
            let mut counts: BTreeMap<PathElement, (usize, &Value)> = BTreeMap::new();
            for item in items {
                if let Ok(element) = list.element(item) {
                    counts.entry(element).or_insert((0, item)).0 += 1;
                }
            }
            for (element, (count, item)) in counts {
                if count == 1 {
                    children.push((element.clone(), all_below(list.item, item)));
                }
                members.push(element);
            }
        }
        _ => {}
    }
    Set::from_parts(members, children)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ty;
    use super::*;

    fn compared(old: Value, new: Value) -> [Value; 3] {
        let found = ty().compare(&json!({ "spec": old }), &json!({ "spec": new }));
        [found.removed, found.modified, found.added]
            .map(|set| set.to_value().get("f:spec").cloned().unwrap_or(Value::Null))
    }

    #[test]
    fn changed_leaves_are_modified_and_what_comes_or_goes_is_added_or_removed() {
        assert_eq!(
            compared(
                json!({"text": "a", "flag": true, "nested": {"a": "1"}}),
                json!({"text": "b", "nested": {"a": "1", "b": {"c": 1}}})
            ),
            [
                json!({"f:flag": {}}),
                json!({"f:text": {}}),
                json!({"f:nested": {"f:b": {".": {}, "f:c": {}}}})
            ]
        );
    }

    #[test]
    fn the_order_of_keyed_items_and_of_sets_is_no_difference() {
        let old = json!({"items": [{"name": "a"}, {"name": "b"}], "set": ["a", "b"], "atomic": [{"name": "a"}, {"name": "b"}]});
        let new = json!({"items": [{"name": "b"}, {"name": "a"}], "set": ["b", "a"], "atomic": [{"name": "b"}, {"name": "a"}]});
        assert_eq!(compared(old, new), [Value::Null, json!({"f:atomic": {}}), Value::Null]);
    }

    #[test]
    fn an_item_that_comes_is_added_with_all_it_holds() {
        assert_eq!(
            compared(json!({}), json!({"items": [{"name": "a", "sub": {"a": "1"}}], "labels": {"x": "y"}}))
                [2],
            json!({
                "f:items": {".": {}, "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:sub": {".": {}, "f:a": {}}}},
                "f:labels": {".": {}, "f:x": {}},
            })
        );
    }

    #[test]
    fn a_changed_shape_removes_what_was_and_modifies_the_field() {
        assert_eq!(
            compared(json!({"free": {"a": {"b": 1}}}), json!({"free": {"a": "x"}})),
            [json!({"f:free": {"f:a": {"f:b": {}}}}), json!({"f:free": {"f:a": {}}}), Value::Null]
        );
    }

    #[test]
    fn doubled_items_are_one_thing() {
        let twice = |v: &str| json!({"items": [{"name": "a", "value": v}, {"name": "a"}]});
        let once = json!({"items": [{"name": "a", "value": "1"}]});
        let item = json!({"f:items": {"k:{\"name\":\"a\"}": {}}});
        let whole = json!({"f:items": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:value": {}}}});
        assert_eq!(compared(twice("1"), twice("1")), [Value::Null, Value::Null, Value::Null]);
        assert_eq!(compared(twice("1"), twice("2")), [Value::Null, item.clone(), Value::Null]);
        assert_eq!(compared(twice("1"), once.clone()), [item.clone(), Value::Null, whole.clone()]);
        assert_eq!(compared(once, twice("1")), [whole, Value::Null, item]);
    }

    #[test]
    fn whole_floats_and_integers_are_the_same() {
        assert_eq!(
            compared(json!({"numbers": [1, 2.0]}), json!({"numbers": [1.0, 2]})),
            [Value::Null, Value::Null, Value::Null]
        );
    }
}
