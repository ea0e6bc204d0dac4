//! Watches see the state where they ask for it and every change after, each watcher in its own selection.

use http_body_util::BodyExt;
use kubewright_apiserver::server::ServerBody;
use serde_json::{Value, json};

use crate::client::{Client, server};

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

/// Reads `count` events.
async fn events(body: &mut ServerBody, count: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let frame = body.frame().await.expect("the watch goes on").expect("the stream is good");
        let text = frame.into_data().expect("only data");
        seen.push(serde_json::from_slice(&text).expect("an event is one line of JSON"));
    }
    seen
}

fn short(events: &[Value]) -> Vec<String> {
    let text = |e: &Value| {
        format!("{} {}", e["type"].as_str().unwrap(), e["object"]["metadata"]["name"].as_str().unwrap_or("-"))
    };
    events.iter().map(text).collect()
}

async fn watch(client: &Client, query: &str) -> ServerBody {
    client.raw("GET", &format!("{MAPS}?watch=1&{query}"), "", "").await.into_body()
}

async fn put(client: &Client, name: &str, label: &str) {
    let object = json!({"metadata": {"name": name, "labels": {"l": label}}});
    if client.post(MAPS, object.clone()).await.0 == 409 {
        client.put(&format!("{MAPS}/{name}"), object).await;
    }
}

#[tokio::test]
async fn a_watch_from_scratch_begins_with_the_state() {
    let server = server().await;
    let client = Client::of(&server);
    put(&client, "x", "1").await;
    let mut body = watch(&client, "").await;
    assert_eq!(short(&events(&mut body, 1).await), ["ADDED x"]);
    put(&client, "x", "2").await;
    client.delete(&format!("{MAPS}/x"), Value::Null).await;
    let after = events(&mut body, 2).await;
    assert_eq!(short(&after), ["MODIFIED x", "DELETED x"]);
    let revision = server.core().store().revision().await.unwrap().to_string();
    assert_eq!(after[1]["object"]["metadata"]["resourceVersion"], revision);
}

#[tokio::test]
async fn entering_and_leaving_a_selection_are_added_and_deleted() {
    let server = server().await;
    let client = Client::of(&server);
    let mut ones = watch(&client, "labelSelector=l%3D1").await;
    let mut all = watch(&client, "").await;
    for (name, label) in [("x", "1"), ("x", "2"), ("y", "2"), ("x", "1")] {
        put(&client, name, label).await;
    }
    client.delete(&format!("{MAPS}/x"), Value::Null).await;
    let seen = events(&mut ones, 4).await;
    assert_eq!(short(&seen), ["ADDED x", "DELETED x", "ADDED x", "DELETED x"]);
    assert_eq!(seen[1]["object"]["metadata"]["labels"]["l"], "1");
    assert_eq!(
        short(&events(&mut all, 5).await),
        ["ADDED x", "MODIFIED x", "ADDED y", "MODIFIED x", "DELETED x"]
    );
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_where_both_were_asked_for() {
    let server = server().await;
    let client = Client::of(&server);
    put(&client, "x", "1").await;
    let mut body =
        watch(&client, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
            .await;
    let seen = events(&mut body, 2).await;
    assert_eq!(short(&seen), ["ADDED x", "BOOKMARK -"]);
    assert_eq!(seen[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_compacted_revision_is_an_error_event() {
    let server = server().await;
    let client = Client::of(&server);
    for label in ["1", "2", "3"] {
        put(&client, "x", label).await;
    }
    let store = server.core().store();
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let mut body = watch(&client, "resourceVersion=1").await;
    let seen = events(&mut body, 1).await;
    assert_eq!((&seen[0]["type"], &seen[0]["object"]["code"]), (&json!("ERROR"), &json!(410)), "{seen:?}");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_watch_ends_when_its_resource_is_published_anew() {
    let server = server().await;
    let client = Client::of(&server);
    let mut body = watch(&client, "").await;
    let mut others = client.raw("GET", "/apis/test.example.com/v1/boxes?watch=1", "", "").await.into_body();
    server.core().publish(|current| {
        let renewed = current.iter().map(|r| match &*r.plural {
            "configmaps" => std::sync::Arc::new((**r).clone()),
            _ => std::sync::Arc::clone(r),
        });
        renewed.collect()
    });
    assert!(body.frame().await.is_none());
    let new = json!({"kind": "Box", "apiVersion": "test.example.com/v1", "metadata": {"name": "b"}});
    client.post("/apis/test.example.com/v1/boxes", new).await;
    assert_eq!(short(&events(&mut others, 1).await), ["ADDED b"]);
}
