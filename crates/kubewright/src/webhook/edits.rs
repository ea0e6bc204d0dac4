//! Carries what a typed mutator changed over to the object as it was sent. A type may not know every field of the
//! object (the cluster may be newer), and may write out fields that were not sent: neither is the mutator's doing.
//!
//! `before` and `after` are the typed object written out, before and after; `sent` is the object. Pure.

use kubewright_machinery::patch::diff::common;
use serde_json::Value;

/// Does to `sent` what leads from `before` to `after`. Costs recursion as deep as the typed object is.
pub(super) fn carry(before: &Value, after: &Value, sent: &mut Value) {
    match (before, after, sent) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after), Value::Object(sent)) => {
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                sent.remove(key);
            }
            for (key, new) in after {
                match (before.get(key), sent.get_mut(key)) {
                    (Some(old), _) if old == new => {}
                    (Some(old), Some(sent)) => carry(old, new, sent),
                    _ => drop(sent.insert(key.clone(), new.clone())),
                }
            }
        }
        // The type may have read another number of items than there are: then they can't be told apart.
        (Value::Array(before), Value::Array(after), Value::Array(sent)) if before.len() == sent.len() => {
            *sent = carry_items(before, after, sent);
        }
        (_, after, sent) => *sent = after.clone(),
    }
}

/// Items that are the same, or have the same name, keep what the type does not know of them.
fn carry_items(before: &[Value], after: &[Value], sent: &[Value]) -> Vec<Value> {
    let (start, end) = common(before, after);
    let old = start..before.len() - end;
    let new = &after[start..after.len() - end];
    let in_place = old.len() == new.len();
    let mut free: Vec<usize> = old.clone().collect();
    let mut items: Vec<Value> = sent[..start].to_vec();
    for (i, item) in new.iter().enumerate() {
        let equal = free.iter().position(|at| before[*at] == *item);
        let named = || {
            let name = item.get("name").filter(|name| name.is_string())?;
            free.iter().position(|at| before[*at].get("name") == Some(name))
        };
        let beside = || {
            let unnamed = item.get("name").is_none();
            (in_place && unnamed).then(|| free.iter().position(|at| *at == start + i)).flatten()
        };
        items.push(match equal.or_else(named).or_else(beside) {
            Some(found) => {
                let at = free.remove(found);
                let mut kept = sent[at].clone();
                carry(&before[at], item, &mut kept);
                kept
            }
            None => item.clone(),
        });
    }
    items.extend_from_slice(&sent[sent.len() - end..]);
    items
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn carried(before: Value, after: Value, mut sent: Value) -> Value {
        carry(&before, &after, &mut sent);
        sent
    }

    #[test]
    fn fields_that_the_type_does_not_know_stay() {
        let sent = json!({"spec": {"image": "a", "newer": {"x": 1}}, "newest": true});
        let result = carried(json!({"spec": {"image": "a"}}), json!({"spec": {"image": "b"}}), sent);
        assert_eq!(result, json!({"spec": {"image": "b", "newer": {"x": 1}}, "newest": true}));
    }

    #[test]
    fn fields_that_the_type_writes_out_by_itself_are_not_sent_back() {
        let before = json!({"spec": {"replicas": 0, "paused": false}, "status": {}});
        let after = json!({"spec": {"replicas": 3, "paused": false}, "status": {}});
        assert_eq!(carried(before, after, json!({})), json!({"spec": {"replicas": 3, "paused": false}}));
        let before = json!({"spec": {"replicas": 0}});
        let after = json!({"spec": {"replicas": 3}});
        assert_eq!(carried(before, after, json!({"spec": {}})), json!({"spec": {"replicas": 3}}));
    }

    #[test]
    fn items_are_known_by_their_names() {
        let before = json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]);
        let after = json!([{"name": "sidecar"}, {"name": "b", "image": "2"}, {"name": "a", "image": "1"}]);
        let sent =
            json!([{"name": "a", "image": "1", "newer": "a"}, {"name": "b", "image": "1", "newer": "b"}]);
        assert_eq!(
            carried(before, after, sent),
            json!([{"name": "sidecar"}, {"name": "b", "image": "2", "newer": "b"}, {"name": "a", "image": "1", "newer": "a"}])
        );
    }

    #[test]
    fn removed_fields_and_items_go() {
        let sent = json!({"a": [1, 2, 3], "b": 1, "c": 1});
        let result = carried(json!({"a": [1, 2, 3], "b": 1}), json!({"a": [1, 3]}), sent);
        assert_eq!(result, json!({"a": [1, 3], "c": 1}));
    }

    use proptest::prelude::*;

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![(0..3u8).prop_map(Value::from), "[ab]".prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]|name", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Where the type knows everything, the result is what the mutator made.
        #[test]
        fn an_object_that_the_type_knows_wholly_becomes_the_mutated_one(from in documents(), to in documents()) {
            prop_assert_eq!(carried(from.clone(), to.clone(), from), to);
        }

        /// An unknown field beside survives any change of the known ones.
        #[test]
        fn an_unknown_field_survives(from in documents(), to in documents()) {
            let wrap = |inner: &Value| json!({"known": inner});
            let mut sent = wrap(&from);
            sent["unknown"] = json!(1);
            prop_assert_eq!(carried(wrap(&from), wrap(&to), sent), json!({"known": to, "unknown": 1}));
        }
    }
}
