//! What writes do to the owners: entries, times, resets, caps, subresources, client-side apply.

use super::*;
use crate::fieldset::managers::keep_times;
use crate::fieldset::{FieldFilter, LAST_APPLIED, PathElement};

#[test]
fn an_update_owns_what_it_changes_with_the_fields_above() {
    let mut world = World::new();
    world.update("u1", json!({"text": "a", "labels": {"x": "1"}}));
    assert_eq!(world.owns("u1"), json!({".": {}, "f:text": {}, "f:labels": {".": {}, "f:x": {}}}));
    world.update("u2", json!({"text": "b", "labels": {"x": "1", "y": "2"}}));
    assert_eq!(world.owns("u1"), json!({".": {}, "f:labels": {".": {}, "f:x": {}}}));
    assert_eq!(world.owns("u2"), json!({"f:text": {}, "f:labels": {"f:y": {}}}));
    world.update("u2", json!({"text": "b"}));
    assert_eq!(world.owns("u1"), json!({}));
    assert_eq!(world.owns("u2"), json!({"f:text": {}}));
}

#[test]
fn an_update_takes_fields_from_appliers() {
    let mut world = World::new();
    world.apply("m", json!({"text": "a"})).unwrap();
    world.update("u", json!({"text": "b"}));
    assert_eq!(world.managers(), ["u/Update"]);
}

#[test]
fn the_same_manager_has_an_entry_an_operation() {
    let mut world = World::new();
    world.apply("m", json!({"text": "a"})).unwrap();
    world.update("m", json!({"text": "a", "flag": true}));
    assert_eq!(world.managers(), ["m/Apply", "m/Update"]);
}

#[test]
fn times_move_only_with_what_is_written() {
    let mut world = World::new();
    world.apply("m1", json!({"text": "a"})).unwrap();
    let first = world.object.clone();
    world.apply("m1", json!({"text": "a"})).unwrap();
    assert_eq!(world.object, first, "an apply of the same is no write");
    world.update("u", json!({"text": "a"}));
    assert_eq!(world.object, first, "an update of the same is no write");
    // Another applier of the same value is an entry, which gets no time.
    world.apply("m2", json!({"text": "a"})).unwrap();
    assert_eq!(world.managers(), ["m2/Apply", "m1/Apply"]);
    assert!(world.entries()[0].get("time").is_none());
    assert_eq!(world.entries()[1], first.unwrap()["metadata"]["managedFields"][0]);
    world.apply("m2", json!({"text": "a", "flag": true})).unwrap();
    assert_eq!(world.managers(), ["m1/Apply", "m2/Apply"]);
    assert!(world.entries()[1]["time"].is_string());
}

#[test]
fn an_apply_whose_result_is_stored_as_before_keeps_its_time() {
    let mut world = World::new();
    world.apply("m", json!({"text": null, "flag": true})).unwrap();
    let live = world.object.clone().unwrap();
    let now = world.now();
    let patch = thing(json!({"spec": {"text": null, "flag": true}}));
    let mut again = stored(world.fields.apply(Some(&live), &patch, "m", false, now).unwrap());
    assert_ne!(again, live);
    assert!(keep_times(&live, &mut again));
    assert_eq!(again, live);
}

#[test]
fn names_and_what_the_server_sets_are_never_owned() {
    let mut world = World::new();
    let object = thing(json!({
        "metadata": {"namespace": "n", "uid": "1", "generation": 1, "labels": {"a": "b"}, "finalizers": ["example.com/f"],
            "ownerReferences": [{"uid": "u", "name": "o"}], "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1"},
    }));
    world.apply_object("m", object.clone(), false).unwrap();
    assert_eq!(
        world.entries()[0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"example.com/f\"": {}}, "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}}})
    );
    let mut bare = World::new();
    bare.apply_object("m", thing(json!({})), false).unwrap();
    assert!(bare.entries().is_empty());
    assert!(bare.object.unwrap()["metadata"].get("managedFields").is_none());
}

