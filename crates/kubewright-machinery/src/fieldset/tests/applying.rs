//! What an apply does to the object: merging, conflicts, dropping.

use super::*;

#[test]
fn an_apply_of_another_value_conflicts_and_force_takes_the_field() {
    let mut world = World::new();
    world.apply("m1", json!({"text": "a", "flag": true})).unwrap();
    let before = world.object.clone();
    let refused = world.apply("m2", json!({"text": "b"}));
    assert_eq!(message(refused), "Apply failed with 1 conflict: conflict with \"m1\": .spec.text");
    assert_eq!(world.object, before);
    world.force("m2", json!({"text": "b"}));
    assert_eq!(world.spec(), json!({"text": "b", "flag": true}));
    assert_eq!(world.owns("m1"), json!({"f:flag": {}}));
    assert_eq!(world.owns("m2"), json!({"f:text": {}}));
}

#[test]
fn an_apply_of_the_same_value_shares_it() {
    let mut world = World::new();
    world.apply("m1", json!({"text": "a"})).unwrap();
    world.apply("m2", json!({"text": "a"})).unwrap();
    assert_eq!(world.owns("m1"), world.owns("m2"));
    // Shared fields stay until the last applier lets go.
    world.apply("m1", json!({})).unwrap();
    assert_eq!(world.spec(), json!({"text": "a"}));
    world.apply("m2", json!({})).unwrap();
    assert!(world.spec().is_null() || world.spec() == json!({}));
}

#[test]
fn a_shared_field_can_be_changed_by_nobody_without_force() {
    let mut world = World::new();
    world.apply("m1", json!({"text": "a"})).unwrap();
    world.apply("m2", json!({"text": "a"})).unwrap();
    assert!(message(world.apply("m1", json!({"text": "b"}))).contains("\"m2\""));
    world.force("m1", json!({"text": "b"}));
    assert_eq!(world.managers(), ["m1/Apply"]);
}

#[test]
fn conflicts_name_every_manager_and_field() {
    let mut world = World::new();
    world.apply("m1", json!({"text": "a", "labels": {"x": "1"}})).unwrap();
    world.update("u", json!({"text": "a", "labels": {"x": "1"}, "flag": true}));
    let refused = message(world.apply("m2", json!({"text": "b", "flag": false, "labels": {"x": "2"}})));
    assert_eq!(
        refused,
        "Apply failed with 3 conflicts: conflicts with \"m1\":\n- .spec.text\n- .spec.labels.x\nconflicts with \"u\" using example.com/v1:\n- .spec.flag"
    );
}

#[test]
fn fields_that_an_applier_drops_go_with_what_defaulting_put_into_them() {
    let mut world = World::new();
    world.apply("m1", json!({"nested": {"a": "1"}, "items": [{"name": "c", "value": "1"}]})).unwrap();
    // Defaulting, as the server does it: nobody owns what it sets.
    let object = world.object.as_mut().unwrap();
    object["spec"]["items"][0]["sub"] = json!({"a": "default"});
    object["spec"]["nested"]["b"] = json!({"c": 1});
    world.apply("m1", json!({"nested": {"a": "1"}})).unwrap();
    assert_eq!(world.spec(), json!({"nested": {"a": "1", "b": {"c": 1}}}));
}

#[test]
fn items_of_several_appliers_live_in_one_list() {
    let mut world = World::new();
    world.apply("m1", json!({"items": [{"name": "a", "value": "1"}, {"name": "b"}], "set": ["x"]})).unwrap();
    world
        .apply("m2", json!({"items": [{"name": "c"}, {"name": "a", "sub": {"a": "s"}}], "set": ["y"]}))
        .unwrap();
    assert_eq!(
        world.spec(),
        json!({"items": [{"name": "c"}, {"name": "a", "value": "1", "sub": {"a": "s"}}, {"name": "b"}], "set": ["x", "y"]})
    );
    world.apply("m1", json!({"items": [{"name": "b"}]})).unwrap();
    assert_eq!(
        world.spec(),
        json!({"items": [{"name": "c"}, {"name": "a", "sub": {"a": "s"}}, {"name": "b"}], "set": ["y"]})
    );
    world.apply("m2", json!({})).unwrap();
    assert_eq!(world.spec(), json!({"items": [{"name": "b"}]}));
}

#[test]
fn an_item_another_applier_added_to_survives_its_first_applier() {
    let mut world = World::new();
    world.apply("m1", json!({"structs": {"k": {"a": "1"}}})).unwrap();
    world.apply("m2", json!({"structs": {"k": {"b": "2"}}})).unwrap();
    world.apply("m1", json!({})).unwrap();
    assert_eq!(world.spec(), json!({"structs": {"k": {"b": "2"}}}));
    assert_eq!(world.managers(), ["m2/Apply"]);
}

#[test]
fn what_an_updater_owns_stays_when_an_applier_drops_it() {
    let mut world = World::new();
    world.update("u", json!({"text": "a", "labels": {"x": "1"}}));
    world.apply("m", json!({"text": "a", "labels": {"x": "1", "y": "2"}})).unwrap();
    world.apply("m", json!({})).unwrap();
    assert_eq!(world.spec(), json!({"text": "a", "labels": {"x": "1"}}));
}

