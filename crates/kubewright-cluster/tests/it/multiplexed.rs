//! Many watches on one connection of HTTP/2: each sees every change, whatever the others on the connection do.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubewright_cluster::Cluster;
use serde_json::{Value, json};

use crate::wire::{Caller, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WATCHERS: usize = 70;

/// A connection of HTTP/2 that others share.
async fn connection(cluster: &Cluster) -> SendRequest<Empty<Bytes>> {
    let stream = TokioIo::new(Caller::admin(cluster).http2().connect().await.into_stream());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    sender
}

/// A watch of new ConfigMaps.
async fn watch(sender: &mut SendRequest<Empty<Bytes>>) -> Incoming {
    let uri = format!(
        "https://localhost{MAPS}?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
    );
    let request = http::Request::builder().uri(uri).body(Empty::new()).expect("the request is well-formed");
    sender.ready().await.expect("there is room for a stream");
    let response = sender.send_request(request).await.expect("there is an answer");
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// The names in the next `count` events.
async fn names(body: &mut Incoming, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut text = Vec::new();
    while seen.len() < count {
        let frame = body.frame().await.expect("the watch goes on").expect("the stream is good");
        text.extend(frame.into_data().expect("only data"));
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).expect("an event is one line of JSON");
            seen.push(event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_string());
        }
    }
    seen
}

async fn create(admin: &Caller, name: &str) {
    let object = json!({
        "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"text": "x".repeat(2000)},
    });
    assert_eq!(admin.post(MAPS, object).await.code, 201);
}

#[tokio::test]
async fn watches_that_share_a_connection_see_every_change_and_end_one_by_one() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let mut sender = connection(&cluster).await;
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        watches.push(watch(&mut sender).await);
    }
    for name in ["a", "b", "c"] {
        create(&admin, name).await;
    }
    for body in &mut watches {
        assert_eq!(names(body, 3).await, ["a", "b", "c"]);
    }
    // Some go, one comes: their places are taken anew.
    watches.drain(10..20);
    watches.push(watch(&mut sender).await);
    create(&admin, "d").await;
    for body in &mut watches {
        assert_eq!(names(body, 1).await, ["d"]);
    }
    let down = tokio::spawn(cluster.shutdown());
    for body in watches {
        let last = body.collect().await.expect("a watch ends as it should");
        assert!(last.to_bytes().is_empty());
    }
    drop(sender);
    down.await.expect("it goes down");
}

#[tokio::test]
async fn a_watch_that_is_not_read_does_not_hold_up_those_beside_it() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let mut sender = connection(&cluster).await;
    let _unread = watch(&mut sender).await;
    let mut read = watch(&mut sender).await;
    // More than what the connection lets a stream send without being read.
    let text = "x".repeat(900_000);
    for n in 0..4 {
        let name = format!("large-{n}");
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"text": text},
        });
        assert_eq!(admin.post(MAPS, object).await.code, 201);
        assert_eq!(names(&mut read, 1).await, [name]);
    }
}
