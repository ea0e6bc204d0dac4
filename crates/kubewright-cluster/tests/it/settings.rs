//! Settings as kube-apiserver has them, at work: another server that is asked who and whether, an audit log, anonymous
//! requests to some paths, and roles that controllers put together.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubewright_cluster::Cluster;
use kubewright_cluster::access::{AuditConfig, AuthorizationWebhookConfig, TokenWebhookConfig};
use serde_json::json;

use crate::wire::{Caller, Scratch, cluster};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A kubeconfig for one path of a cluster, as an administrator.
fn kubeconfig(scratch: &Scratch, name: &str, of: &Cluster, path: &str) -> PathBuf {
    let admin =
        of.authority().client("admin", &["system:masters"], SystemTime::now()).expect("a certificate");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": format!("{}{path}", of.url().expect("it listens")),
            "certificate-authority-data": STANDARD.encode(of.authority().certificate_pem()),
        }}],
        "users": [{"name": "u", "user": {
            "client-certificate-data": STANDARD.encode(admin.certificate_pem()),
            "client-key-data": STANDARD.encode(admin.key_pem()),
        }}],
    });
    scratch.file(name, &config.to_string())
}

async fn grant(admin: &Caller, role: &str, subject: serde_json::Value) {
    let binding = json!({
        "kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"generateName": "grant-"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    });
    let made = admin.post(&format!("{RBAC}/clusterrolebindings"), binding).await;
    assert_eq!(made.code, 201, "{}", made.body);
}

#[tokio::test]
async fn another_server_says_who_somebody_is_and_what_they_may_do() {
    let scratch = Scratch::new();
    let central = cluster(|_| {}).await;
    let tokens = kubeconfig(&scratch, "tokens", &central, "/apis/authentication.k8s.io/v1/tokenreviews");
    let rights =
        kubeconfig(&scratch, "rights", &central, "/apis/authorization.k8s.io/v1/subjectaccessreviews");
    let edge = cluster(|config| {
        // Its own accounts have another issuer: those of the central server are not mistaken for them.
        config.access.service_account_issuers = vec!["https://edge".into()];
        config.access.token_webhook =
            Some(TokenWebhookConfig { config_file: tokens, version: "v1".into(), cache_ttl: Duration::ZERO });
        config.access.authorization_modes = vec!["Node".into(), "Webhook".into()];
        config.access.authorization_webhook = Some(AuthorizationWebhookConfig {
            config_file: rights,
            version: "v1".into(),
            cache_authorized_ttl: Duration::ZERO,
            cache_unauthorized_ttl: Duration::ZERO,
        });
        // Whom the central server vouches for is vouched for towards itself.
        config.access.api_audiences = vec!["https://edge".into(), "https://kubernetes.default.svc".into()];
    })
    .await;
    let admin = Caller::admin(&central);
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "bot"}});
    assert_eq!(admin.post(accounts, account).await.code, 201);
    let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    let token = admin.post(&format!("{accounts}/bot/token"), request).await;
    let token = token.body["status"]["token"].as_str().expect("there is a token").to_string();

    let bot = Caller::nobody(&edge).token(&token);
    assert_eq!(bot.get("/api/v1/namespaces").await.code, 403, "known, and without rights");
    let subject = json!({"kind": "ServiceAccount", "name": "bot", "namespace": "default"});
    grant(&admin, "view", subject).await;
    assert_eq!(
        bot.get("/api/v1/namespaces/default/pods").await.code,
        403,
        "the rules of the role are not there yet"
    );
    grant(
        &admin,
        "system:monitoring",
        json!({"kind": "ServiceAccount", "name": "bot", "namespace": "default"}),
    )
    .await;
    assert_eq!(bot.get("/metrics").await.code, 200);
    assert_eq!(Caller::nobody(&edge).token("nonsense").get("/version").await.code, 401);

    assert_eq!(admin.delete(&format!("{accounts}/bot")).await.code, 200);
    assert_eq!(bot.get("/metrics").await.code, 401, "gone there is gone here");

    // Nobody to ask: nobody is let in, and nobody is allowed anything but the masters.
    drop(admin);
    central.shutdown().await;
    assert_eq!(bot.get("/metrics").await.code, 401);
    assert_eq!(Caller::user(&edge, "jane", &[]).get("/metrics").await.code, 403);
    assert_eq!(Caller::admin(&edge).get("/metrics").await.code, 200);
}

#[tokio::test]
async fn a_role_made_of_others_follows_them() {
    let cluster = cluster(|config| config.controllers = true).await;
    let admin = Caller::admin(&cluster);
    let mut watch = admin.connect().await;
    let path = format!("{RBAC}/clusterroles?watch=true&fieldSelector=metadata.name%3Dview");
    watch.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    let role = json!({
        "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": "extra", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["widgets"]}],
    });
    assert_eq!(admin.post(&format!("{RBAC}/clusterroles"), role).await.code, 201);
    let mut seen = String::new();
    while !seen.contains("\"widgets\"") {
        seen.push_str(&String::from_utf8_lossy(&watch.some().await));
    }
    grant(&admin, "view", json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}))
        .await;
    let jane = Caller::user(&cluster, "jane", &[]);
    assert_eq!(jane.get("/api/v1/namespaces/default/pods").await.code, 200);
    assert_eq!(jane.get("/api/v1/namespaces/default/secrets").await.code, 403);
    cluster.shutdown().await;
}

#[tokio::test]
async fn what_is_done_is_written_down_as_the_policy_says() {
    let scratch = Scratch::new();
    let policy = scratch.file(
        "policy.yaml",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
         - {level: None, users: [admin]}\n- {level: Metadata}\n",
    );
    let log = scratch.file("audit.log", "");
    let cluster = cluster(|config| {
        config.access.audit = Some(AuditConfig {
            policy_file: policy,
            log_path: log.clone(),
            log_max_size: 0,
            log_max_backup: 0,
        });
    })
    .await;
    assert_eq!(Caller::admin(&cluster).get("/version").await.code, 200);
    assert_eq!(Caller::user(&cluster, "jane", &[]).get("/api/v1/secrets").await.code, 403);
    cluster.shutdown().await;
    let text = std::fs::read_to_string(&log).expect("it can be read");
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("each line is an event")).collect();
    assert_eq!(events.len(), 1, "{text}");
    assert_eq!(events[0]["user"]["username"], "jane");
    assert_eq!(events[0]["annotations"]["authorization.k8s.io/decision"], "forbid");
}

#[tokio::test]
async fn anonymous_requests_are_let_in_where_the_configuration_says_so() {
    let scratch = Scratch::new();
    let file = scratch.file(
        "authentication.yaml",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
         anonymous: {enabled: true, conditions: [{path: /livez}]}\n",
    );
    let cluster = cluster(|config| config.access.authentication_config = Some(file)).await;
    let nobody = Caller::nobody(&cluster);
    assert_eq!(nobody.get("/livez").await.code, 200);
    assert_eq!(nobody.get("/readyz").await.code, 401);
    assert_eq!(Caller::admin(&cluster).get("/readyz").await.code, 200);
}