#[test]
fn what_nobody_owns_stays_beside_what_is_dropped_and_goes_with_all_of_it() {
    let mut world = World::new();
    world.apply("m", json!({"labels": {"x": "1", "y": "2"}})).unwrap();
    world.object.as_mut().unwrap()["spec"]["labels"]["unowned"] = json!("z");
    world.apply("m", json!({"labels": {"y": "2"}})).unwrap();
    assert_eq!(world.spec(), json!({"labels": {"y": "2", "unowned": "z"}}));
    world.apply("m", json!({})).unwrap();
    assert_eq!(world.spec(), Value::Null);
}

#[test]
fn keys_that_are_defaulted_name_the_same_item_written_out_or_not() {
    let mut world = World::new();
    world.apply("m1", json!({"ports": [{"port": 80, "name": "a"}]})).unwrap();
    world
        .apply(
            "m2",
            json!({"ports": [{"port": 80, "protocol": "TCP", "target": 1}, {"port": 80, "protocol": "UDP"}]}),
        )
        .unwrap();
    assert_eq!(
        world.spec(),
        json!({"ports": [{"port": 80, "name": "a", "protocol": "TCP", "target": 1}, {"port": 80, "protocol": "UDP"}]})
    );
    let item = r#"k:{"port":80,"protocol":"TCP"}"#;
    assert_eq!(world.owns("m1"), json!({"f:ports": {item: {".": {}, "f:port": {}, "f:name": {}}}}));
}

#[test]
fn atomic_fields_change_hands_as_a_whole() {
    let mut world = World::new();
    world.apply("m1", json!({"atomic": [{"name": "a"}], "whole": {"a": "1"}})).unwrap();
    let refused = message(world.apply("m2", json!({"atomic": [{"name": "b"}], "whole": {"b": "2"}})));
    assert!(refused.contains(".spec.atomic") && refused.contains(".spec.whole"));
    world.force("m2", json!({"atomic": [{"name": "b"}], "whole": {"b": "2"}}));
    assert_eq!(world.spec(), json!({"atomic": [{"name": "b"}], "whole": {"b": "2"}}));
    assert_eq!(world.managers(), ["m2/Apply"]);
}

#[test]
fn unknown_ground_merges_by_keys_and_a_changed_shape_conflicts() {
    let mut world = World::new();
    world.apply("m1", json!({"free": {"a": {"b": 1, "l": [1]}}})).unwrap();
    world.apply("m2", json!({"free": {"a": {"c": 2}}})).unwrap();
    assert_eq!(world.spec(), json!({"free": {"a": {"b": 1, "c": 2, "l": [1]}}}));
    assert!(message(world.apply("m2", json!({"free": {"a": {"l": [2]}}}))).ends_with(".spec.free.a.l"));
    assert!(message(world.apply("m2", json!({"free": {"a": "scalar"}}))).ends_with(".spec.free.a"));
    world.force("m2", json!({"free": {"a": "scalar"}}));
    assert_eq!(world.spec(), json!({"free": {"a": "scalar"}}));
    assert_eq!(world.managers(), ["m2/Apply"]);
}

#[test]
fn one_value_as_integer_and_float_is_no_conflict() {
    let mut world = World::new();
    world.apply("m1", json!({"free": {"n": 1.0}})).unwrap();
    world.apply("m2", json!({"free": {"n": 1}})).unwrap();
    assert_eq!(world.managers().len(), 2);
}

#[test]
fn doubled_live_items_do_not_stop_an_apply_but_doubled_applied_ones_do() {
    let mut world = World::new();
    world.update("u", json!({"items": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}));
    world.apply("m", json!({"items": [{"name": "b"}]})).unwrap();
    assert_eq!(world.spec()["items"].as_array().unwrap().len(), 3);
    assert_eq!(
        message(world.apply("m", json!({"items": [{"name": "b"}, {"name": "b"}]}))),
        "failed to create typed patch object (/a; example.com/v1, Kind=Thing): .spec.items: duplicate entries for key [name=\"b\"]"
    );
}

#[test]
fn the_errors_of_an_apply_are_statuses() {
    let mut world = World::new();
    let wrong = json!({"apiVersion": "v2", "kind": "Other", "metadata": {}});
    let status = world.apply_object("m", wrong, false).unwrap_err().to_status();
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    assert_eq!(status.message, "invalid object type: /v2, Kind=Other");
    let status = world
        .apply_object("m", thing(json!({"metadata": {"managedFields": []}})), false)
        .unwrap_err()
        .to_status();
    assert_eq!((status.code, status.message.as_str()), (400, "metadata.managedFields must be nil"));
    let status = world.apply("m", json!({"nope": 1})).unwrap_err().to_status();
    assert_eq!((status.code, status.reason.as_str(), status.details), (500, "", None));
    world.apply("m", json!({"text": "a"})).unwrap();
    let status = world.apply("n", json!({"text": "b"})).unwrap_err().to_status();
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(status.details.unwrap().causes[0].field, ".spec.text");
}
