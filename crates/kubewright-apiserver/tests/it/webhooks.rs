//! Admission webhooks over TLS: what they change, refuse and break.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kubewright_apiserver::admission::{MutatingWebhooks, ValidatingWebhooks};
use kubewright_apiserver::resources::Resource;
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_pki::{Authority, ServingCertificate};
use kubewright_storage::MemoryStore;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::client::Client;

/// What the webhook answers to a request of a review: everything but the uid.
type Answer = fn(&Value) -> Value;

/// A webhook on a port of its own, and the authority that vouches for it.
async fn webhook(answer: Answer) -> (u16, String) {
    let authority = Authority::new("hooks", SystemTime::now()).expect("an authority");
    let identity = authority
        .server(&["localhost"], &[Ipv4Addr::LOCALHOST.into()], SystemTime::now())
        .expect("an identity");
    let serving = ServingCertificate::new(&identity).expect("a certificate");
    let tls = kubewright_pki::server_config(Arc::new(serving)).expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust the certificate goes away again.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service =
                hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                    let body =
                        request.into_body().collect().await.expect("the review is sent whole").to_bytes();
                    let review: Value = serde_json::from_slice(&body).expect("the review is JSON");
                    let mut response = answer(&review["request"]);
                    if response.get("uid").is_none() {
                        response["uid"] = review["request"]["uid"].clone();
                    }
                    let review = json!({
                        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response,
                    });
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(review.to_string()))))
                });
            let connection = hyper::server::conn::http1::Builder::new();
            // The client may leave as soon as it has its answer.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (port, authority.bundle().to_pem())
}

async fn server() -> Client {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    let group = "admissionregistration.k8s.io";
    for resource in [
        Resource::stored("", "v1", "ConfigMap", "configmaps", true),
        Resource::stored(group, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false),
        Resource::stored(
            group,
            "v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            false,
        ),
    ] {
        config.resources.push(Arc::new(resource));
    }
    config.admission = vec![Arc::new(MutatingWebhooks), Arc::new(ValidatingWebhooks)];
    Client::of(&Server::new(config).await.expect("the store is in memory"))
}

/// Registers a webhook for config maps. `kind` is `Mutating` or `Validating`.
async fn register(client: &Client, kind: &str, port: u16, authority: &str, policy: &str) {
    let plural = format!("{}webhookconfigurations", kind.to_lowercase());
    let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
    let configuration = json!({
        "kind": format!("{kind}WebhookConfiguration"),
        "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": {"name": "hooks"},
        "webhooks": [{
            "name": "hook.example.com",
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/"), "caBundle": STANDARD.encode(authority)},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "failurePolicy": policy,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    });
    assert_eq!(client.post(&path, configuration).await.0, 201);
}

async fn create(client: &Client) -> (u16, Value) {
    let object =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}, "data": {"a": "b"}});
    client.post("/api/v1/namespaces/default/configmaps", object).await
}

#[tokio::test]
async fn a_mutating_webhook_changes_the_object() {
    let (port, authority) = webhook(|request| {
        let patch = json!([{"op": "add", "path": "/data/by", "value": request["operation"]}]);
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
    })
    .await;
    let client = server().await;
    register(&client, "Mutating", port, &authority, "Fail").await;
    let (code, object) = create(&client).await;
    assert_eq!((code, &object["data"]), (201, &json!({"a": "b", "by": "CREATE"})));
}

#[tokio::test]
async fn a_validating_webhook_refuses_in_its_own_words() {
    let (port, authority) = webhook(
        |_| json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "not today"}}),
    )
    .await;
    let client = server().await;
    register(&client, "Validating", port, &authority, "Fail").await;
    let (code, status) = create(&client).await;
    assert_eq!(code, 403);
    assert_eq!(status["message"], "admission webhook \"hook.example.com\" denied the request: not today");
    assert_eq!(client.get("/api/v1/namespaces/default/configmaps/x").await.0, 404);
}

#[tokio::test]
async fn an_answer_to_another_question_is_a_failure_that_the_policy_judges() {
    for (policy, code) in [("Fail", 500), ("Ignore", 201)] {
        let (port, authority) = webhook(|_| json!({"uid": "another", "allowed": true})).await;
        let client = server().await;
        register(&client, "Validating", port, &authority, policy).await;
        assert_eq!(create(&client).await.0, code, "{policy}");
    }
}

#[tokio::test]
async fn a_webhook_that_nobody_vouches_for_is_not_believed() {
    let (port, _) = webhook(|_| json!({"allowed": true})).await;
    let stranger = Authority::new("stranger", SystemTime::now()).expect("an authority");
    let client = server().await;
    register(&client, "Validating", port, &stranger.bundle().to_pem(), "Fail").await;
    let (code, status) = create(&client).await;
    assert_eq!((code, &status["reason"]), (500, &json!("InternalError")));
}
