//! What the facts of the catalogue make of objects: zero values that are written or not, and one spelling of everything.

use kubewright_kinds::catalogue::Catalogue;
use kubewright_machinery::schema::canonical::canonicalize;
use serde_json::{Value, json};

fn canonical(kind: &str, mut object: Value) -> Value {
    canonicalize(&mut object, Catalogue::builtin().schema(kind).expect("a kind"));
    object
}

#[test]
fn zero_values_are_left_out_or_written_as_the_kind_says() {
    let deployment = canonical(
        "io.k8s.api.apps.v1.Deployment",
        json!({"metadata": {"labels": {}, "name": "x"}, "spec": {"paused": false, "replicas": 0, "selector": null}}),
    );
    assert_eq!(deployment["metadata"], json!({"name": "x"}));
    assert_eq!(deployment["spec"]["replicas"], 0);
    assert!(deployment["spec"].get("paused").is_none());
    assert_eq!(deployment["status"], json!({}));
    let event = canonical("io.k8s.api.core.v1.Event", json!({}));
    assert_eq!(event["eventTime"], Value::Null);
    assert!(event.as_object().is_some_and(|e| e.contains_key("firstTimestamp")));
    assert_eq!(event["source"], json!({}));
    assert_eq!(event["reportingComponent"], "");
    assert!(event.get("count").is_none());
}

#[test]
fn quantities_and_times_have_one_spelling() {
    let pod = canonical(
        "io.k8s.api.core.v1.Pod",
        json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1000m", "memory": 1, "x/y": null}}}]},
            "status": {"startTime": "2020-01-01T01:00:00.5+01:00"}}),
    );
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "1", "memory": "1", "x/y": "0"})
    );
    assert_eq!(pod["status"]["startTime"], "2020-01-01T00:00:00Z");
}

#[test]
fn nulls_inside_free_form_data_stay() {
    let object = json!({"data": {"a": [1, null]}, "revision": 1});
    let revision = canonical("io.k8s.api.apps.v1.ControllerRevision", object);
    assert_eq!(revision["data"], json!({"a": [1, null]}));
}
