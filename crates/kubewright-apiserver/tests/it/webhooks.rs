//! Admission webhooks over TLS: whom they are asked about, what they change, refuse and break.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubewright_pki::Authority;
use serde_json::{Value, json};

use crate::hook::{Hook, create, patching, server};

const ALL: [&str; 1] = ["*"];

fn on_everything() -> Value {
    json!([{"operations": ALL, "apiGroups": ALL, "apiVersions": ALL, "resources": ["*", "*/*"]}])
}

fn add(path: &str, value: &str) -> Value {
    patching(&json!([{"op": "add", "path": path, "value": value}]))
}

#[tokio::test]
async fn a_mutating_webhook_changes_the_object() {
    let hook = Hook::reviewing(|request| add("/data/by", request["operation"].as_str().unwrap())).await;
    let client = server().await;
    hook.register(&client, "Mutating", "a", json!({})).await;
    let (code, object) = create(&client, "x").await;
    assert_eq!((code, &object["data"]), (201, &json!({"a": "b", "by": "CREATE"})));
    let asked = &hook.asked()[0];
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(asked["requestResource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&asked["name"], &asked["namespace"]), (&json!("x"), &json!("default")));
    assert_eq!((&asked["oldObject"], &asked["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!(asked["options"]["kind"], "CreateOptions");
}

#[tokio::test]
async fn webhooks_are_asked_in_the_order_of_their_configurations() {
    let client = server().await;
    let first = Hook::reviewing(|_| add("/data/n", "1")).await;
    let second = Hook::reviewing(|request| {
        let n = request["object"]["data"]["n"].as_str().unwrap_or("nothing");
        add("/data/seen", n)
    })
    .await;
    second.register(&client, "Mutating", "b", json!({})).await;
    first.register(&client, "Mutating", "a", json!({})).await;
    assert_eq!(create(&client, "x").await.1["data"], json!({"a": "b", "n": "1", "seen": "1"}));
}

#[tokio::test]
async fn a_webhook_that_asks_for_it_sees_once_more_what_others_changed_after_it() {
    let client = server().await;
    let counts = |request: &Value| {
        let n = request["object"]["data"].as_object().map_or(0, serde_json::Map::len);
        add("/data/count", &n.to_string())
    };
    let again = Hook::reviewing(counts).await;
    let once = Hook::reviewing(|_| add("/data/more", "x")).await;
    again.register(&client, "Mutating", "a", json!({"reinvocationPolicy": "IfNeeded"})).await;
    once.register(&client, "Mutating", "b", json!({"reinvocationPolicy": "Never"})).await;
    assert_eq!(create(&client, "x").await.1["data"], json!({"a": "b", "count": "3", "more": "x"}));
    assert_eq!((again.asked().len(), once.asked().len()), (2, 1));
}

#[tokio::test]
async fn a_validating_webhook_refuses_in_its_own_words() {
    let hook = Hook::reviewing(
        |_| json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "not today"}}),
    )
    .await;
    let client = server().await;
    hook.register(&client, "Validating", "a", json!({})).await;
    let (code, status) = create(&client, "x").await;
    assert_eq!(code, 403);
    assert_eq!(status["message"], "admission webhook \"a.example.com\" denied the request: not today");
    assert_eq!(client.get("/api/v1/namespaces/default/configmaps/x").await.0, 404);
}

#[tokio::test]
async fn deletions_and_updates_are_shown_with_the_old_object() {
    let hook = Hook::reviewing(|_| json!({"allowed": true, "warnings": ["well, well"]})).await;
    let client = server().await;
    create(&client, "x").await;
    hook.register(&client, "Validating", "a", json!({"rules": on_everything()})).await;
    let one = "/api/v1/namespaces/default/configmaps/x";
    let answer = client.raw("PATCH", one, "application/merge-patch+json", r#"{"data": {"a": "c"}}"#).await;
    assert_eq!(answer.headers()["warning"], "299 - \"well, well\"");
    client.delete(one, json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})).await;
    let asked = hook.asked();
    assert_eq!((&asked[0]["operation"], &asked[1]["operation"]), (&json!("UPDATE"), &json!("DELETE")));
    assert_eq!(
        (&asked[0]["oldObject"]["data"], &asked[0]["object"]["data"]),
        (&json!({"a": "b"}), &json!({"a": "c"}))
    );
    assert_eq!((&asked[1]["oldObject"]["data"], &asked[1]["object"]), (&json!({"a": "c"}), &Value::Null));
    assert_eq!(asked[1]["options"]["gracePeriodSeconds"], 0);
}

#[tokio::test]
async fn a_patch_to_what_is_deleted_is_a_failure_whatever_the_policy() {
    let hook = Hook::reviewing(|_| add("/data/x", "y")).await;
    let client = server().await;
    create(&client, "x").await;
    let ignoring = json!({"rules": on_everything(), "failurePolicy": "Ignore"});
    hook.register(&client, "Mutating", "a", ignoring).await;
    let (code, status) = client.delete("/api/v1/namespaces/default/configmaps/x", Value::Null).await;
    assert_eq!(code, 500);
    assert_eq!(
        status["message"],
        "Internal error occurred: admission webhook \"a.example.com\" attempted to modify the object, which is not \
         supported for this operation"
    );
}

#[tokio::test]
async fn selectors_choose_objects_and_namespaces_and_namespaces_themselves() {
    let refuses = || Hook::reviewing(|_| json!({"allowed": false}));
    let client = server().await;
    let by_namespace = refuses().await;
    let selector =
        json!({"namespaceSelector": {"matchLabels": {"guarded": "yes"}}, "rules": on_everything()});
    by_namespace.register(&client, "Validating", "a", selector).await;
    assert_eq!(create(&client, "x").await.0, 201, "its namespace has no such label");
    let namespace = |name: &str, labels: Value| json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}});
    let refused = namespace("n", json!({"guarded": "yes"}));
    assert_eq!(client.post("/api/v1/namespaces", refused).await.0, 400, "judged by the labels it would have");
    assert_eq!(client.post("/api/v1/namespaces", namespace("n", json!({}))).await.0, 201);

    let by_object = refuses().await;
    by_object
        .register(
            &client,
            "Validating",
            "b",
            json!({"objectSelector": {"matchExpressions": [
            {"key": "a", "operator": "Exists"}]}}),
        )
        .await;
    let object =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "l", "labels": {"a": ""}}});
    assert_eq!(client.post("/api/v1/namespaces/default/configmaps", object).await.0, 400);
    assert_eq!(create(&client, "without").await.0, 201);
}

