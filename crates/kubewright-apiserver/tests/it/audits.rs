//! What is written down about requests.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::BodyExt;
use kubewright_apiserver::audit::{Auditor, Policy, Sink};
use kubewright_apiserver::server::Server;
use serde_json::{Value, json};

use crate::client::Client;
use crate::hook::{self, Hook};

/// Keeps events in memory.
#[derive(Default)]
struct Kept(Mutex<Vec<Value>>);

impl Sink for Kept {
    fn write(&self, event: Bytes) {
        let event = serde_json::from_slice(&event).expect("an event is JSON");
        self.0.lock().expect("no test panics with it").push(event);
    }
}

impl Kept {
    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().expect("no test panics with it"))
    }
}

/// A server that audits as the rules say.
async fn audited(rules: &str) -> (Client, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}");
    let mut config = hook::config();
    config.audit = Some(Auditor::new(Policy::parse(&policy).expect("a policy"), Arc::clone(&kept) as _));
    let client = Client::of(&Server::new(config).await.expect("the store is in memory"));
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}});
    client.post("/api/v1/namespaces", namespace).await;
    kept.take();
    (client, kept)
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|e| e["stage"].as_str()).collect()
}

#[tokio::test]
async fn a_request_is_written_down_when_it_arrives_and_when_it_is_answered() {
    let (client, kept) = audited("rules: [{level: Metadata}]").await;
    hook::create(&client, "x").await;
    let events = kept.take();
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let done = &events[1];
    assert_eq!(done["auditID"], events[0]["auditID"]);
    assert_eq!((&done["kind"], &done["apiVersion"]), (&json!("Event"), &json!("audit.k8s.io/v1")));
    assert_eq!((&done["verb"], &done["userAgent"]), (&json!("create"), &json!("tester/1")));
    assert_eq!(done["user"]["groups"], json!(["system:masters", "system:authenticated"]));
    assert_eq!(
        done["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "x", "apiVersion": "v1"})
    );
    assert_eq!(done["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(done["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!((&done["requestObject"], &done["responseObject"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn levels_decide_about_bodies_and_managed_fields_can_be_left_out() {
    let (client, kept) = audited(
        "omitStages: [RequestReceived]\nomitManagedFields: true\nrules: [{level: RequestResponse, verbs: [create]}, \
         {level: Request, verbs: [patch]}]",
    )
    .await;
    hook::create(&client, "x").await;
    client.merge("/api/v1/namespaces/default/configmaps/x", json!({"data": {"a": null}})).await;
    client.get("/api/v1/namespaces/default/configmaps/x").await;
    let events = kept.take();
    assert_eq!(stages(&events), ["ResponseComplete", "ResponseComplete"], "a get matches no rule");
    assert_eq!(events[0]["requestObject"]["data"], json!({"a": "b"}));
    assert_eq!(events[0]["responseObject"]["metadata"]["name"], "x");
    assert_eq!(events[0]["responseObject"]["metadata"].get("managedFields"), None);
    assert_eq!(events[1]["requestObject"], json!({"data": {"a": null}}));
    assert_eq!(events[1].get("responseObject"), None);
}

#[tokio::test]
async fn a_refusal_is_written_down_with_its_reason() {
    let (client, kept) = audited("omitStages: [RequestReceived]\nrules: [{level: Metadata}]").await;
    client.get("/api/v1/namespaces/default/configmaps/none").await;
    let events = kept.take();
    let status = &events[0]["responseStatus"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(404), &json!("NotFound")));
    assert_eq!(status["message"], "configmaps \"none\" not found");
}

#[tokio::test]
async fn a_watch_is_written_down_when_it_starts_and_when_it_ends() {
    let (client, kept) = audited("rules: [{level: Metadata, verbs: [watch]}]").await;
    let watch = client.raw("GET", "/api/v1/configmaps?watch=1&timeoutSeconds=60", "", "").await;
    assert_eq!(stages(&kept.take()), ["RequestReceived", "ResponseStarted"]);
    drop(watch.into_body());
    assert_eq!(stages(&kept.take()), ["ResponseComplete"]);
}

#[tokio::test]
async fn what_webhooks_did_and_said_is_annotated() {
    let (client, kept) = audited("omitStages: [RequestReceived]\nrules: [{level: Metadata}]").await;
    let patch = json!([{"op": "add", "path": "/data/x", "value": "y"}]);
    let mutating = Hook::reviewing(move |_| {
        let mut response = hook::patching(&patch);
        response["auditAnnotations"] = json!({"why": "because"});
        response
    })
    .await;
    mutating.register(&client, "Mutating", "m", json!({})).await;
    let broken = Hook::reviewing(|_| json!({"uid": "another", "allowed": true})).await;
    broken.register(&client, "Validating", "v", json!({"failurePolicy": "Ignore"})).await;
    kept.take();
    hook::create(&client, "x").await;
    let annotations = kept.take()[0]["annotations"].clone();
    assert_eq!(annotations["m.example.com/why"], "because");
    assert_eq!(
        annotations["mutation.webhook.admission.k8s.io/round_0_index_0"],
        r#"{"configuration":"m","mutated":true,"webhook":"m.example.com"}"#
    );
    assert_eq!(
        annotations["failed-open.validating.webhook.admission.k8s.io/round_0_index_0"],
        "v.example.com"
    );
}

#[tokio::test]
async fn a_request_without_a_known_sender_is_written_down() {
    let kept = Arc::new(Kept::default());
    let mut config = hook::config();
    config.anonymous = kubewright_apiserver::authn::Anonymous::Nowhere;
    let policy = Policy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]");
    config.audit = Some(Auditor::new(policy.expect("a policy"), Arc::clone(&kept) as _));
    let server = Server::new(config).await.expect("the store is in memory");
    let client = Client(server.service(None));
    let answer = client.raw("GET", "/api/v1/configmaps", "", "").await;
    assert_eq!(answer.status(), 401);
    answer.into_body().collect().await.expect("the body ends");
    let events = kept.take();
    assert_eq!(stages(&events), ["ResponseStarted"]);
    assert_eq!(events[0]["responseStatus"]["message"], "Authentication failed, no credentials provided");
}