#[test]
fn an_object_nobody_tracked_gets_before_first_apply() {
    let mut world = World::new();
    world.object = Some(stored(thing(json!({"spec": {"text": "a"}}))));
    world.update("u", json!({"text": "b"}));
    assert!(world.entries().is_empty(), "updates do not start the tracking");
    world.apply("m", json!({"flag": true})).unwrap();
    assert_eq!(world.managers(), ["m/Apply", "before-first-apply/Update"]);
    assert_eq!(world.owns("before-first-apply"), json!({".": {}, "f:text": {}}));
    assert!(
        message(world.apply("m", json!({"text": "c"})))
            .contains("\"before-first-apply\" using example.com/v1")
    );
}

#[test]
fn a_request_can_set_and_reset_entries() {
    let mut world = World::new();
    world.apply("m", json!({"text": "a"})).unwrap();
    let entry = json!({"manager": "x", "operation": "Update", "apiVersion": "example.com/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:text": {}}}});
    let with = |world: &World, entries: Value| {
        let mut new = world.object.clone().unwrap();
        new["metadata"]["managedFields"] = entries;
        new
    };
    let new = with(&world, json!([entry]));
    world.update_object("u", new);
    assert_eq!(world.managers(), ["x/Update"]);
    let broken = with(&world, json!([{"manager": "y", "operation": "Nope"}]));
    world.update_object("u", broken);
    assert_eq!(world.managers(), ["x/Update"], "what cannot be read leaves the entries");
    for reset in [json!([]), json!([{}])] {
        let mut world =
            World { fields: world.fields.clone(), object: world.object.clone(), seconds: 0, stored };
        let new = with(&world, reset);
        world.update_object("u", new);
        assert!(world.entries().is_empty());
    }
}

#[test]
fn nobody_owns_anything_of_an_object_that_does_not_fit_its_schema() {
    let mut world = World::new();
    world.apply("m", json!({"text": "a"})).unwrap();
    world.update("u", json!({"text": "a", "gone": 1}));
    assert_eq!(world.entries(), Vec::<Value>::new());
}

#[test]
fn subresources_own_their_fields_alone() {
    let schema = schema_of(&ty());
    let main = FieldManager::single("example.com/v1", "Thing", schema).with_reset_fields(&[&["status"]]);
    let status = main.clone().on_subresource("status").with_reset_fields(&[&["spec"], &["metadata"]]);
    let mut world = World::with(main.clone());
    world.apply_object("m", thing(json!({"spec": {"text": "a"}, "status": {"phase": "x"}})), false).unwrap();
    assert_eq!(world.entries()[0]["fieldsV1"], json!({"f:spec": {"f:text": {}}}));
    world.fields = status;
    world.apply_object("m", thing(json!({"spec": {"text": "b"}, "status": {"phase": "x"}})), false).unwrap();
    assert_eq!(world.managers(), ["m/Apply", "m/Apply"]);
    let entry = world.entries().into_iter().find(|entry| entry["subresource"] == "status").unwrap();
    assert_eq!(entry["fieldsV1"], json!({"f:status": {"f:phase": {}}}));
    // A subresource cannot set entries.
    let mut new = world.object.clone().unwrap();
    new["metadata"]["managedFields"] = json!([]);
    world.update_object("u", new);
    assert_eq!(world.entries().len(), 2);
}

#[test]
fn a_filter_of_patterns_keeps_what_begins_with_them() {
    use crate::fieldset::set::Matcher;
    let pattern = ["spec", "labels"].map(|name| Matcher::Element(PathElement::field(name)));
    let only = FieldFilter::Include(vec![pattern.to_vec()]);
    let fields = FieldManager::single("example.com/v1", "Thing", schema_of(&ty()))
        .with_filters([("example.com/v1".to_string(), only)]);
    let mut world = World::with(fields);
    world.apply("m", json!({"text": "a", "labels": {"x": "y"}})).unwrap();
    assert_eq!(world.owns("m"), json!({"f:labels": {"f:x": {}}}));
}

fn client_side(config: &Value) -> Value {
    let mut object = config.clone();
    object["metadata"]["annotations"] = json!({ LAST_APPLIED: config.to_string() });
    object
}

#[test]
fn kubectl_takes_over_from_client_side_apply_without_conflict() {
    let config = thing(json!({"spec": {"text": "a", "flag": true}}));
    let mut world = World::new();
    world.update_object("kubectl-client-side-apply", client_side(&config));
    let change = thing(json!({"spec": {"text": "b", "flag": true}}));
    assert!(world.apply_object("other", change.clone(), false).is_err());
    world.apply_object("kubectl", change.clone(), false).unwrap();
    assert_eq!(world.spec(), json!({"text": "b", "flag": true}));
    let annotation = world.object.as_ref().unwrap()["metadata"]["annotations"][LAST_APPLIED].clone();
    assert_eq!(annotation, json!(format!("{change}\n")), "the annotation follows");
}

