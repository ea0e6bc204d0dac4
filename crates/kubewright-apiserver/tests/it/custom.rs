//! Where custom resources answer otherwise than built-in kinds do: paths, methods, forms of answers, owners.

use std::sync::Arc;

use crate::client::{Client, TABLE};
use http_body_util::BodyExt;
use kubewright_apiserver::crds;
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_machinery::schema::SchemaRef;
use kubewright_storage::MemoryStore;
use serde_json::{Value, json};

const WIDGETS: &str = "/apis/x.example.com/v1/namespaces/a/widgets";

/// A server with Widgets of two versions, which have a status and a scale.
async fn widgets() -> Client {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    config.resources.push(Arc::new(crds::resource(SchemaRef::default())));
    let server = Server::new(config).await.expect("the store is in memory");
    let client = Client::of(&server);
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"n": {"type": "integer"}, "text": {"type": "string"},
            "free": {"x-kubernetes-preserve-unknown-fields": true}}},
        "status": {"type": "object", "properties": {"n": {"type": "integer"}}}}});
    let version = |name: &str| {
        json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {},
                "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}}})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.example.com"},
        "spec": {"group": "x.example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1"), version("v2")]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(client.post(definitions, definition).await.0, 201);
    client
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "x.example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

async fn apply(client: &Client, path: &str, manager: &str, object: &Value) -> (u16, Value) {
    let path = format!("{path}?fieldManager={manager}&force=true");
    client.send("PATCH", &path, "application/apply-patch+yaml", object).await
}

#[tokio::test]
async fn what_no_definition_serves_is_a_page_of_text() {
    let client = widgets().await;
    let page = (404, json!("404 page not found\n"));
    for path in [
        "/apis/x.example.com/v1/gadgets",
        "/apis/x.example.com/v1/namespaces/a/gadgets/g",
        "/apis/x.example.com/v9/widgets",
        "/apis/x.example.com/v9",
        "/apis/x.example.com/v1/widgets/w",
    ] {
        assert_eq!(client.get(path).await, page, "{path}");
    }
    // All namespaces can only be read.
    let everywhere = "/apis/x.example.com/v1/widgets";
    assert_eq!(client.get(everywhere).await.0, 200);
    assert_eq!(client.post(everywhere, widget("w", json!({}))).await, page);
    assert_eq!(client.delete(everywhere, Value::Null).await, page);
}

#[tokio::test]
async fn verbs_that_a_custom_resource_lacks_are_named() {
    let client = widgets().await;
    client.post(WIDGETS, widget("w", json!({}))).await;
    let one = format!("{WIDGETS}/w");
    for (method, path, code, message) in [
        (
            "POST",
            format!("{one}/status"),
            405,
            "create is not supported on resources of kind \"widgets.x.example.com\"",
        ),
        (
            "DELETE",
            format!("{one}/scale"),
            405,
            "delete is not supported on resources of kind \"widgets.x.example.com\"",
        ),
        ("OPTIONS", one.clone(), 405, " is not supported on resources of kind \"widgets.x.example.com\""),
        ("GET", format!("{one}/log"), 404, "widgets.x.example.com \"w\" not found"),
        ("PUT", WIDGETS.to_string(), 400, "name must be provided"),
    ] {
        let (found, status) = client.send(method, &path, "application/json", &json!({})).await;
        assert_eq!((found, &status["message"]), (code, &json!(message)), "{method} {path}");
    }
    // The name in the path of a create does not matter.
    let (code, made) = client.post(&one, widget("x", json!({}))).await;
    assert_eq!((code, &made["metadata"]["name"]), (201, &json!("x")));
}

#[tokio::test]
async fn deletions_of_collections_answer_in_the_form_asked_for() {
    let client = widgets().await;
    client.post(WIDGETS, widget("w", json!({}))).await;
    let (_, table) = client.accepting("DELETE", WIDGETS, TABLE).await;
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("w")));
    assert_eq!(table["metadata"].get("continue"), None, "{table}");
}

#[tokio::test]
async fn any_application_type_will_do_and_one_object_is_no_list() {
    let client = widgets().await;
    client.post(WIDGETS, widget("w", json!({}))).await;
    let one = format!("{WIDGETS}/w");
    assert_eq!(client.accepting("GET", &one, "application/*").await.0, 200);
    let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let (code, status) = client.accepting("GET", &one, list).await;
    assert_eq!((code, &status["message"]), (500, &json!("content is not a list")));
}

