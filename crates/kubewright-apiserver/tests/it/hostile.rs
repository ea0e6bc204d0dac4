//! Webhooks that mean harm, or are broken: whatever they do, the write that asked them fails and nothing else does.

use bytes::Bytes;
use kubewright_apiserver::authn::{Authenticator, TokenWebhook};
use kubewright_apiserver::authz::{Attributes, Authorizer, Decision, Webhook, WebhookSettings};
use kubewright_apiserver::outbound::Peer;
use kubewright_apiserver::server::{ISSUER, Server};
use kubewright_pki::Bundle;
use serde_json::{Value, json};

use crate::hook::{self, Hook, Reply, create, patching, server};

async fn refused(hook: &Hook, kind: &str) -> (u16, String) {
    let client = server().await;
    hook.register(&client, kind, "a", json!({})).await;
    let (code, status) = create(&client, "x").await;
    let (found, _) = client.get("/api/v1/namespaces/default/configmaps/x").await;
    assert_eq!(found, 404, "nothing was written: {status}");
    (code, status["message"].as_str().unwrap_or_default().to_string())
}

#[tokio::test]
async fn a_webhook_that_redirects_is_not_followed() {
    let other = Hook::reviewing(|_| json!({"allowed": true})).await;
    let location: &'static str = Box::leak(format!("https://127.0.0.1:{}/", other.port).into_boxed_str());
    for code in [301, 302, 307, 308] {
        let hook = Hook::replying(move |_| Reply::Raw(code, "location", location, Bytes::new())).await;
        let (answered, why) = refused(&hook, "Validating").await;
        assert_eq!(answered, 500, "{why}");
    }
    assert!(other.asked().is_empty(), "nobody was sent there");
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_takes_no_longer_than_the_client_waits() {
    let hook = Hook::replying(|_| Reply::Hang).await;
    let client = server().await;
    hook.register(&client, "Mutating", "a", json!({"timeoutSeconds": 30})).await;
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}});
    let (code, status) = client.post("/api/v1/namespaces/default/configmaps?timeout=50ms", object).await;
    assert_eq!(code, 504);
    assert_eq!(status["message"], "Timeout: request did not complete within the allotted timeout");
    assert_eq!(status["reason"], "Timeout");
    assert_eq!(client.get("/api/v1/namespaces/default/configmaps/x").await.0, 404);
}

#[tokio::test]
async fn a_webhook_that_answers_without_end_is_cut_off() {
    let endless = Bytes::from(vec![b' '; 100 * 1024 * 1024]);
    let hook =
        Hook::replying(move |_| Reply::Raw(200, "content-type", "application/json", endless.clone())).await;
    for kind in ["Mutating", "Validating"] {
        let (code, why) = refused(&hook, kind).await;
        assert_eq!(code, 500);
        assert!(why.contains("the answer is longer than"), "{why}");
    }
}

#[tokio::test]
async fn answers_that_are_none_are_failures() {
    for body in ["", "nonsense", "[]", "{}", "null", "{\"kind\":\"AdmissionReview\"}"] {
        let hook =
            Hook::replying(move |_| Reply::Raw(200, "content-type", "application/json", body.into())).await;
        let (code, why) = refused(&hook, "Validating").await;
        assert_eq!(code, 500, "{body}: {why}");
    }
    let deep = Bytes::from("[".repeat(1_000_000));
    let hook =
        Hook::replying(move |_| Reply::Raw(200, "content-type", "application/json", deep.clone())).await;
    assert_eq!(refused(&hook, "Mutating").await.0, 500);
    let other = Hook::reviewing(|_| json!({"uid": "another", "allowed": true})).await;
    let (code, why) = refused(&other, "Validating").await;
    assert_eq!(code, 500);
    assert!(why.contains("expected response.uid="), "{why}");
}

