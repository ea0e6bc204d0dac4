//! Definitions of custom resources, and the resources they define.

use std::sync::Arc;

use crate::client::{Client, TABLE};
use http_body_util::BodyExt;
use kubewright_apiserver::outbound::{Call, CallError, Outbound};
use kubewright_apiserver::server::{Core, Server, ServerConfig};
use kubewright_apiserver::{BoxFuture, aggregation, crds};
use kubewright_machinery::schema::SchemaRef;
use kubewright_storage::{MemoryStore, Store};
use serde_json::{Value, json};

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

/// A conversion webhook that turns `size` of v1 into `sizes` of v2 and back.
struct Converts;

impl Outbound for Converts {
    fn post<'a>(&'a self, _: &'a Core, call: Call) -> BoxFuture<'a, Result<bytes::Bytes, CallError>> {
        let review: Value = serde_json::from_slice(&call.body).expect("the server sends JSON");
        let request = &review["request"];
        let wanted = &request["desiredAPIVersion"];
        let convert = |object: &Value| {
            let mut object = object.clone();
            object["apiVersion"] = wanted.clone();
            let (size, sizes) = (object["spec"]["size"].clone(), object["spec"]["sizes"][0].clone());
            object["spec"] = match wanted.as_str() {
                Some("x.example.com/v2") => json!({"sizes": [size]}),
                _ => json!({"size": sizes}),
            };
            object
        };
        let converted: Vec<Value> = request["objects"].as_array().unwrap().iter().map(convert).collect();
        let answer = json!({"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": {
            "uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}});
        Box::pin(std::future::ready(Ok(answer.to_string().into())))
    }
}

#[tokio::test]
async fn a_webhook_converts_between_versions() {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    let definitions = crds::resource_calling(SchemaRef::default(), Arc::new(Converts));
    config.resources.push(Arc::new(definitions));
    let server = Server::new(config).await.unwrap();
    let client = Client::of(&server);
    let sizes = json!({"sizes": {"type": "array", "items": {"type": "integer"}}});
    let mut body = definition(&[version("v1", true, sized()), version("v2", false, sizes)]);
    body["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "clientConfig": {"url": "https://convert.example.com/"}, "conversionReviewVersions": ["v1"]}});
    let (code, created) = client.post(DEFINITIONS, body).await;
    assert_eq!(code, 201, "{created}");
    client.post(WIDGETS, widget("w", json!({"size": 3}))).await;
    let other = "/apis/x.example.com/v2/namespaces/a/widgets";
    let (_, read) = client.get(&format!("{other}/w")).await;
    assert_eq!((&read["apiVersion"], &read["spec"]), (&json!("x.example.com/v2"), &json!({"sizes": [3]})));
    let mut new = widget("n", json!({"sizes": [7]}));
    new["apiVersion"] = json!("x.example.com/v2");
    let (code, created) = client.post(other, new).await;
    assert_eq!((code, &created["spec"]), (201, &json!({"sizes": [7]})), "{created}");
    let (_, list) = client.get(WIDGETS).await;
    assert_eq!(list["items"][0]["spec"], json!({"size": 7}));
}

#[tokio::test]
async fn watches_end_when_the_schema_changes_and_go_on_when_it_does_not() {
    let server = server().await;
    let client = Client::of(&server);
    client.post(DEFINITIONS, definition(&[version("v1", true, sized())])).await;
    let watch = client.raw("GET", &format!("{WIDGETS}?watch=true"), "", "").await;
    let one = format!("{DEFINITIONS}/widgets.x.example.com");
    client.merge(&one, json!({"metadata": {"labels": {"a": "b"}}})).await;
    client.post(WIDGETS, widget("w", json!({"size": 1}))).await;
    let mut body = watch.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"{\"type\":\"ADDED\""), "{first:?}");
    client.merge(&one, json!({"spec": {"versions": [version("v1", true, json!({}))]}})).await;
    assert!(body.frame().await.is_none(), "clients list again under the new schema");
}

#[tokio::test]
async fn what_is_served_is_registered_and_what_is_not_any_more_is_dropped() {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    config.resources.push(Arc::new(aggregation::resource(SchemaRef::default())));
    config.resources.push(Arc::new(crds::resource(SchemaRef::default())));
    let server = Server::new(config).await.unwrap();
    let client = Client::of(&server);
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let (_, own) = client.get(&format!("{services}/v1.apiextensions.k8s.io")).await;
    assert_eq!(own["status"]["conditions"][0]["reason"], "Local", "{own}");
    // Registration follows publication: the watch tells when.
    let watch = client.raw("GET", &format!("{services}?watch=true"), "", "").await;
    let mut events = watch.into_body();
    let mut next = async || {
        let line = events.frame().await.unwrap().unwrap().into_data().unwrap();
        let event: Value = serde_json::from_slice(&line).unwrap();
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_string();
        (event["type"].as_str().unwrap_or_default().to_string(), name)
    };
    let event = |kind: &str, name: &str| (kind.to_string(), name.to_string());
    assert_eq!(next().await, event("ADDED", "v1.apiextensions.k8s.io"));
    client.post(DEFINITIONS, definition(&[version("v1", true, sized())])).await;
    assert_eq!(next().await, event("ADDED", "v1.x.example.com"));
    client.delete(&format!("{DEFINITIONS}/widgets.x.example.com"), Value::Null).await;
    assert_eq!(next().await, event("DELETED", "v1.x.example.com"));
}

#[tokio::test]
async fn a_scale_shows_its_own_columns() {
    let server = server().await;
    let client = Client::of(&server);
    let mut scaled = version("v1", true, json!({"n": {"type": "integer"}}));
    scaled["subresources"]["scale"] =
        json!({"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"});
    client.post(DEFINITIONS, definition(&[scaled])).await;
    client.post(WIDGETS, widget("w", json!({"n": 3}))).await;
    let (_, table) = client.accepting("GET", &format!("{WIDGETS}/w/scale"), TABLE).await;
    assert_eq!(table["columnDefinitions"][1]["name"], "Desired", "{table}");
    assert_eq!(table["rows"][0]["cells"][1], 3);
}
