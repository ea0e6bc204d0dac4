//! Subresources that do something, through a server: evictions under budgets, bindings, allocation of addresses.

use kubewright_apiserver::server::Server;
use serde_json::{Value, json};

use crate::server;

async fn send(server: &Server, method: &str, uri: &str, body: &Value) -> (u16, Value) {
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    server::send_as(server, method, uri, content, body).await
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn running_pod(server: &Server, name: &str) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "a:1"}]}});
    assert_eq!(send(server, "POST", PODS, &pod).await.0, 201);
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(send(server, "PATCH", &format!("{PODS}/{name}/status"), &status).await.0, 200);
}

#[tokio::test]
async fn an_eviction_waits_for_the_budget() {
    let server = server::start().await;
    running_pod(&server, "p").await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    assert_eq!(send(&server, "POST", BUDGETS, &budget).await.0, 201);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let evict = format!("{PODS}/p/eviction");

    let (code, refused) = send(&server, "POST", &evict, &eviction).await;
    assert_eq!(code, 429, "{refused}");
    assert_eq!(refused["details"]["retryAfterSeconds"], 10);

    let observe = |allowed: i64| {
        json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1,
            "desiredHealthy": 1, "expectedPods": 1}})
    };
    let status = format!("{BUDGETS}/b/status");
    assert_eq!(send(&server, "PATCH", &status, &observe(0)).await.0, 200);
    let (code, refused) = send(&server, "POST", &evict, &eviction).await;
    assert_eq!(code, 429, "{refused}");
    assert_eq!(refused["reason"], "TooManyRequests");
    assert_eq!(refused["details"]["causes"][0]["reason"], "DisruptionBudget");

    assert_eq!(send(&server, "PATCH", &status, &observe(1)).await.0, 200);
    let (code, done) = send(&server, "POST", &evict, &eviction).await;
    assert_eq!((code, &done["status"]), (201, &json!("Success")), "{done}");
    let (_, pod) = send(&server, "GET", &format!("{PODS}/p"), &Value::Null).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
    let (_, budget) = send(&server, "GET", &format!("{BUDGETS}/b"), &Value::Null).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["p"].is_string(), "{budget}");
    server.shutdown();
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = server::start().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}});
    assert_eq!(send(&server, "POST", PODS, &pod).await.0, 201);
    let to = |node: &str| json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    assert_eq!(send(&server, "POST", &format!("{PODS}/p/binding"), &to("n1")).await.0, 201);
    let (code, refused) = send(&server, "POST", &format!("{PODS}/p/binding"), &to("n2")).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    server.shutdown();
}

#[tokio::test]
async fn addresses_and_ports_are_given_back() {
    let server = server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "clusterIP": "10.0.0.77",
            "ports": [{"port": 80, "nodePort": 30080}]}})
    };
    assert_eq!(send(&server, "POST", services, &service("a")).await.0, 201);
    let (code, refused) = send(&server, "POST", services, &service("b")).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(send(&server, "DELETE", &format!("{services}/a"), &Value::Null).await.0, 200);
    let (code, made) = send(&server, "POST", services, &service("b")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.0.0.77"]));
    server.shutdown();
}
