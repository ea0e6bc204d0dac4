//! The JSON patch (RFC 6902) that leads from one document to another. Two documents flow in, operations come out; what
//! they apply to is the first document, exactly as it was given.
//!
//! Members of objects are compared by name. Of lists the common beginning and end are left alone, and what is between
//! is compared place by place: short patches for what people change, never the shortest one at any price.

use serde_json::{Value, json};

use super::json::MAX_OPERATIONS;

/// The operations (`add`, `remove`, `replace`) that turn `from` into `to`, to be done in order. None where both are
/// equal. A change too large for the [`MAX_OPERATIONS`] of a patch replaces whole members instead.
///
/// Costs time in proportion to the documents, and recursion as deep as they are.
pub fn diff(from: &Value, to: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare(&mut String::new(), from, to, &mut operations);
    if operations.len() > MAX_OPERATIONS {
        operations = coarse(from, to);
    }
    operations
}

fn compare(path: &mut String, from: &Value, to: &Value, out: &mut Vec<Value>) {
    match (from, to) {
        _ if from == to => {}
        (Value::Object(before), Value::Object(after)) => {
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                at(path, key, |path| out.push(json!({"op": "remove", "path": &*path})));
            }
            for (key, value) in after {
                at(path, key, |path| match before.get(key) {
                    Some(old) => compare(path, old, value, out),
                    None => out.push(json!({"op": "add", "path": &*path, "value": value})),
                });
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let (start, end) = common(before, after);
            let (old, new) = (&before[start..before.len() - end], &after[start..after.len() - end]);
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                at(path, &(start + i).to_string(), |path| compare(path, old, new, out));
            }
            for i in (new.len()..old.len()).rev() {
                at(path, &(start + i).to_string(), |path| out.push(json!({"op": "remove", "path": &*path})));
            }
            for (i, value) in new.iter().enumerate().skip(old.len()) {
                at(path, &(start + i).to_string(), |path| {
                    out.push(json!({"op": "add", "path": &*path, "value": value}));
                });
            }
        }
        _ => out.push(json!({"op": "replace", "path": &*path, "value": to})),
    }
}

/// How many items two lists have in common at their beginnings and, of the rest, at their ends.
pub fn common(before: &[Value], after: &[Value]) -> (usize, usize) {
    let start = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[start..], &after[start..]);
    (start, before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count())
}

/// Runs with the pointer to a member.
fn at(path: &mut String, token: &str, run: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(&token.replace('~', "~0").replace('/', "~1"));
    run(path);
    path.truncate(length);
}

/// Whole members in place of what changed in them.
fn coarse(from: &Value, to: &Value) -> Vec<Value> {
    let (Value::Object(before), Value::Object(after)) = (from, to) else {
        return vec![json!({"op": "replace", "path": "", "value": to})];
    };
    let mut operations = Vec::new();
    let mut path = String::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        at(&mut path, key, |path| operations.push(json!({"op": "remove", "path": &*path})));
    }
    for (key, value) in after.iter().filter(|(key, value)| before.get(*key) != Some(value)) {
        at(&mut path, key, |path| operations.push(json!({"op": "add", "path": &*path, "value": value})));
    }
    operations
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::patch::{any_json, json as patch};

    fn applied(from: &Value, to: &Value) -> Value {
        let operations = Value::from(diff(from, to)).to_string();
        let (patch, faults) = patch::parse(operations.as_bytes()).unwrap();
        assert!(faults.is_empty());
        patch.apply(from.clone()).unwrap()
    }

    #[test]
    fn a_change_in_the_middle_of_a_list_touches_nothing_else() {
        let from = json!({"c": [{"n": "a"}, {"n": "b", "x": 1}, {"n": "c"}]});
        let to = json!({"c": [{"n": "a"}, {"n": "b", "x": 2}, {"n": "c"}]});
        assert_eq!(diff(&from, &to), [json!({"op": "replace", "path": "/c/1/x", "value": 2})]);
        let longer = json!({"c": [{"n": "a"}, {"n": "b", "x": 1}, {"n": "new"}, {"n": "c"}]});
        assert_eq!(diff(&from, &longer), [json!({"op": "add", "path": "/c/2", "value": {"n": "new"}})]);
        assert_eq!(diff(&longer, &from), [json!({"op": "remove", "path": "/c/2"})]);
    }

    #[test]
    fn names_with_slashes_and_tildes_are_escaped() {
        let to = json!({"a/b": {"c~d": 1}});
        assert_eq!(diff(&json!({"a/b": {}}), &to), [json!({"op": "add", "path": "/a~1b/c~0d", "value": 1})]);
    }

    #[test]
    fn a_huge_change_still_fits_into_a_patch() {
        let numbers = |add: usize| json!({"n": (0..20_000).map(|n| n + add).collect::<Vec<_>>(), "same": 1});
        let operations = diff(&numbers(0), &numbers(30_000));
        assert_eq!(operations.len(), 1);
        assert_eq!(applied(&numbers(0), &numbers(30_000)), numbers(30_000));
    }

    fn any_object() -> impl Strategy<Value = Value> {
        any_json().prop_map(|value| if value.is_object() { value } else { json!({ "value": value }) })
    }

    proptest! {
        #[test]
        fn the_patch_leads_from_one_object_to_the_other(from in any_object(), to in any_object()) {
            prop_assert_eq!(applied(&from, &to), to);
        }

        #[test]
        fn the_patch_leads_from_one_list_to_the_other(
            from in prop::collection::vec(0..3u8, 0..8),
            to in prop::collection::vec(0..3u8, 0..8),
        ) {
            let (from, to) = (json!({"l": from}), json!({"l": to}));
            prop_assert_eq!(applied(&from, &to), to);
        }
    }
}
