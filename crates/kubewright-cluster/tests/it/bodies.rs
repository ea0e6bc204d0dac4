//! Bodies that are small to send and large to read, or deep, or not what they are said to be.

use serde_json::json;

use crate::wire::{Caller, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

fn map(name: &str, data: &str) -> String {
    format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"}},"data":{data}}}"#)
}

#[tokio::test]
async fn what_is_nested_too_deeply_is_refused() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let deep =
        |open: &str, close: &str| map("deep", &format!("{}1{}", open.repeat(500_000), close.repeat(500_000)));
    for body in [deep("[", "]"), deep("{\"a\":", "}"), "[".repeat(1_000_000), "{\"a\":".repeat(500_000)] {
        let answer = admin.raw("POST", MAPS, JSON, body.clone()).await;
        assert_eq!(answer.code, 400, "{:.80}", answer.body.to_string());
        for kind in
            ["application/merge-patch+json", "application/json-patch+json", "application/apply-patch+yaml"]
        {
            let path = format!("{MAPS}/deep?fieldManager=x");
            let answer = admin.raw("PATCH", &path, kind, body.clone()).await;
            assert!((400..500).contains(&answer.code), "{kind}: {:.80}", answer.body.to_string());
        }
    }
    let yaml = format!("kind: ConfigMap\napiVersion: v1\ndata: {}", "[".repeat(1_000_000));
    assert_eq!(admin.raw("POST", MAPS, YAML, yaml).await.code, 400);
    assert_eq!(admin.get("/readyz").await.code, 200);
}

#[tokio::test]
async fn aliases_that_multiply_are_refused() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    // Ten times ten times … a billion strings.
    let mut bomb = String::from(
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: bomb}\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n",
    );
    for n in 1..10 {
        let before = format!("*a{}", n - 1);
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![before; 10].join(",")));
    }
    let answer = admin.raw("POST", MAPS, YAML, bomb.clone()).await;
    assert_eq!(answer.code, 400, "{:.200}", answer.body.to_string());
    let path = format!("{MAPS}/bomb?fieldManager=x");
    let answer = admin.raw("PATCH", &path, "application/apply-patch+yaml", bomb).await;
    assert!((400..500).contains(&answer.code), "{:.200}", answer.body.to_string());
    let own = "kind: ConfigMap\napiVersion: v1\nmetadata: &m {name: loop, labels: *m}\n";
    assert_eq!(admin.raw("POST", MAPS, YAML, own).await.code, 400);
    assert_eq!(admin.get("/readyz").await.code, 200);
}

#[tokio::test]
async fn bodies_are_read_as_they_are_and_up_to_a_size() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    // A gzip of nothing: nobody unpacks it, whatever the header says.
    let gzip: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let packed = admin.clone().header("content-encoding", "gzip");
    let answer = packed.raw("POST", MAPS, JSON, gzip).await;
    assert!(matches!(answer.code, 400 | 415), "{}", answer.body);
    let large = map("large", &format!(r#"{{"a":"{}"}}"#, "x".repeat(4 * 1024 * 1024)));
    let answer = admin.raw("POST", MAPS, JSON, large).await;
    assert_eq!(answer.code, 413, "{:.200}", answer.body.to_string());
    assert_eq!(answer.body["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn patches_with_operations_without_end_are_refused() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    assert_eq!(admin.raw("POST", MAPS, JSON, map("m", r#"{"a":"b"}"#)).await.code, 201);
    let patch = "application/json-patch+json";
    let many = json!(vec![json!({"op": "test", "path": "/data/a", "value": "b"}); 10_001]).to_string();
    let answer = admin.raw("PATCH", &format!("{MAPS}/m"), patch, many).await;
    assert_eq!(answer.code, 413, "{:.200}", answer.body.to_string());
    // Each copy doubles what is there.
    let mut doubling = vec![json!({"op": "add", "path": "/data/x", "value": "y".repeat(1000)})];
    for n in 0..60 {
        doubling.push(json!({"op": "copy", "from": "/data", "path": format!("/data/c{n}")}));
    }
    let answer = admin.raw("PATCH", &format!("{MAPS}/m"), patch, json!(doubling).to_string()).await;
    assert!((400..500).contains(&answer.code), "{:.200}", answer.body.to_string());
    assert_eq!(admin.get("/readyz").await.code, 200);
}

#[tokio::test]
async fn what_is_no_text_is_refused() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    for body in [&[0xff, 0xfe, 0x00][..], b"\0", b"", b"nul", b"{\"kind\":\"ConfigMap\"", b"\x80\x81"] {
        for kind in [JSON, YAML] {
            let answer = admin.raw("POST", MAPS, kind, body.to_vec()).await;
            assert!((400..500).contains(&answer.code), "{kind} {body:?}: {}", answer.body);
        }
    }
    let answer = admin
        .raw("POST", MAPS, "application/vnd.kubernetes.protobuf", b"k8s\0\xff\xff\xff\xff".to_vec())
        .await;
    assert!((400..500).contains(&answer.code), "{}", answer.body);
    let answer = admin.raw("POST", MAPS, "text/html", b"{}".to_vec()).await;
    assert_eq!(answer.code, 415);
}
