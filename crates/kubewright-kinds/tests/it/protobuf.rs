//! Bodies in protobuf, as Go clients send them, through the whole server.

use http_body_util::{BodyExt as _, Full};
use kubewright_apiserver::server::Server;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::server::{TOKEN, start};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A field of a message: its number and what it holds.
enum Field<'a> {
    Int(u8, u64),
    Text(u8, &'a str),
    Message(u8, &'a [Field<'a>]),
}

use Field::{Int, Message, Text};

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn encode(fields: &[Field<'_>], out: &mut Vec<u8>) {
    for field in fields {
        let (number, bytes) = match field {
            Int(number, value) => {
                varint(u64::from(*number) << 3, out);
                varint(*value, out);
                continue;
            }
            Text(number, text) => (number, text.as_bytes().to_vec()),
            Message(number, fields) => {
                let mut message = Vec::new();
                encode(fields, &mut message);
                (number, message)
            }
        };
        varint(u64::from(*number) << 3 | 2, out);
        varint(bytes.len() as u64, out);
        out.extend(bytes);
    }
}

fn frame(api_version: &str, kind: &str, object: &[Field<'_>]) -> Vec<u8> {
    let mut out = b"k8s\0".to_vec();
    let meta = [Text(1, api_version), Text(2, kind)];
    encode(&[Message(1, &meta), Message(2, object), Text(3, ""), Text(4, "")], &mut out);
    out
}

async fn send(server: &Server, method: &str, path: &str, media: &str, body: Vec<u8>) -> (u16, Value) {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", media)
        .header("accept", "application/vnd.kubernetes.protobuf, */*")
        .body(Full::from(body))
        .expect("the request is well-formed");
    let response = server.service(None).oneshot(request).await.expect("the server runs");
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = response.into_body().collect().await.expect("there is a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("the answer is JSON"))
}

async fn json_body(server: &Server, method: &str, path: &str, body: &Value) -> (u16, Value) {
    send(server, method, path, "application/json", body.to_string().into_bytes()).await
}

/// Without what differs from one object to the next.
fn settled(mut object: Value) -> Value {
    for field in ["name", "uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        object["metadata"].as_object_mut().expect("objects have metadata").remove(field);
    }
    object
}

#[tokio::test]
async fn a_deployment_in_protobuf_is_the_same_as_in_json() {
    let server = start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let labels = [Text(1, "app"), Text(2, "web")];
    let container = [
        Text(1, "nginx"),
        Text(2, "nginx"),
        Text(5, ""),
        Message(8, &[]),
        Text(13, ""),
        Int(16, 0),
        Int(18, 0),
    ];
    let template = [
        Message(1, &[Text(1, ""), Message(8, &[]), Message(11, &labels)]),
        Message(2, &[Message(2, &container), Text(3, ""), Int(11, 0)]),
    ];
    let surge = [Int(1, 1), Int(2, 0), Text(3, "50%")];
    let spec = [
        Int(1, 2),
        Message(2, &[Message(1, &labels)]),
        Message(3, &template),
        Message(4, &[Text(1, ""), Message(2, &[Message(2, &surge)])]),
        Int(5, 0),
        Int(7, 0),
    ];
    let metadata =
        [Text(1, "binary"), Text(2, ""), Text(3, ""), Int(7, 0), Message(8, &[]), Message(11, &labels)];
    let body = frame("apps/v1", "Deployment", &[Message(1, &metadata), Message(2, &spec), Message(3, &[])]);
    let (code, binary) = send(&server, "POST", path, PROTOBUF, body).await;
    assert_eq!(code, 201, "{binary}");
    let (code, text) = json_body(
        &server,
        "POST",
        path,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "text", "creationTimestamp": null, "labels": {"app": "web"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"creationTimestamp": null, "labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "nginx", "image": "nginx", "resources": {}}]}},
                "strategy": {"rollingUpdate": {"maxSurge": "50%"}}},
            "status": {}}),
    )
    .await;
    assert_eq!(code, 201, "{text}");
    let owned = |object: &Value| object["metadata"]["managedFields"][0]["fieldsV1"].clone();
    assert_eq!(owned(&binary), owned(&text));
    assert_eq!(settled(binary), settled(text));
    server.shutdown();
}

#[tokio::test]
async fn objects_are_replaced_scaled_and_deleted_in_protobuf() {
    let server = start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let data = |value| [Text(1, "k"), Text(2, value)];
    let map = |value| frame("v1", "ConfigMap", &[Message(1, &[Text(1, "c")]), Message(2, &data(value))]);
    let (code, _) = send(&server, "POST", maps, PROTOBUF, map("a")).await;
    assert_eq!(code, 201);
    let one = format!("{maps}/c");
    let (code, replaced) = send(&server, "PUT", &one, PROTOBUF, map("b")).await;
    assert_eq!((code, &replaced["data"]), (200, &json!({"k": "b"})));

    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let (code, _) = json_body(
        &server,
        "POST",
        sets,
        &json!({"metadata": {"name": "r"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
    )
    .await;
    assert_eq!(code, 201);
    let metadata = [Text(1, "r"), Text(3, "default")];
    let scale = frame("autoscaling/v1", "Scale", &[Message(1, &metadata), Message(2, &[Int(1, 4)])]);
    let (code, scaled) = send(&server, "PUT", &format!("{sets}/r/scale"), PROTOBUF, scale).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(4)), "{scaled}");

    let delete =
        |uid| frame("v1", "DeleteOptions", &[Int(1, 0), Message(2, &[Text(1, uid)]), Text(4, "Background")]);
    let (code, refused) = send(&server, "DELETE", &one, PROTOBUF, delete("other")).await;
    assert_eq!(code, 409, "{refused}");
    let uid = replaced["metadata"]["uid"].as_str().expect("objects have a uid");
    let (code, _) = send(&server, "DELETE", &one, PROTOBUF, delete(uid)).await;
    assert_eq!(code, 200);
    server.shutdown();
}

#[tokio::test]
async fn bodies_that_are_no_message_of_the_kind_are_bad_requests() {
    let server = start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let refused = async |body: Vec<u8>| {
        let (code, status) = send(&server, "POST", path, PROTOBUF, body).await;
        assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
        status["message"].as_str().expect("it says why").to_owned()
    };
    assert_eq!(
        refused(frame("apps/v1", "Deployment", &[Int(2, 1)])).await,
        "Deployment in version \"v1\" cannot be handled as a Deployment: proto: wrong wireType = 0 for field Spec"
    );
    assert!(refused(b"{}".to_vec()).await.contains("does not appear to be a protobuf message"));
    assert!(refused(b"k8s\0\xff".to_vec()).await.contains("unexpected EOF"));
    assert!(refused(frame("v1", "ConfigMap", &[])).await.contains("cannot be handled as a Deployment"));
    let (code, _) = send(&server, "POST", path, "application/cbor", Vec::new()).await;
    assert_eq!(code, 415);
    server.shutdown();
}
