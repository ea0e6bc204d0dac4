//! What holds after any sequence of writes.

use proptest::prelude::*;

use super::*;
use crate::fieldset::{Managers, Set};

#[derive(Clone, Debug)]
enum Write {
    Apply { manager: usize, spec: Value, force: bool },
    Update { manager: usize, spec: Value },
}

fn spec() -> impl Strategy<Value = Value> {
    let text = prop::option::of("[ab]");
    let labels = prop::collection::btree_map("[xyz]", "[ab]", 0..3);
    let set = prop::collection::btree_set("[abc]", 0..3);
    let items =
        prop::collection::btree_map("[abc]", (prop::option::of("[12]"), prop::option::of("[12]")), 0..3);
    let atomic = prop::option::of(prop::collection::vec("[ab]", 0..2));
    let free = prop::option::of(prop_oneof![
        Just(json!("scalar")),
        "[ab]".prop_map(|key| json!({ key: 1 })),
        "[ab]".prop_map(|key| json!({"deep": {key: [1]}})),
    ]);
    (text, labels, set, items, atomic, free).prop_map(|(text, labels, set, items, atomic, free)| {
        let mut spec = Map::new();
        if let Some(text) = text {
            spec.insert("text".into(), json!(text));
        }
        if !labels.is_empty() {
            spec.insert("labels".into(), json!(labels));
        }
        if !set.is_empty() {
            spec.insert("set".into(), json!(set));
        }
        if !items.is_empty() {
            let items: Vec<_> = items
                .into_iter()
                .map(|(name, (value, sub))| {
                    let mut item = json!({ "name": name });
                    if let Some(value) = value {
                        item["value"] = json!(value);
                    }
                    if let Some(sub) = sub {
                        item["sub"] = json!({ "a": sub });
                    }
                    item
                })
                .collect();
            spec.insert("items".into(), json!(items));
        }
        if let Some(atomic) = atomic {
            spec.insert("atomic".into(), atomic.into_iter().map(|name| json!({ "name": name })).collect());
        }
        if let Some(free) = free {
            spec.insert("free".into(), json!({ "v": free }));
        }
        Value::Object(spec)
    })
}

/// An empty spec is left out: an empty map that is owned and one that lost its last field are null for a merge.
fn patch_of(spec: &Value) -> Value {
    if *spec == json!({}) { thing(json!({})) } else { thing(json!({ "spec": spec })) }
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (0..3usize, spec(), any::<bool>()).prop_map(|(manager, spec, force)| Write::Apply { manager, spec, force }),
        1 => (0..2usize, spec()).prop_map(|(manager, spec)| Write::Update { manager, spec }),
    ]
}

/// The object without what is only bookkeeping.
fn content(world: &World) -> Value {
    let mut object = world.object.clone().unwrap();
    Managers::new().store(&mut object);
    object
}

/// Whether nothing but nulls is at the ends of a value; an empty map is an end that is no null.
fn holds_only_nulls(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => !items.is_empty() && items.iter().all(holds_only_nulls),
        Value::Object(fields) => !fields.is_empty() && fields.values().all(holds_only_nulls),
        _ => false,
    }
}

fn check(world: &World) {
    let object = world.object.as_ref().unwrap();
    let managers = Managers::of(object).unwrap();
    let there = ty().with_named_fields(&ty().field_set(object));
    let mut owned = Set::new();
    for (id, entry) in managers.iter() {
        assert!(!entry.set.is_empty(), "{id} owns nothing");
        let entry_set = entry.set.leaves();
        assert!(
            entry_set.is_subset(&there),
            "{id} owns what is not there: {:?}",
            entry_set.difference(&there).paths()
        );
        owned = owned.union(&entry.set);
    }
    // Every leaf was written by somebody who still owns it, but for nulls in place of what lost its last field.
    let leaves = ty().field_set(&json!({"spec": object["spec"]})).leaves();
    let orphans = ty().extract(object, &leaves.difference(&owned), false);
    assert!(holds_only_nulls(&orphans), "nobody owns {orphans}");
    let encoded = managers.encode();
    assert_eq!(encoded.as_ref(), object.pointer("/metadata/managedFields"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn owners_and_objects_stay_in_step(writes in prop::collection::vec(write(), 1..10)) {
        let mut world = World::new();
        // Nulls stay, so that whoever owns what became null still owns something.
        world.stored = stored_with_nulls;
        world.update("first", json!({}));
        for write in writes {
            let before = world.object.clone();
            match write {
                Write::Update { manager, spec } => {
                    let name = format!("u{manager}");
                    world.update(&name, spec.clone());
                    prop_assert_eq!(world.spec(), spec.clone());
                    let stored = world.object.clone();
                    world.update("again", spec);
                    prop_assert_eq!(&world.object, &stored, "an update of what is there changes nothing");
                }
                Write::Apply { manager, spec, force } => {
                    let name = format!("m{manager}");
                    let patch = patch_of(&spec);
                    match world.apply_object(&name, patch, force) {
                        Ok(()) => {
                            let applied = content(&world);
                            let live = world.object.clone();
                            // What was applied is there, and once is as good as twice.
                            let patch = patch_of(&spec);
                            prop_assert!(ty().compare(&patch, &applied).modified.is_empty());
                            let there = ty().with_named_fields(&ty().field_set(&applied));
                            prop_assert!(ty().field_set(&patch).is_subset(&there));
                            world.apply_object(&name, patch, false).unwrap();
                            prop_assert_eq!(&world.object, &live, "an apply of what was applied changes nothing");
                        }
                        Err(ApplyError::Conflict(conflicts)) => {
                            prop_assert!(!force);
                            prop_assert!(!conflicts.0.is_empty());
                            prop_assert_eq!(&world.object, &before, "a refused apply changes nothing");
                            world.apply_object(&name, patch_of(&spec), true).unwrap();
                            // Conflicts end with force.
                            world.apply_object(&name, patch_of(&spec), false).unwrap();
                        }
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
            }
            check(&world);
        }
    }
}