#[test]
fn kubectl_still_conflicts_with_what_others_changed_since() {
    let config = thing(json!({"spec": {"text": "a", "flag": true}}));
    let mut world = World::new();
    world.update_object("kubectl-client-side-apply", client_side(&config));
    world.update("other", json!({"text": "x", "flag": true}));
    let change = thing(json!({"spec": {"text": "b", "flag": false}}));
    assert_eq!(
        message(world.apply_object("kubectl", change, false)),
        "Apply failed with 1 conflict: conflict with \"other\" using example.com/v1: .spec.text"
    );
}

#[test]
fn an_annotation_that_would_be_too_large_is_dropped() {
    let mut world = World::new();
    world.update_object("kubectl-client-side-apply", client_side(&thing(json!({}))));
    world.apply("kubectl", json!({"text": "x".repeat(300 * 1024)})).unwrap();
    assert!(world.object.unwrap()["metadata"]["annotations"].get(LAST_APPLIED).is_none());
}

#[test]
fn what_a_built_in_kind_always_writes_is_nobodys_on_create() {
    let fields = |default: Option<Value>, name: Option<&str>| {
        let mut root = (*schema_of(&ty())).clone();
        let mut spec = (*root.properties["spec"]).clone();
        spec.default = default.map(Box::new);
        root.properties.insert("spec".into(), spec.into());
        root.name = name.map(Into::into);
        FieldManager::single("example.com/v1", "Thing", root.into())
    };
    let mut custom = World::with(fields(Some(json!({})), None));
    custom.update("u", json!({"text": "a"}));
    assert_eq!(custom.owns("u"), json!({".": {}, "f:text": {}}));
    let mut built_in = World::with(fields(Some(json!({})), Some("io.example.Thing")));
    built_in.update("u", json!({"text": "a"}));
    assert_eq!(built_in.owns("u"), json!({"f:text": {}}));
}

#[test]
fn a_map_key_that_loses_its_last_field_stays_as_a_null_that_its_other_owner_owns() {
    let mut world = World::new();
    world.stored = stored_with_nulls;
    world.apply("m1", json!({"free": {"v": {"a": 1}}})).unwrap();
    world.apply("m2", json!({"free": {"v": {"deep": {"a": [1]}}}})).unwrap();
    world.update("u", json!({"free": {"v": {"a": 1}}}));
    world.apply("m1", json!({})).unwrap();
    assert_eq!(world.spec(), json!({"free": {"v": null}}));
    assert_eq!(world.managers(), ["m2/Apply"]);
    assert_eq!(world.owns("m2"), json!({"f:free": {"f:v": {}}}));
}

// An owner of a field alone does not hold the key above it: only named fields come with what is below them.
#[test]
fn a_map_key_goes_with_its_last_owner_and_takes_the_fields_of_others_along() {
    let mut world = World::new();
    world.stored = stored_with_nulls;
    world.update("first", json!({}));
    world.apply("m", json!({"free": {"v": {"deep": {"a": [1]}}}})).unwrap();
    world.update("u", json!({"free": {"v": {"a": 1}}}));
    assert_eq!(world.owns("m"), json!({"f:free": {"f:v": {}}}));
    assert_eq!(world.owns("u"), json!({"f:free": {"f:v": {"f:a": {}}}}));
    world.apply("m", json!({})).unwrap();
    assert_eq!(world.spec(), json!({"free": null}));
    assert_eq!(world.managers(), ["first/Update"]);
}

#[test]
fn an_object_that_nobody_owns_anything_of_any_more_is_as_one_nobody_tracked() {
    let mut world = World::new();
    world.apply("m", json!({"text": "a", "free": {"v": {"deep": [0]}}})).unwrap();
    world.update("u", json!({"text": "a", "free": {"v": {"deep": [1]}}}));
    world.apply("m", json!({})).unwrap();
    assert!(world.managers().is_empty());
    world.apply("m", json!({})).unwrap();
    assert_eq!(world.managers(), ["before-first-apply/Update"]);
}
