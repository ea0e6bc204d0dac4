//! Server-side apply. Input: lines with a write each, a word and a spec as JSON: `update-NAME`, `apply-NAME` or
//! `force-NAME`.

use std::sync::LazyLock;

use jiff::Timestamp;
use kubewright_machinery::fieldset::typed::Duplicates;
use kubewright_machinery::fieldset::{ApplyError, FieldManager, Managers, ObjectType};
use kubewright_machinery::schema::{SchemaRef, structural};
use serde_json::{Value, json};

const API_VERSION: &str = "example.com/v1";
const KIND: &str = "Thing";

/// Writes after which an input is not followed any further.
const LONGEST: usize = 12;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let named = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"},
        "port": {"type": "integer", "default": 80},
        "value": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    }});
    let mut spec = json!({"type": "object", "properties": {
        "text": {"type": "string"},
        "number": {"type": "integer"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "atomic": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"},
        "list": {"type": "array", "items": {"type": "string"}},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "port"]},
    }});
    spec["properties"]["items"]["items"] = named.clone();
    spec["properties"]["ports"]["items"] = named;
    SchemaRef::from(structural::parse(&json!({"type": "object", "properties": {"spec": spec}})))
});

fn thing(spec: &Value) -> Value {
    let mut thing = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a"}});
    if *spec != json!({}) {
        thing["spec"] = spec.clone();
    }
    thing
}

/// Objects and their managers stay in step whoever writes what: an apply is good for once, a conflict changes nothing
/// and ends with force, and nobody owns nothing.
pub fn check(input: &[u8]) {
    let ty = ObjectType::new(SCHEMA.clone());
    let fields = FieldManager::single(API_VERSION, KIND, SCHEMA.clone());
    let now = Timestamp::UNIX_EPOCH;
    let mut live: Option<Value> = None;
    for line in input.split(|&byte| byte == b'\n').take(LONGEST) {
        let Ok(line) = std::str::from_utf8(line) else { return };
        let Some((word, spec)) = line.split_once(' ') else { continue };
        let Some((way, manager)) = word.split_once('-') else { continue };
        let Ok(spec @ Value::Object(_)) = serde_json::from_str(spec) else { continue };
        let object = thing(&spec);
        // What the server would not store, or not even take, says nothing about owners; and an empty list that is
        // applied over another becomes null, as in Kubernetes.
        if has_nothing(&spec) || ty.validate(&object, Duplicates::Refused).is_err() {
            continue;
        }
        let apply = |live: Option<&Value>, force| fields.apply(live, &object, manager, force, now);
        let mut written = match way {
            "update" => fields.update(live.as_ref(), object.clone(), manager, now),
            "apply" | "force" => match apply(live.as_ref(), way == "force") {
                Ok(applied) => {
                    let mut again =
                        apply(Some(&applied), false).expect("what was applied can be applied again");
                    // What an applier lets go takes along what others own in it. Where nobody owns anything after
                    // that, the next apply finds an object that nobody tracked, as in Kubernetes.
                    if applied.pointer("/metadata/managedFields").is_none() {
                        let managers = Managers::of(&again).expect("what was applied can be read");
                        assert!(managers.iter().all(|(id, _)| id.manager == "before-first-apply"), "{again}");
                        Managers::new().store(&mut again);
                    }
                    assert_eq!(without_nulls(again), without_nulls(applied.clone()));
                    let compared = ty.compare(&object, &applied);
                    assert!(compared.modified.is_empty(), "{:?}", compared.modified.paths());
                    applied
                }
                Err(ApplyError::Conflict(conflicts)) => {
                    assert!(way == "apply" && !conflicts.0.is_empty());
                    let forced = apply(live.as_ref(), true).expect("force ends conflicts");
                    apply(Some(&forced), false).expect("what was forced is not in conflict");
                    continue;
                }
                Err(error) => panic!("{error}"),
            },
            _ => continue,
        };
        written["metadata"]["uid"] = json!("1");
        let written = without_nulls(written);
        let managers = Managers::of(&written).expect("what was written can be read");
        assert!(managers.iter().all(|(_, owned)| !owned.set.is_empty()), "{written}");
        assert_eq!(managers.encode().as_ref(), written.pointer("/metadata/managedFields"));
        live = Some(written);
    }
}

/// Whether a null or what is empty stands anywhere below.
fn has_nothing(value: &Value) -> bool {
    let empty = |value: &Value| *value == json!([]) || *value == json!({}) || has_nothing(value);
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(empty),
        Value::Object(fields) => fields.values().any(empty),
        _ => false,
    }
}

/// An object as a store keeps it: an apply leaves nulls where a list or map lost its last item.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        other => other,
    }
}