#[tokio::test]
async fn a_webhook_of_another_version_is_shown_that_version() {
    let hook = Hook::reviewing(|_| add("/spec/by", "hook")).await;
    let client = server().await;
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.example.com"},
        "spec": {"group": "x.example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1", true), version("v2", false)]}});
    let (code, said) =
        client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    assert_eq!(code, 201, "{said}");
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["x.example.com"], "apiVersions": ["v2"],
        "resources": ["widgets"]}]);
    hook.register(&client, "Mutating", "equivalent", json!({"rules": rules})).await;
    hook.register(&client, "Validating", "exact", json!({"rules": rules, "matchPolicy": "Exact"})).await;
    let widget =
        json!({"apiVersion": "x.example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}});
    let (code, created) = client.post("/apis/x.example.com/v1/namespaces/default/widgets", widget).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(
        (&created["apiVersion"], &created["spec"]),
        (&json!("x.example.com/v1"), &json!({"by": "hook"}))
    );
    let asked = hook.asked();
    assert_eq!(asked.len(), 1, "the exact one is for v2 alone");
    assert_eq!(
        (&asked[0]["kind"]["version"], &asked[0]["requestKind"]["version"]),
        (&json!("v2"), &json!("v1"))
    );
    assert_eq!(asked[0]["object"]["apiVersion"], "x.example.com/v2");
    assert_eq!(asked[0]["resource"]["version"], "v2");
}

#[tokio::test]
async fn a_dry_run_asks_only_those_without_side_effects() {
    let hook = Hook::reviewing(|_| json!({"allowed": true})).await;
    let client = server().await;
    hook.register(&client, "Validating", "a", json!({"sideEffects": "Some"})).await;
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}});
    let (code, status) =
        client.post("/api/v1/namespaces/default/configmaps?dryRun=All", object.clone()).await;
    assert_eq!(code, 400);
    assert_eq!(status["message"], "admission webhook \"a.example.com\" does not support dry run");
    hook.register(&client, "Validating", "b", json!({"sideEffects": "NoneOnDryRun"})).await;
    client
        .delete("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/a", Value::Null)
        .await;
    assert_eq!(client.post("/api/v1/namespaces/default/configmaps?dryRun=All", object).await.0, 201);
    assert_eq!(hook.asked().last().unwrap()["dryRun"], json!(true));
}

