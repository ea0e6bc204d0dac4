//! Merging an applied object over a live one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ty::{Kind, Relation, Ty};
use super::validate::{FieldError, FieldErrors};
use crate::fieldset::path::PathElement;

pub(super) fn merge(ty: Ty<'_>, live: &Value, applied: &Value) -> Result<Value, FieldErrors> {
    let mut errors = Vec::new();
    let merged = both(ty, live, applied, &mut errors);
    if errors.is_empty() { Ok(merged) } else { Err(FieldErrors(errors)) }
}

/// Whether a value has nothing in it, as the given container.
fn empty_map(value: &Value) -> bool {
    value.as_object().is_none_or(Map::is_empty)
}

fn empty_list(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

fn both(ty: Ty<'_>, live: &Value, applied: &Value, errors: &mut Vec<FieldError>) -> Value {
    match ty.kind(applied) {
        Kind::Scalar => applied.clone(),
        // Two empty ones are a leaf, so that null and empty stay different.
        Kind::Map if ty.map_atomic() || (empty_map(live) && empty_map(applied)) => applied.clone(),
        Kind::Map => match (live, applied) {
            (Value::Object(live), Value::Object(applied)) => map(ty, live, applied, errors),
            (_, Value::Object(_)) => applied.clone(),
            _ => live.clone(),
        },
        Kind::List
            if matches!(ty.list().relation, Relation::Atomic)
                || (empty_list(live) && empty_list(applied)) =>
        {
            applied.clone()
        }
        Kind::List => match (live, applied) {
            (Value::Array(live), Value::Array(applied)) => list(ty, live, applied, errors),
            (_, Value::Array(_)) => applied.clone(),
            _ => live.clone(),
        },
    }
}

fn map(
    ty: Ty<'_>,
    live: &Map<String, Value>,
    applied: &Map<String, Value>,
    errors: &mut Vec<FieldError>,
) -> Value {
    let mut out = Map::new();
    for (name, mine) in live {
        let merged = match applied.get(name) {
            None => mine.clone(),
            Some(theirs) => match ty.child(name) {
                Some(child) => both(child.ty, mine, theirs, errors),
                None => theirs.clone(),
            },
        };
        out.insert(name.clone(), merged);
    }
    for (name, theirs) in applied {
        if !live.contains_key(name) {
            out.insert(name.clone(), theirs.clone());
        }
    }
    Value::Object(out)
}

/// The items of one side by their names.
struct Index {
    elements: Vec<PathElement>,
    /// Where each element is; none where items share it.
    places: BTreeMap<PathElement, Option<usize>>,
}

fn index(ty: Ty<'_>, items: &[Value], duplicates: bool, errors: &mut Vec<FieldError>) -> Index {
    let list = ty.list();
    let mut out = Index { elements: Vec::with_capacity(items.len()), places: BTreeMap::new() };
    let mut fault = |message| errors.push(FieldError { path: String::new(), message });
    for (i, item) in items.iter().enumerate() {
        let element = match list.element(item) {
            Ok(element) => element,
            Err(why) => {
                fault(format!("element {i}: {why}"));
                continue;
            }
        };
        match out.places.get_mut(&element) {
            None => {
                out.places.insert(element.clone(), Some(i));
            }
            Some(_) if !duplicates => {
                fault(format!("duplicate entries for key {element}"));
                continue;
            }
            Some(place) => *place = None,
        }
        out.elements.push(element);
    }
    out
}

fn list(ty: Ty<'_>, live: &[Value], applied: &[Value], errors: &mut Vec<FieldError>) -> Value {
    let faults = errors.len();
    let right = index(ty, applied, false, errors);
    let left = index(ty, live, true, errors);
    if errors.len() > faults {
        return Value::Array(applied.to_vec());
    }
    let item = ty.list().item;
    // Items of both sides, in the order of the applied one: between two of them go the live items that stand
    // between them.
    let shared: Vec<_> = right.elements.iter().filter(|element| left.places.contains_key(element)).collect();
    let mut next_shared = 0;
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let mut join = |at: usize, out: &mut Vec<Value>| {
        let live = left.places.get(&right.elements[at]).copied().flatten().map(|place| &live[place]);
        out.push(match live {
            Some(live) => both(item, live, &applied[at], errors),
            None => applied[at].clone(),
        });
    };
    let mut done = vec![false; applied.len()];
    let (mut l, mut r) = (0, 0);
    while l < left.elements.len() || r < right.elements.len() {
        let mine = left.elements.get(l);
        let place = mine.and_then(|element| right.places.get(element).copied().flatten());
        if let (Some(mine), Some(theirs)) = (mine, right.elements.get(r)) {
            if mine == theirs {
                join(r, &mut out);
                done[r] = true;
                l += 1;
                r += 1;
                next_shared += 1;
                continue;
            }
            if place.is_some() && shared.get(next_shared).is_some_and(|shared| *shared != mine) {
                // Another shared item comes first.
                l += 1;
                continue;
            }
        }
        if mine.is_some() {
            match place {
                None => {
                    out.push(live[l].clone());
                    l += 1;
                    continue;
                }
                Some(place) if done[place] => l += 1,
                Some(_) => {}
            }
        }
        if let Some(theirs) = right.elements.get(r) {
            join(r, &mut out);
            done[r] = true;
            if shared.get(next_shared).is_some_and(|shared| *shared == theirs) {
                next_shared += 1;
            }
            r += 1;
        }
    }
    if out.is_empty() { Value::Null } else { Value::Array(out) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ty;
    use super::*;

    fn merged(live: Value, applied: Value) -> Value {
        let merged = ty().merge(&json!({ "spec": live }), &json!({ "spec": applied })).unwrap();
        merged["spec"].clone()
    }

    fn named(names: &str) -> Value {
        names.chars().map(|c| json!({"name": c.to_string()})).collect()
    }

    fn order(live: &str, applied: &str) -> String {
        let items = merged(json!({"items": named(live)}), json!({"items": named(applied)}));
        let items: String =
            items["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        let split = |s: &str| s.chars().map(|c| c.to_string()).collect::<Vec<_>>();
        let set = merged(json!({"set": split(live)}), json!({"set": split(applied)}));
        assert_eq!(set["set"], json!(split(&items)), "sets merge as keyed lists do");
        items
    }

    #[test]
    fn applied_leaves_win_and_nothing_goes_away() {
        assert_eq!(
            merged(
                json!({"text": "a", "labels": {"x": "1", "y": "2"}}),
                json!({"labels": {"y": "3", "z": "4"}})
            ),
            json!({"text": "a", "labels": {"x": "1", "y": "3", "z": "4"}})
        );
    }

    #[test]
    fn items_merge_by_their_keys() {
        assert_eq!(
            merged(
                json!({"ports": [{"port": 80, "protocol": "TCP", "name": "a"}, {"port": 80, "protocol": "UDP"}]}),
                json!({"ports": [{"port": 80, "target": 8080}]})
            ),
            json!({"ports": [{"port": 80, "protocol": "TCP", "name": "a", "target": 8080}, {"port": 80, "protocol": "UDP"}]})
        );
    }

    #[test]
    fn the_order_of_the_applied_list_wins_with_the_others_among_it() {
        assert_eq!(order("ab", "c"), "abc");
        assert_eq!(order("abc", "b"), "abc");
        assert_eq!(order("abc", "cb"), "acb");
        assert_eq!(order("abc", "xcay"), "bxcay");
        assert_eq!(order("", "ba"), "ba");
        assert_eq!(order("ab", ""), "ab");
        assert_eq!(order("abcd", "dcba"), "dcba");
        assert_eq!(order("1a2b3", "ba"), "12b3a");
    }

    #[test]
    fn atomic_values_are_replaced() {
        assert_eq!(
            merged(
                json!({"atomic": [{"name": "a"}], "whole": {"a": "b"}}),
                json!({"atomic": [{"name": "b"}], "whole": {"c": "d"}})
            ),
            json!({"atomic": [{"name": "b"}], "whole": {"c": "d"}})
        );
    }

    #[test]
    fn null_replaces_a_leaf_but_not_what_has_fields() {
        assert_eq!(
            merged(
                json!({"text": "a", "labels": {"x": "1"}, "set": ["a"]}),
                json!({"text": null, "labels": null, "set": null})
            ),
            json!({"text": null, "labels": {"x": "1"}, "set": ["a"]})
        );
        assert_eq!(
            merged(json!({"labels": {}, "set": []}), json!({"labels": null, "set": null})),
            json!({"labels": null, "set": null})
        );
    }

    #[test]
    fn unknown_ground_can_change_its_shape() {
        assert_eq!(
            merged(json!({"free": {"a": {"b": 1}}}), json!({"free": {"a": "x"}})),
            json!({"free": {"a": "x"}})
        );
        assert_eq!(
            merged(json!({"free": {"a": [1]}}), json!({"free": {"a": {"b": 1}}})),
            json!({"free": {"a": {"b": 1}}})
        );
    }

    #[test]
    fn doubled_live_items_give_way_to_an_applied_one() {
        assert_eq!(
            merged(
                json!({"items": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}, {"name": "b"}]}),
                json!({"items": [{"name": "a", "value": "3"}]})
            ),
            json!({"items": [{"name": "a", "value": "3"}, {"name": "b"}]})
        );
        let twice = json!({"items": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]});
        assert_eq!(merged(twice.clone(), json!({"items": []})), twice);
    }
}
