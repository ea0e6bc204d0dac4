//! Several versions of a kind, and schemas that change.

use std::sync::Arc;

use super::*;
use crate::fieldset::typed::crd;
use crate::fieldset::{ConvertError, Converter, SameInAllVersions};

const V1: &str = "example.com/v1";
const V2: &str = "example.com/v2";

fn atomic() -> ObjectType {
    crd(
        json!({"list": [{"name": "string", "value": "string"}, "atomic"], "map": {"*": "string", "!": true}, "gone": "string"}),
    )
}

fn granular() -> ObjectType {
    crd(
        json!({"list": [{"name": "string", "value": "string"}, "map", "name"], "map": {"*": "string"}, "gone": "string"}),
    )
}

fn in_version(version: &str, spec: Value) -> Value {
    let mut object = thing(json!({ "spec": spec }));
    object["apiVersion"] = json!(version);
    object
}

fn manager(version: &str, versions: &[(&str, ObjectType)], converter: Arc<dyn Converter>) -> FieldManager {
    let versions = versions.iter().map(|(version, ty)| ((*version).to_string(), schema_of(ty)));
    FieldManager::new(version, "Thing", versions, converter)
}

#[test]
fn a_list_that_becomes_granular_is_shared_from_then_on() {
    let mut world = World::of(&atomic());
    world.apply("m1", json!({"list": [{"name": "a", "value": "1"}], "map": {"k": "v"}})).unwrap();
    world.fields = World::of(&granular()).fields;
    world.apply("m2", json!({"list": [{"name": "b"}]})).unwrap();
    assert_eq!(world.owns("m1"), json!({"f:list": {}, "f:map": {}}));
    world.apply("m1", json!({"list": [{"name": "a", "value": "9"}], "map": {"k": "v"}})).unwrap();
    assert_eq!(
        world.owns("m1"),
        json!({"f:list": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:map": {"f:k": {}}})
    );
    world.apply("m1", json!({})).unwrap();
    assert_eq!(world.spec(), json!({"list": [{"name": "b"}]}));
}

#[test]
fn a_list_that_becomes_atomic_is_owned_whole_by_all_its_owners() {
    let mut world = World::of(&granular());
    world.apply("m1", json!({"list": [{"name": "a"}], "map": {"k": "v"}})).unwrap();
    world.apply("m2", json!({"list": [{"name": "b"}]})).unwrap();
    world.fields = World::of(&atomic()).fields;
    assert!(
        message(world.apply("m3", json!({"list": []}))).contains("3 conflicts") || world.entries().len() == 2
    );
    world.update("u", json!({"list": [{"name": "a"}, {"name": "b"}], "map": {"k": "v"}, "gone": "x"}));
    assert_eq!(world.owns("m1"), json!({"f:list": {}, "f:map": {}}));
    assert_eq!(world.owns("m2"), json!({"f:list": {}}));
}

#[test]
fn conflicts_reach_across_versions_and_an_applier_keeps_one_entry() {
    let versions = [(V1, atomic()), (V2, granular())];
    let at = |version| manager(version, &versions, Arc::new(SameInAllVersions));
    let mut world = World::with(at(V1));
    world.apply_object("m1", in_version(V1, json!({"list": [{"name": "a"}], "gone": "x"})), false).unwrap();
    world.fields = at(V2);
    let other = in_version(V2, json!({"list": [{"name": "b"}]}));
    assert!(
        message(world.apply_object("m2", other.clone(), false)).ends_with("conflict with \"m1\": .spec.list")
    );
    world.apply_object("m2", other, true).unwrap();
    assert_eq!(world.owns("m1"), json!({"f:gone": {}}));
    world.apply_object("m1", in_version(V2, json!({"list": [{"name": "a"}], "gone": "x"})), false).unwrap();
    assert_eq!(world.managers(), ["m1/Apply", "m2/Apply"], "the apply of what is there moved no time");
    assert!(world.entries().iter().all(|entry| entry["apiVersion"] == V2));
}

/// Renames `.spec.old` of v1 to `.spec.new` of v2 and back.
struct Renames;

impl Converter for Renames {
    fn convert(&self, object: &Value, to_version: &str) -> Result<Value, ConvertError> {
        let (from, to) = match to_version {
            V1 => ("new", "old"),
            V2 => ("old", "new"),
            other => return Err(ConvertError::MissingVersion(other.into())),
        };
        let mut object = object.clone();
        object["apiVersion"] = json!(to_version);
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
            && let Some(value) = spec.remove(from)
        {
            spec.insert(to.into(), value);
        }
        Ok(object)
    }
}

#[test]
fn fields_are_pruned_in_the_version_they_were_applied_in() {
    let versions = [
        (V1, crd(json!({"old": "string", "x": "string"}))),
        (V2, crd(json!({"new": "string", "x": "string"}))),
    ];
    let at = |version| manager(version, &versions, Arc::new(Renames));
    let mut world = World::with(at(V1));
    world.apply_object("m", in_version(V1, json!({"old": "a", "x": "1"})), false).unwrap();
    world.fields = at(V2);
    let refused = world.apply_object("n", in_version(V2, json!({"new": "b"})), false);
    assert!(message(refused).ends_with("conflict with \"m\": .spec.old"));
    world.apply_object("m", in_version(V2, json!({"x": "1"})), false).unwrap();
    assert_eq!(world.spec(), json!({"x": "1"}));
    assert_eq!(world.object.as_ref().unwrap()["apiVersion"], V2);
    assert_eq!(world.owns("m"), json!({"f:x": {}}));
}

#[test]
fn entries_of_versions_that_are_gone_are_dropped() {
    let both = [(V1, atomic()), (V2, atomic())];
    let mut world = World::with(manager(V1, &both, Arc::new(SameInAllVersions)));
    world.apply_object("m", in_version(V1, json!({"gone": "x"})), false).unwrap();
    world.fields = manager(V2, &both[1..], Arc::new(SameInAllVersions));
    world.apply_object("n", in_version(V2, json!({"map": {"a": "b"}})), false).unwrap();
    assert_eq!(world.managers(), ["n/Apply"]);
}

struct Broken;

impl Converter for Broken {
    fn convert(&self, _: &Value, _: &str) -> Result<Value, ConvertError> {
        Err(ConvertError::Failed("webhook is away".into()))
    }
}

#[test]
fn a_conversion_that_fails_leaves_an_update_without_entries_and_fails_an_apply() {
    let versions = [(V1, atomic()), (V2, atomic())];
    let mut world = World::with(manager(V1, &versions, Arc::new(SameInAllVersions)));
    world.apply_object("m", in_version(V1, json!({"gone": "x"})), false).unwrap();
    world.object.as_mut().unwrap()["apiVersion"] = json!(V2);
    world.fields = manager(V2, &versions, Arc::new(Broken));
    let error = world.apply_object("n", in_version(V2, json!({"gone": "z"})), false).unwrap_err();
    assert_eq!(error.to_string(), "failed to convert old object: webhook is away");
    assert_eq!(error.to_status().code, 500);
    world.update("u", json!({"gone": "y"}));
    assert_eq!(world.entries(), Vec::<Value>::new());
}

#[test]
fn fields_reset_in_one_version_are_taken_from_managers_of_others() {
    let versions = [(V1, atomic()), (V2, atomic())];
    for (limited, left) in [(true, 0), (false, 1)] {
        let mut world = World::with(manager(V1, &versions, Arc::new(SameInAllVersions)));
        world.apply_object("m", in_version(V1, json!({"gone": "x"})), false).unwrap();
        world.object.as_mut().unwrap()["apiVersion"] = json!(V2);
        let fields = manager(V2, &versions, Arc::new(SameInAllVersions));
        let path: &[&[&str]] = &[&["spec", "gone"]];
        world.fields =
            if limited { fields.with_reset_fields_of_version(path) } else { fields.with_reset_fields(path) };
        world.update("u", json!({}));
        let of_m = world.entries().into_iter().filter(|entry| entry["manager"] == "m").count();
        assert_eq!(of_m, left);
    }
}
