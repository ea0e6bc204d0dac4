//! Objects are created, read, listed, changed and deleted.

use std::sync::Arc;

use http_body_util::BodyExt;
use kubewright_apiserver::resources::Resource;
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_storage::{MemoryStore, Store};
use serde_json::{Value, json};

use crate::client::{Client, server};

const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const BOXES: &str = "/apis/test.example.com/v1/boxes";

fn map(name: &str, data: Value) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": data})
}

#[tokio::test]
async fn an_object_goes_through_its_life() {
    let server = server().await;
    let client = Client::of(&server);
    let (code, created) = client.post(MAPS, map("x", json!({"k": "v"}))).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["metadata"]["namespace"], "a");
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "tester");
    let (_, read) = client.get(&format!("{MAPS}/x")).await;
    assert_eq!(read, created);

    let (code, again) = client.post(MAPS, map("x", json!({}))).await;
    assert_eq!((code, &again["reason"]), (409, &json!("AlreadyExists")));

    let (code, replaced) = client.put(&format!("{MAPS}/x"), map("x", json!({"k": "w"}))).await;
    assert_eq!((code, &replaced["data"]["k"]), (200, &json!("w")));
    assert_eq!(replaced["metadata"]["uid"], created["metadata"]["uid"]);
    let stale = json!({"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}});
    let (code, conflict) = client.merge(&format!("{MAPS}/x"), stale).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")), "{conflict}");

    let (code, deleted) = client.delete(&format!("{MAPS}/x"), Value::Null).await;
    assert_eq!((code, &deleted["status"]), (200, &json!("Success")), "{deleted}");
    assert_eq!(deleted["details"]["uid"], created["metadata"]["uid"]);
    assert_eq!(client.get(&format!("{MAPS}/x")).await.0, 404);
}

#[tokio::test]
async fn an_update_that_changes_nothing_keeps_the_resource_version() {
    let server = server().await;
    let client = Client::of(&server);
    let (_, created) = client.post(MAPS, map("x", json!({"k": "v"}))).await;
    let before = server.core().store().revision().await.unwrap();
    let (code, same) = client.put(&format!("{MAPS}/x"), map("x", json!({"k": "v"}))).await;
    assert_eq!(code, 200);
    assert_eq!(same["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(server.core().store().revision().await.unwrap(), before);
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_behind() {
    let server = server().await;
    let client = Client::of(&server);
    let (code, object) = client.post(&format!("{MAPS}?dryRun=All"), map("x", json!({}))).await;
    assert_eq!(code, 201);
    assert_eq!(object["metadata"]["resourceVersion"], Value::Null);
    assert_eq!(client.get(&format!("{MAPS}/x")).await.0, 404);
}

#[tokio::test]
async fn generation_follows_the_spec_and_an_update_needs_a_resource_version_where_the_kind_says_so() {
    let server = server().await;
    let client = Client::of(&server);
    let new = json!({"kind": "Box", "apiVersion": "test.example.com/v1", "metadata": {"name": "b"}, "spec": {"n": 1}});
    let (code, created) = client.post(BOXES, new.clone()).await;
    assert_eq!((code, &created["metadata"]["generation"]), (201, &json!(1)), "{created}");
    assert_eq!(client.put(&format!("{BOXES}/b"), new).await.0, 422);
    let (_, changed) = client.merge(&format!("{BOXES}/b"), json!({"spec": {"n": 2}})).await;
    assert_eq!(changed["metadata"]["generation"], 2);
    let (_, labelled) =
        client.merge(&format!("{BOXES}/b"), json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled["metadata"]["generation"], 2);
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object_until_the_last_is_gone() {
    let server = server().await;
    let client = Client::of(&server);
    let mut object = map("x", json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    client.post(MAPS, object).await;
    let (code, marked) = client.delete(&format!("{MAPS}/x"), Value::Null).await;
    assert_eq!(code, 200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    assert_eq!(client.merge(&format!("{MAPS}/x"), more).await.0, 422);
    let (code, _) = client.merge(&format!("{MAPS}/x"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(code, 200);
    assert_eq!(client.get(&format!("{MAPS}/x")).await.0, 404);
}

#[tokio::test]
async fn pages_show_the_state_of_the_first_and_an_expired_token_comes_with_a_new_one() {
    let server = server().await;
    let client = Client::of(&server);
    for name in ["a", "b", "c"] {
        client.post(MAPS, map(name, json!({}))).await;
    }
    let (_, first) = client.get(&format!("{MAPS}?limit=1")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    assert_eq!(first["items"][0].get("kind"), None);
    let token = first["metadata"]["continue"].as_str().unwrap();
    client.post(MAPS, map("bb", json!({}))).await;
    let (_, second) = client.get(&format!("{MAPS}?limit=5&continue={token}")).await;
    let names: Vec<&Value> =
        second["items"].as_array().unwrap().iter().map(|o| &o["metadata"]["name"]).collect();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    let store = server.core().store();
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let (code, expired) = client.get(&format!("{MAPS}?continue={token}")).await;
    assert_eq!((code, &expired["reason"]), (410, &json!("Expired")), "{expired}");
    let fresh = expired["metadata"]["continue"].as_str().unwrap();
    let (code, rest) = client.get(&format!("{MAPS}?continue={fresh}")).await;
    assert_eq!((code, rest["items"].as_array().unwrap().len()), (200, 3), "{rest}");
}

#[tokio::test]
async fn a_large_list_is_streamed_whole() {
    let server = server().await;
    let client = Client::of(&server);
    let filler = "x".repeat(2000);
    for i in 0..400 {
        client.post(MAPS, map(&format!("m{i:04}"), json!({"k": filler}))).await;
    }
    let (code, list) = client.get("/api/v1/configmaps").await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(400)));
    assert_eq!(list["items"][399]["metadata"]["name"], "m0399");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = server().await;
    let client = Client::of(&server);
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = map(name, json!({}));
        object["metadata"]["labels"] = json!({"l": label});
        client.post(MAPS, object).await;
    }
    let (code, deleted) = client.delete(&format!("{MAPS}?labelSelector=l%3Dx"), Value::Null).await;
    assert_eq!((code, deleted["items"].as_array().map(Vec::len)), (200, Some(2)), "{deleted}");
    let (_, left) = client.get(MAPS).await;
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn bad_requests_get_the_status_of_a_real_server_and_leave_nothing() {
    let server = server().await;
    let client = Client::of(&server);
    for (method, path, content_type, body, code, reason) in [
        ("POST", MAPS, "application/json", "{nope", 400, "BadRequest"),
        ("POST", MAPS, "application/json", "[]", 400, "BadRequest"),
        ("POST", MAPS, "text/plain", "{}", 415, "UnsupportedMediaType"),
        ("POST", MAPS, "application/json", "{}", 422, "Invalid"),
        ("PUT", MAPS, "application/json", "{}", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/configmaps", "application/json", "{}", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/namespaces/a/gadgets", "", "", 404, "NotFound"),
        ("GET", "/api/v1/configmaps/x", "", "", 404, "NotFound"),
    ] {
        let response = client.raw(method, path, content_type, body).await;
        assert_eq!(response.status().as_u16(), code, "{method} {path} {body}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!(reason)), "{status}");
    }
    let large = json!({"metadata": {"name": "x"}, "data": {"k": "x".repeat(4 << 20)}}).to_string();
    let response = client.raw("POST", MAPS, "application/json", &large).await;
    assert_eq!(response.status().as_u16(), 413);
    assert_eq!(server.core().store().count("/registry/core/configmaps/", None).await.unwrap(), 0);
}

#[tokio::test]
async fn clients_are_served_over_http_and_the_listener_ends_with_the_server() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    config.resources.push(Arc::new(Resource::stored("", "v1", "ConfigMap", "configmaps", true)));
    let server = Server::new(config).await.unwrap();
    let listener = server.listen("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(listener.address()).await.unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{answer}");
    server.shutdown();
    listener.closed().await;
}