#[tokio::test]
async fn patches_that_do_not_apply_or_change_what_it_is_are_failures() {
    let patches = [
        json!([{"op": "remove", "path": "/data/nosuch"}]),
        json!([{"op": "test", "path": "/data/a", "value": "other"}]),
        json!([{"op": "remove", "path": "/kind"}]),
        json!([{"op": "replace", "path": "/kind", "value": "Secret"}]),
        json!([{"op": "replace", "path": "", "value": null}]),
        json!([{"op": "replace", "path": "", "value": []}]),
        json!([{"op": "add", "path": "/data", "value": {"a": 1}}, {"op": "move", "path": "/x", "from": "/nosuch"}]),
        json!({"op": "add", "path": "/data/b", "value": "c"}),
        json!([{"op": "explode", "path": "/data"}]),
        json!("nonsense"),
    ];
    for patch in patches {
        let shown = patch.to_string();
        let hook = Hook::reviewing(move |_| patching(&patch)).await;
        let (code, why) = refused(&hook, "Mutating").await;
        assert_eq!(code, 500, "{shown}: {why}");
    }
}

/// A peer at a hook.
fn peer(hook: &Hook) -> Peer {
    let trust = Bundle::from_pem(&hook.authority).expect("it is a bundle");
    Peer::new(&format!("https://127.0.0.1:{}/", hook.port), &trust, None).expect("it is a URL")
}

#[tokio::test]
async fn a_token_webhook_lets_nobody_in_but_by_a_clear_yes() {
    let core = Server::new(hook::config()).await.expect("the store is in memory");
    let audiences = [ISSUER.to_string()];
    let who = async |reply: Reply| {
        let reply = std::sync::Mutex::new(Some(reply));
        let hook = Hook::replying(move |_| {
            reply.lock().expect("no test panics with it").take().unwrap_or(Reply::Hang)
        })
        .await;
        let webhook = TokenWebhook::new(peer(&hook), false, std::time::Duration::from_secs(60));
        let first = webhook.authenticate_token(core.core(), "secret", &audiences).await;
        (first.ok().flatten().map(|found| found.user.name), webhook, hook)
    };
    let raw = |code: u16, body: Value| {
        Reply::Raw(code, "content-type", "application/json", body.to_string().into())
    };
    let yes = json!({"status": {"authenticated": true, "user": {"username": "jane"}}});
    let (found, webhook, hook) = who(raw(200, yes.clone())).await;
    assert_eq!(found.as_deref(), Some("jane"));
    // The answer is remembered: a second one would not come.
    let again = webhook.authenticate_token(core.core(), "secret", &audiences).await.expect("it is known");
    assert_eq!(again.expect("it is known").user.name, "jane");
    assert_eq!(hook.asked().len(), 1);
    for reply in [
        raw(500, yes.clone()),
        raw(302, yes),
        raw(200, json!({"status": {"authenticated": false, "user": {"username": "jane"}}})),
        raw(200, json!({"status": {"user": {"username": "jane"}}})),
        Reply::Raw(200, "content-type", "application/json", Bytes::from(vec![b' '; 5 * 1024 * 1024])),
        Reply::Raw(200, "content-type", "application/json", Bytes::from("[".repeat(1_000_000))),
    ] {
        assert_eq!(who(reply).await.0, None);
    }
}

#[tokio::test]
async fn an_authorization_webhook_that_fails_decides_as_it_was_set_up() {
    let core = Server::new(hook::config()).await.expect("the store is in memory");
    let user = kubewright_apiserver::authn::UserInfo::new("jane", &[]);
    let asked = Attributes {
        namespace: "team".into(),
        name: "p".into(),
        ..Attributes::of_resource(&user, "get", "", "v1", "pods")
    };
    let broken = Hook::replying(|_| Reply::Raw(500, "x-a", "b", Bytes::new())).await;
    for (deny_on_failure, expected) in
        [(false, Decision::NoOpinion(String::new())), (true, Decision::Deny(String::new()))]
    {
        let webhook =
            Webhook::new(peer(&broken), WebhookSettings { deny_on_failure, ..WebhookSettings::default() });
        assert_eq!(webhook.authorize(core.core(), &asked).await, expected);
    }
    let allowing = Hook::replying(|_| {
        let body = json!({"status": {"allowed": true, "reason": "why not"}}).to_string();
        Reply::Raw(200, "content-type", "application/json", body.into())
    })
    .await;
    let webhook = Webhook::new(peer(&allowing), WebhookSettings::default());
    for _ in 0..3 {
        assert_eq!(webhook.authorize(core.core(), &asked).await, Decision::Allow("why not".into()));
    }
    assert_eq!(allowing.asked().len(), 1, "the answer is remembered");
}
