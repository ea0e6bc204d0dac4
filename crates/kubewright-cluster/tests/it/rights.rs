//! Rights that somebody would give themselves: by roles, by bindings, by labels on roles that others are made of, by
//! certificates, and as a node.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::wire::{Answer, Caller, cluster};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";

fn role(name: &str, labels: Value, rules: Value) -> Value {
    json!({"kind": "ClusterRole", "apiVersion": format!("{GROUP}/v1"),
        "metadata": {"name": name, "labels": labels}, "rules": rules})
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({
        "kind": "ClusterRoleBinding", "apiVersion": format!("{GROUP}/v1"), "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}],
    })
}

async fn made(answer: Answer) {
    assert_eq!(answer.code, 201, "{}", answer.body);
}

#[tokio::test]
async fn nobody_gives_away_more_rights_than_they_have() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    // Eve writes roles and bindings, and reads pods.
    let rules = json!([
        {"verbs": ["*"], "apiGroups": [GROUP], "resources": ["clusterroles", "clusterrolebindings"], "resourceNames": []},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
    ]);
    // `*` would be escalate and bind as well.
    let rules = rules.to_string().replacen("\"*\"", "\"create\",\"update\",\"patch\",\"get\"", 1);
    let rules: Value = serde_json::from_str(&rules).expect("it is JSON");
    made(admin.post(&format!("{RBAC}/clusterroles"), role("writers", json!({}), rules)).await).await;
    made(admin.post(&format!("{RBAC}/clusterrolebindings"), binding("writers", "writers", "eve")).await)
        .await;
    let eve = Caller::user(&cluster, "eve", &[]);

    let pods = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    made(eve.post(&format!("{RBAC}/clusterroles"), role("pods", json!({}), pods)).await).await;
    let secrets = || json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
    let refused = eve.post(&format!("{RBAC}/clusterroles"), role("secrets", json!({}), secrets())).await;
    assert_eq!(refused.code, 403);
    let said = refused.body["message"].as_str().expect("it says why");
    assert!(said.contains("is attempting to grant RBAC permissions not currently held"), "{said}");

    // By a binding to a role that is there.
    let refused =
        eve.post(&format!("{RBAC}/clusterrolebindings"), binding("me", "cluster-admin", "eve")).await;
    assert_eq!(refused.code, 403);
    // By a change of a role that she is bound to.
    let change = json!({"rules": secrets()}).to_string();
    let merge = "application/merge-patch+json";
    assert_eq!(eve.raw("PATCH", &format!("{RBAC}/clusterroles/pods"), merge, change).await.code, 403);
    // By a label that makes a role part of others.
    let label = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let refused = eve.post(&format!("{RBAC}/clusterroles"), role("part", label, secrets())).await;
    assert_eq!(refused.code, 403);
    // By a role that takes whatever others have.
    let mut all = role("all", json!({}), json!([]));
    all["aggregationRule"] =
        json!({"clusterRoleSelectors": [{"matchLabels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}]});
    let refused = eve.post(&format!("{RBAC}/clusterroles"), all).await;
    assert_eq!(refused.code, 403);
    let said = refused.body["message"].as_str().expect("it says why");
    assert!(said.ends_with("must have cluster-admin privileges to use the aggregationRule"), "{said}");
    assert_eq!(eve.get("/api/v1/secrets").await.code, 403);
}

#[tokio::test]
async fn nobody_gets_into_the_masters_by_a_certificate() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let rules = json!([{"verbs": ["create"], "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"]}]);
    made(admin.post(&format!("{RBAC}/clusterroles"), role("asks", json!({}), rules)).await).await;
    made(admin.post(&format!("{RBAC}/clusterrolebindings"), binding("asks", "asks", "eve")).await).await;
    // A request for CN=eve, O=system:masters.
    let request = STANDARD.encode(include_str!("masters.csr.pem"));
    let csr = json!({
        "kind": "CertificateSigningRequest", "apiVersion": "certificates.k8s.io/v1", "metadata": {"name": "eve"},
        "spec": {"request": request, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
    });
    let eve = Caller::user(&cluster, "eve", &[]);
    let at = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let refused = eve.post(at, csr).await;
    assert_eq!(refused.code, 403, "{}", refused.body);
    let said = refused.body["message"].as_str().expect("it says why");
    assert!(said.contains("system:masters"), "{said}");
}

#[tokio::test]
async fn a_node_reads_and_writes_what_is_its_own() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let kubelet = |name: &str| Caller::user(&cluster, &format!("system:node:{name}"), &["system:nodes"]);
    let (n1, n2) = (kubelet("n1"), kubelet("n2"));
    let node = |name: &str, labels: Value| json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}});
    made(n1.post("/api/v1/nodes", node("n1", json!({"kubernetes.io/hostname": "n1"}))).await).await;
    assert_eq!(n1.post("/api/v1/nodes", node("n2", json!({}))).await.code, 403);
    let steer = json!({"node-restriction.kubernetes.io/tenant": "bank"});
    assert_eq!(n2.post("/api/v1/nodes", node("n2", steer)).await.code, 403);

    let secret = |name: &str| json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}});
    let secrets = "/api/v1/namespaces/default/secrets";
    made(admin.post(secrets, secret("used")).await).await;
    made(admin.post(secrets, secret("other")).await).await;
    made(
        admin
            .post(
                "/api/v1/namespaces/default/serviceaccounts",
                json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}}),
            )
            .await,
    )
    .await;
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
        "spec": {
            "nodeName": "n1", "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "secret": {"secretName": "used"}}],
        },
    });
    made(admin.post("/api/v1/namespaces/default/pods", pod).await).await;
    assert_eq!(n1.get(&format!("{secrets}/used")).await.code, 200);
    assert_eq!(n2.get(&format!("{secrets}/used")).await.code, 403);
    assert_eq!(n1.get(&format!("{secrets}/other")).await.code, 403);
    assert_eq!(n1.get(secrets).await.code, 403);
    let one = format!("{secrets}?fieldSelector=metadata.name%3Dused");
    assert_eq!(n1.get(&one).await.code, 200);
    assert_eq!(n2.get(&one).await.code, 403);
    assert_eq!(n1.get("/api/v1/pods").await.code, 403);
    assert_eq!(n1.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.code, 200);
    assert_eq!(n1.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2").await.code, 403);
    assert_eq!(n2.delete("/api/v1/namespaces/default/pods/p").await.code, 403);

    let request =
        |spec: Value| json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    assert_eq!(n1.post(token, request(json!({}))).await.code, 403, "not bound to a pod");
    let uid = admin.get("/api/v1/namespaces/default/pods/p").await.body["metadata"]["uid"].clone();
    let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}});
    assert_eq!(n2.post(token, request(bound.clone())).await.code, 403, "of a pod elsewhere");
    made(n1.post(token, request(bound)).await).await;
}
