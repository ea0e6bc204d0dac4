//! Tests of strategic merge patches: what each directive does, and what holds of any patch.

use super::*;
use crate::patch::merge::{self, tests::any_json};
use crate::schema::{PatchFacts, SchemaRef, Type};
use proptest::prelude::*;
use serde_json::json;

fn object(fields: &[(&str, Schema)]) -> Schema {
    Schema {
        ty: Some(Type::Object),
        properties: fields.iter().map(|(k, s)| ((*k).into(), SchemaRef::from(s.clone()))).collect(),
        name: Some("io.k8s.api.core.v1.Thing".into()),
        ..Schema::default()
    }
}

fn list(item: Schema, facts: PatchFacts) -> Schema {
    Schema {
        ty: Some(Type::Array),
        items: Some(item.into()),
        patch: Some(Box::new(facts)),
        ..Schema::default()
    }
}

fn merged_by(key: &str) -> PatchFacts {
    PatchFacts { merge: true, merge_key: Some(key.into()), ..PatchFacts::default() }
}

/// Containers by name with env by name, a set of finalizers, an atomic list, a map and a union.
fn schema() -> Schema {
    let string = Schema { ty: Some(Type::String), ..Schema::default() };
    let env = object(&[("name", string.clone()), ("value", string.clone())]);
    let container =
        object(&[("name", string.clone()), ("image", string.clone()), ("env", list(env, merged_by("name")))]);
    let map = Schema { ty: Some(Type::Object), additional: Some(string.clone().into()), ..Schema::default() };
    let strategy = Schema {
        patch: Some(Box::new(PatchFacts { retain_keys: true, ..PatchFacts::default() })),
        ..object(&[("type", string.clone()), ("rollingUpdate", map.clone())])
    };
    object(&[
        ("containers", list(container, merged_by("name"))),
        ("finalizers", list(string.clone(), PatchFacts { merge: true, ..PatchFacts::default() })),
        ("args", list(string, PatchFacts::default())),
        ("labels", map),
        ("strategy", strategy),
    ])
}

fn patched(original: Value, patch: Value) -> Result<Value, Error> {
    apply(original, patch, &schema())
}

fn containers(names: &[&str]) -> Value {
    names.iter().map(|n| json!({"name": n, "image": format!("{n}:1")})).collect()
}

fn names(value: &Value, field: &str) -> Vec<String> {
    let list = value[field].as_array().cloned().unwrap_or_default();
    list.iter().map(|v| v["name"].as_str().or(v.as_str()).unwrap_or_default().to_string()).collect()
}

#[test]
fn lists_are_merged_by_key_and_new_items_come_first() {
    let out = patched(
        json!({"containers": containers(&["a", "b"])}),
        json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "b", "image": "b:2"}]}),
    )
    .unwrap();
    assert_eq!(names(&out, "containers"), ["c", "a", "b"]);
    assert_eq!(out["containers"][2]["image"], "b:2");
    let out = patched(json!({"args": ["a"]}), json!({"args": ["b"]})).unwrap();
    assert_eq!(out, json!({"args": ["b"]}));
}

#[test]
fn directives_delete_and_replace_items() {
    let live = || json!({"containers": containers(&["a", "b"]), "labels": {"x": "1"}});
    let out = patched(live(), json!({"containers": [{"name": "a", "$patch": "delete"}]})).unwrap();
    assert_eq!(names(&out, "containers"), ["b"]);
    let out = patched(live(), json!({"containers": [{"$patch": "replace"}, {"name": "n"}]})).unwrap();
    assert_eq!(names(&out, "containers"), ["n"]);
    let out = patched(live(), json!({"labels": {"$patch": "replace", "y": "2"}})).unwrap();
    assert_eq!(out["labels"], json!({"y": "2"}));
    let out = patched(live(), json!({"labels": {"$patch": "delete"}})).unwrap();
    assert_eq!(out["labels"], json!({}));
    assert_eq!(patched(live(), json!({"strategy": {"$patch": "delete"}})), Ok(live()));
    let error = patched(live(), json!({"labels": {"$patch": "frob"}})).unwrap_err();
    assert_eq!(error.to_string(), "unknown patch type: frob in map: map[$patch:frob]");
    assert_eq!(error.status().code, 500);
    let error = patched(live(), json!({"containers": [{"image": "x"}]})).unwrap_err();
    assert_eq!(error.to_string(), "map: map[image:x] does not contain declared merge key: name");
}

#[test]
fn element_order_wins_over_the_live_order() {
    let live = json!({"containers": containers(&["a", "b", "s"])});
    let order = json!([{"name": "b"}, {"name": "n"}, {"name": "a"}]);
    let out = patched(
        live.clone(),
        json!({"$setElementOrder/containers": order, "containers": [{"name": "n", "image": "n:1"}]}),
    )
    .unwrap();
    assert_eq!(names(&out, "containers"), ["b", "n", "a", "s"]);
    let out = patched(live.clone(), json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}))
        .unwrap();
    assert_eq!(names(&out, "containers"), ["b", "a", "s"]);
    let error =
        patched(live, json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}))
            .unwrap_err();
    assert_eq!(
        error.to_string(),
        "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n"
    );
}

