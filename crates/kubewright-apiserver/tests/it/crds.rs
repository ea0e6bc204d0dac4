//! Definitions of custom resources, and the resources they define.

use kubewright_apiserver::crds;
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_machinery::schema::SchemaRef;
use kubewright_storage::{MemoryStore, Store};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::client::Client;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/x.example.com/v1/namespaces/a/widgets";

async fn server_on(store: Arc<dyn Store>) -> Server {
    let mut config = ServerConfig::new(store);
    config.resources.push(Arc::new(crds::resource(SchemaRef::default())));
    Server::new(config).await.expect("the store is in memory")
}

async fn server() -> Server {
    server_on(Arc::new(MemoryStore::default())).await
}

fn version(name: &str, storage: bool, spec: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": spec},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}})
}

fn definition(versions: &[Value]) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.example.com"},
        "spec": {"group": "x.example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": versions}})
}

fn sized() -> Value {
    json!({"size": {"type": "integer"}})
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "x.example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_resource_is_served_as_soon_as_its_definition_is_created() {
    let server = server().await;
    let client = Client::of(&server);
    assert_eq!(client.get(WIDGETS).await.0, 404);
    let (code, created) = client.post(DEFINITIONS, definition(&[version("v1", true, sized())])).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["status"]["conditions"], Value::Null);
    let (_, stored) = client.get(&format!("{DEFINITIONS}/widgets.x.example.com")).await;
    assert_eq!(stored["status"]["conditions"][1]["reason"], "InitialNamesAccepted", "{stored}");
    let managers = stored["metadata"]["managedFields"].as_array().unwrap();
    let own = managers.iter().find(|m| m["subresource"] == "status").unwrap();
    assert_eq!(own["manager"], "kube-apiserver");
    let (code, list) = client.get(WIDGETS).await;
    assert_eq!((code, &list["kind"]), (200, &json!("WidgetList")));
    let (_, group) = client.get("/apis/x.example.com").await;
    assert_eq!(group["preferredVersion"]["version"], "v1");

    let (code, widget) = client.post(WIDGETS, widget("w", json!({"size": 1, "odd": 2}))).await;
    assert_eq!((code, &widget["spec"]), (201, &json!({"size": 1})), "{widget}");
    let (code, refused) = client.merge(&format!("{WIDGETS}/w"), json!({"spec": {"size": "x"}})).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")), "{refused}");
    let status = json!({"spec": {"size": 5}, "status": {"n": 1}});
    let (_, changed) = client.merge(&format!("{WIDGETS}/w/status"), status).await;
    assert_eq!((&changed["spec"], &changed["status"]), (&json!({"size": 1}), &json!({"n": 1})));
    assert_eq!(changed["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_changed_schema_shows_on_objects_that_were_stored_before() {
    let server = server().await;
    let client = Client::of(&server);
    client.post(DEFINITIONS, definition(&[version("v1", true, sized())])).await;
    client.post(WIDGETS, widget("w", json!({"size": 1}))).await;
    let colour = json!({"colour": {"type": "string", "default": "blue"}});
    let versions =
        json!({"spec": {"versions": [version("v1", false, sized()), version("v2", true, colour)]}});
    let (code, changed) = client.merge(&format!("{DEFINITIONS}/widgets.x.example.com"), versions).await;
    assert_eq!((code, &changed["status"]["storedVersions"]), (200, &json!(["v1", "v2"])), "{changed}");
    let (_, old) = client.get(&format!("{WIDGETS}/w")).await;
    assert_eq!((&old["apiVersion"], &old["spec"]), (&json!("x.example.com/v1"), &json!({"size": 1})));
    let (_, new) = client.get("/apis/x.example.com/v2/namespaces/a/widgets/w").await;
    assert_eq!((&new["apiVersion"], &new["spec"]), (&json!("x.example.com/v2"), &json!({})));
    let (_, written) = client.post(WIDGETS, widget("x", json!({"size": 1}))).await;
    assert_eq!(written["spec"], json!({}), "what the stored version does not know is lost");
    let (_, stored) = client.get("/apis/x.example.com/v2/namespaces/a/widgets/x").await;
    assert_eq!(stored["spec"], json!({"colour": "blue"}));
}

#[tokio::test]
async fn a_definition_goes_with_its_last_object() {
    let server = server().await;
    let client = Client::of(&server);
    client.post(DEFINITIONS, definition(&[version("v1", true, sized())])).await;
    client.post(WIDGETS, widget("a", json!({}))).await;
    let mut held = widget("b", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/x"]);
    client.post(WIDGETS, held).await;
    let one = format!("{DEFINITIONS}/widgets.x.example.com");
    let (code, marked) = client.delete(&one, Value::Null).await;
    assert_eq!(
        (code, &marked["metadata"]["finalizers"]),
        (200, &json!([crds::CLEANUP_FINALIZER])),
        "{marked}"
    );
    let (_, waiting) = client.get(&one).await;
    assert_eq!(waiting["status"]["conditions"][2]["reason"], "InstanceDeletionInProgress", "{waiting}");
    assert_eq!(client.get(&format!("{WIDGETS}/a")).await.0, 404);
    let (code, refused) = client.post(WIDGETS, widget("c", json!({}))).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")), "{refused}");
    client.merge(&format!("{WIDGETS}/b"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(client.get(&one).await.0, 404);
    assert_eq!(client.get(WIDGETS).await.0, 404);
    assert_eq!(client.get("/apis/x.example.com").await.0, 404);
}

#[tokio::test]
async fn of_two_definitions_that_want_the_same_kind_the_first_one_gets_it() {
    let server = server().await;
    let client = Client::of(&server);
    client.post(DEFINITIONS, definition(&[version("v1", true, sized())])).await;
    let mut other = definition(&[version("v1", true, sized())]);
    other["metadata"]["name"] = json!("others.x.example.com");
    other["spec"]["names"]["plural"] = json!("others");
    other["spec"]["names"]["singular"] = json!("other");
    client.post(DEFINITIONS, other).await;
    let (_, refused) = client.get(&format!("{DEFINITIONS}/others.x.example.com")).await;
    assert_eq!(refused["status"]["conditions"][0]["reason"], "ListKindConflict", "{refused}");
    assert_eq!(client.get("/apis/x.example.com/v1/others").await.0, 404);
    client.delete(&format!("{DEFINITIONS}/widgets.x.example.com"), Value::Null).await;
    let (_, granted) = client.get(&format!("{DEFINITIONS}/others.x.example.com")).await;
    assert_eq!(granted["status"]["conditions"][1]["status"], "True", "{granted}");
    assert_eq!(client.get("/apis/x.example.com/v1/others").await.0, 200);
}

#[tokio::test]
async fn definitions_that_are_stored_are_served_from_the_start() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let first = server_on(Arc::clone(&store)).await;
    Client::of(&first).post(DEFINITIONS, definition(&[version("v1", true, sized())])).await;
    Client::of(&first).post(WIDGETS, widget("w", json!({"size": 1}))).await;
    first.shutdown();
    let second = server_on(store).await;
    let (code, found) = Client::of(&second).get(&format!("{WIDGETS}/w")).await;
    assert_eq!((code, &found["spec"]), (200, &json!({"size": 1})));
}