#[tokio::test]
async fn configurations_of_webhooks_are_shown_to_no_webhook() {
    let hook = Hook::reviewing(|_| json!({"allowed": false})).await;
    let client = server().await;
    hook.register(&client, "Validating", "a", json!({"rules": on_everything()})).await;
    let one = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/a";
    assert_eq!(client.delete(one, Value::Null).await.0, 200);
    assert!(hook.asked().is_empty());
}

#[tokio::test]
async fn an_answer_to_another_question_is_a_failure_that_the_policy_judges() {
    for (policy, code) in [("Fail", 500), ("Ignore", 201)] {
        let hook = Hook::reviewing(|_| json!({"uid": "another", "allowed": true})).await;
        let client = server().await;
        hook.register(&client, "Validating", "a", json!({"failurePolicy": policy})).await;
        assert_eq!(create(&client, "x").await.0, code, "{policy}");
    }
}

#[tokio::test]
async fn match_conditions_refuse_what_cannot_be_judged_unless_failures_are_ignored() {
    let hook = Hook::reviewing(|_| json!({"allowed": true})).await;
    for (policy, code) in [("Fail", 403), ("Ignore", 201)] {
        let client = server().await;
        let conditions = json!([{"name": "never", "expression": "false"}]);
        let more = json!({"failurePolicy": policy, "matchConditions": conditions});
        hook.register(&client, "Validating", "a", more).await;
        let (found, said) = create(&client, "x").await;
        assert_eq!(found, code, "{said}");
    }
    assert!(hook.asked().is_empty());
}

#[tokio::test]
async fn a_webhook_that_nobody_vouches_for_is_not_believed() {
    let hook = Hook::reviewing(|_| json!({"allowed": true})).await;
    let stranger = Authority::new("stranger", SystemTime::now()).expect("an authority");
    let client = server().await;
    let url = format!("https://127.0.0.1:{}/", hook.port);
    let config = json!({"url": url, "caBundle": STANDARD.encode(stranger.bundle().to_pem())});
    hook.register(&client, "Validating", "a", json!({"clientConfig": config})).await;
    let (code, status) = create(&client, "x").await;
    assert_eq!(code, 500);
    assert_eq!(
        status["message"],
        format!(
            "Internal error occurred: failed calling webhook \"a.example.com\": failed to call webhook: Post \
             \"{url}?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
        )
    );
}

#[tokio::test]
async fn connections_to_a_webhook_are_kept() {
    let hook = Hook::reviewing(|_| json!({"allowed": true})).await;
    let client = server().await;
    hook.register(&client, "Validating", "a", json!({})).await;
    for n in 0..5 {
        assert_eq!(create(&client, &format!("x{n}")).await.0, 201);
    }
    assert_eq!(hook.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_service_leads_to_one_of_its_endpoints() {
    let hook = Hook::reviewing(|_| json!({"allowed": true})).await;
    let client = server().await;
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "hook"},
        "spec": {"ports": [{"name": "https", "port": 443}]}});
    client.post("/api/v1/namespaces/default/services", service).await;
    let endpoints = json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": "hook"},
        "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "https", "port": hook.port}]}]});
    client.post("/api/v1/namespaces/default/endpoints", endpoints).await;
    let config = json!({"service": {"namespace": "default", "name": "hook", "path": "/review"},
        "caBundle": STANDARD.encode(&hook.authority)});
    hook.register(&client, "Validating", "a", json!({"clientConfig": config})).await;
    let (code, said) = create(&client, "x").await;
    assert_eq!(code, 201, "{said}");
    assert_eq!(hook.asked().len(), 1);
}