#[test]
fn primitive_lists_are_sets_with_deletions_and_an_order() {
    let live = || json!({"finalizers": ["a", "b", "c"]});
    let out =
        patched(live(), json!({"$deleteFromPrimitiveList/finalizers": ["a", "x"], "finalizers": ["c", "d"]}))
            .unwrap();
    assert_eq!(names(&out, "finalizers"), ["b", "c", "d"]);
    let out = patched(live(), json!({"$setElementOrder/finalizers": ["c", "d", "b"], "finalizers": ["d"]}))
        .unwrap();
    assert_eq!(names(&out, "finalizers"), ["a", "c", "d", "b"]);
    assert_eq!(patched(json!({}), json!({"$deleteFromPrimitiveList/finalizers": ["a"]})), Ok(json!({})));
    assert_eq!(patched(live(), json!({"$deleteFromPrimitiveList": ["a"]})).unwrap_err().status().code, 400);
}

#[test]
fn retained_keys_clear_the_others() {
    let live = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "1"}}});
    let out =
        patched(live.clone(), json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}})).unwrap();
    assert_eq!(out["strategy"], json!({"type": "Recreate"}));
    for bad in [json!({"$retainKeys": ["type"], "rollingUpdate": {}}), json!({"$retainKeys": "type"})] {
        let error = patched(live.clone(), json!({"strategy": bad})).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.status().code),
            ("invalid patch format of retainKeys", 400)
        );
    }
}

#[test]
fn items_that_do_not_fit_the_list_are_refused() {
    let live = || json!({"containers": containers(&["a"])});
    assert!(matches!(patched(live(), json!({"containers": ["x"]})), Err(Error::MixedItems(_))));
    assert_eq!(
        patched(live(), json!({"containers": {"name": "x"}})),
        Ok(json!({"containers": {"name": "x"}}))
    );
    assert_eq!(
        patched(live(), json!({"$setElementOrder/nope": ["x"]})).unwrap_err().to_string(),
        "unable to find api field in struct Thing for the json field \"nope\""
    );
    assert_eq!(
        parse(b"[]").unwrap_err().status().message,
        "json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
}

proptest! {
    #[test]
    fn without_schema_and_directives_it_is_a_merge_patch(original in prop::collection::btree_map("[a-d]", any_json(true), 0..4), patch in prop::collection::btree_map("[a-d]", any_json(true), 0..4)) {
        let object = |m: std::collections::BTreeMap<String, Value>| Value::Object(m.into_iter().collect());
        let (original, patch) = (object(original), object(patch));
        let ours = apply(original.clone(), patch.clone(), &Schema::any());
        let mut merged = original;
        merge::apply(&mut merged, patch);
        // A list that replaces a list is taken as it is, nulls of its objects included.
        prop_assert_eq!(ours.map(without_nulls), Ok(without_nulls(merged)));
    }

    #[test]
    fn merging_by_key_twice_is_merging_once(live in prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4), patch in prop::sample::subsequence(vec!["c", "e", "b", "a"], 0..=4).prop_shuffle()) {
        let original = json!({"containers": containers(&live)});
        let patch = json!({"containers": patch.iter().map(|n| json!({"name": n, "image": "new"})).collect::<Value>()});
        let once = patched(original, patch.clone()).unwrap();
        prop_assert_eq!(patched(once.clone(), patch), Ok(once));
    }

    #[test]
    fn any_patch_is_applied_or_refused(original in any_json(true), patch in any_json(true), field in "(\\$patch|\\$retainKeys|\\$setElementOrder/(containers|finalizers|x)|\\$deleteFromPrimitiveList/finalizers|containers|finalizers|labels)") {
        let _ = patched(json!({"containers": original, "finalizers": [1], "labels": {}}), json!({field: patch}));
    }
}

#[test]
fn an_order_comes_after_all_directives_of_the_list() {
    let live = || json!({"containers": containers(&["a"])});
    let order = json!([{"name": "b"}]);
    let with = |items: Value| json!({"containers": items, "$setElementOrder/containers": order});
    let first = with(json!([{"$patch": "replace"}, {"name": "b"}]));
    assert_eq!(names(&patched(live(), first).unwrap(), "containers"), ["b"]);
    let last = with(json!([{"name": "b"}, {"$patch": "replace"}]));
    assert!(matches!(patched(live(), last), Err(Error::Order { .. })));
    let deleted = with(json!([{"name": "b"}, {"name": "a", "$patch": "delete"}]));
    assert_eq!(names(&patched(live(), deleted).unwrap(), "containers"), ["b"]);
}

#[test]
fn a_map_has_no_lists_to_order() {
    let patch = json!({"labels": {"a": "b", "$setElementOrder/x": ["c"]}});
    let error = patched(json!({"labels": {"c": "d"}}), patch).unwrap_err();
    assert_eq!(error.to_string(), "merging an object in json but data type is not struct, instead is: map");
    let patch = json!({"strategy": {"type": "x"}, "$setElementOrder/strategy": ["c"]});
    let error = patched(json!({"strategy": []}), patch).unwrap_err();
    assert_eq!(error.to_string(), "expected a []interface {}, but received a map[string]interface {}");
    let error = patched(json!({}), json!({"$setElementOrder/strategy": ["c"]})).unwrap_err();
    assert_eq!(error.to_string(), "expected slice or array type, but got: struct");
}