#[tokio::test]
async fn numbers_out_of_range_are_told_from_what_is_no_number() {
    let client = widgets().await;
    let message = |query: &'static str| {
        let client = client.clone();
        async move { client.get(&format!("{WIDGETS}?{query}")).await.1["message"].clone() }
    };
    let large = "99999999999999999999";
    assert_eq!(
        message("resourceVersion=99999999999999999999").await,
        format!(
            "invalid resource version: resourceVersion: Invalid value: \"{large}\": strconv.ParseUint: parsing \
             \"{large}\": value out of range"
        )
    );
    assert_eq!(
        message("limit=99999999999999999999").await,
        format!("strconv.ParseInt: parsing \"{large}\": value out of range")
    );
}

#[tokio::test]
async fn a_watch_from_before_the_definition_has_expired() {
    let client = widgets().await;
    let response =
        client.raw("GET", &format!("{WIDGETS}?watch=1&resourceVersion=1&timeoutSeconds=1"), "", "").await;
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let event: Value = serde_json::from_slice(body.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)), "{event}");
}

#[tokio::test]
async fn a_null_of_no_type_passes_validation_and_is_not_kept() {
    let client = widgets().await;
    let (code, made) =
        apply(&client, &format!("{WIDGETS}/w"), "m", &widget("w", json!({"free": null, "n": 1}))).await;
    assert_eq!((code, &made["spec"]), (201, &json!({"n": 1})), "{made}");
    let (code, refused) =
        apply(&client, &format!("{WIDGETS}/x"), "m", &widget("x", json!({"text": null}))).await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn a_write_in_another_version_takes_the_status_from_its_owners() {
    let client = widgets().await;
    let one = format!("{WIDGETS}/w");
    client.post(WIDGETS, widget("w", json!({"n": 1}))).await;
    let mut status = widget("w", json!({}));
    status["status"] = json!({"n": 2});
    apply(&client, &format!("{one}/status"), "m", &status).await;
    let owners = |object: &Value| -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        entries.map(|entry| entry["manager"].as_str().unwrap_or_default().to_string()).collect()
    };
    for (version, left) in [("v1", vec!["m", "tester"]), ("v2", vec!["tester"])] {
        let path = format!("/apis/x.example.com/{version}/namespaces/a/widgets/w");
        let (_, mut object) = client.get(&path).await;
        object.as_object_mut().unwrap().remove("status");
        object["spec"]["n"] = json!(7);
        let (code, written) = client.put(&path, object).await;
        assert_eq!((code, &written["status"]["n"]), (200, &json!(2)), "{written}");
        let mut found = owners(&written);
        found.sort();
        found.dedup();
        assert_eq!(found, left, "{version}");
    }
}

#[tokio::test]
async fn a_status_written_in_another_version_takes_nothing_from_owners_of_the_spec() {
    let client = widgets().await;
    let one = format!("{WIDGETS}/w");
    apply(&client, &one, "m", &widget("w", json!({"n": 1}))).await;
    let other = one.replace("/v1/", "/v2/");
    let change = json!({"spec": {"n": 5}, "status": {"n": 1}});
    let (code, written) = client.merge(&format!("{other}/status"), change).await;
    assert_eq!(code, 200, "{written}");
    let entries = written["metadata"]["managedFields"].as_array().unwrap();
    let of_m = entries.iter().find(|entry| entry["manager"] == "m").unwrap();
    assert_eq!(of_m["fieldsV1"], json!({"f:spec": {"f:n": {}}}));
}

#[tokio::test]
async fn owners_are_forgotten_with_an_object_of_the_wrong_types() {
    let client = widgets().await;
    client.post(WIDGETS, widget("w", json!({"n": 1}))).await;
    let one = format!("{WIDGETS}/w");
    let (_, mut object) = client.get(&one).await;
    object["spec"]["n"] = json!("many");
    object["status"] = json!({"n": 3});
    // The status endpoint does not look at the rest.
    let (code, written) = client.put(&format!("{one}/status"), object).await;
    assert_eq!((code, &written["status"]["n"]), (200, &json!(3)), "{written}");
    assert_eq!(written["metadata"].get("managedFields"), None);
}

#[tokio::test]
async fn replicas_set_by_scale_are_nobodys() {
    let client = widgets().await;
    let one = format!("{WIDGETS}/w");
    client.post(WIDGETS, widget("w", json!({"n": 1}))).await;
    let (code, _) = client.merge(&format!("{one}/scale"), json!({"spec": {"replicas": 4}})).await;
    assert_eq!(code, 200);
    let (_, object) = client.get(&one).await;
    assert_eq!(object["spec"]["n"], 4);
    assert_eq!(object["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {}}), "{object}");
    let (code, status) = client.put(&format!("{one}/scale"), widget("w", json!({}))).await;
    let message = status["message"].as_str().unwrap_or_default();
    assert!(code == 400 && message.starts_with("no kind is registered for the type v1.Scale"), "{status}");
}
