//! Credentials that are none: tokens of others and of yesterday, headers of proxies that are no proxies, and acting as
//! somebody without the right.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use kubewright_apiserver::authn::{Binding, Grant, Issuer, SigningKey};
use kubewright_apiserver::server::ISSUER;
use kubewright_cluster::Cluster;
use kubewright_cluster::access::RequestHeaderConfig;
use kubewright_pki::Authority;
use serde_json::{Value, json};

use crate::wire::{Caller, Scratch, cluster};

const NO_GROUPS: [&str; 0] = [];
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// An account, and its uid.
async fn account(admin: &Caller, name: &str) -> String {
    let object = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name}});
    let made = admin.post(ACCOUNTS, object).await;
    assert_eq!(made.code, 201, "{}", made.body);
    made.body["metadata"]["uid"].as_str().expect("it has a uid").to_string()
}

/// A token of an account, as its spec asks for it.
async fn token(admin: &Caller, name: &str, spec: Value) -> String {
    let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
    let made = admin.post(&format!("{ACCOUNTS}/{name}/token"), request).await;
    assert_eq!(made.code, 201, "{}", made.body);
    made.body["status"]["token"].as_str().expect("there is a token").to_string()
}

async fn is_let_in(cluster: &Cluster, token: &str) -> bool {
    Caller::nobody(cluster).token(token).who().await.is_some()
}

#[tokio::test]
async fn a_token_for_another_audience_is_none_here() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    account(&admin, "bot").await;
    let ours = token(&admin, "bot", json!({})).await;
    let theirs = token(&admin, "bot", json!({"audiences": ["vault"]})).await;
    assert!(is_let_in(&cluster, &ours).await);
    assert!(!is_let_in(&cluster, &theirs).await);
    let review = |audiences: Value| {
        json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
            "spec": {"token": theirs, "audiences": audiences}})
    };
    let at = "/apis/authentication.k8s.io/v1/tokenreviews";
    let vault = admin.post(at, review(json!(["vault"]))).await;
    assert_eq!(vault.body["status"]["authenticated"], true);
    let other = admin.post(at, review(json!(["other"]))).await;
    assert_eq!(other.body["status"]["authenticated"], Value::Null);
}

#[tokio::test]
async fn a_token_goes_with_its_account_and_with_what_it_is_bound_to() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    account(&admin, "bot").await;
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}});
    let secrets = "/api/v1/namespaces/default/secrets";
    assert_eq!(admin.post(secrets, secret.clone()).await.code, 201);
    let free = token(&admin, "bot", json!({})).await;
    let bound = json!({"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "s"}});
    let bound = token(&admin, "bot", bound).await;
    assert!(is_let_in(&cluster, &free).await && is_let_in(&cluster, &bound).await);

    assert_eq!(admin.delete(&format!("{secrets}/s")).await.code, 200);
    assert!(is_let_in(&cluster, &free).await && !is_let_in(&cluster, &bound).await);
    assert_eq!(admin.post(secrets, secret).await.code, 201);
    assert!(!is_let_in(&cluster, &bound).await, "another one of that name is another one");

    assert_eq!(admin.delete(&format!("{ACCOUNTS}/bot")).await.code, 200);
    assert!(!is_let_in(&cluster, &free).await);
    account(&admin, "bot").await;
    assert!(!is_let_in(&cluster, &free).await, "another account of that name is another one");
}

#[tokio::test]
async fn expired_forged_and_unsigned_tokens_are_refused() {
    let (scratch, key) = (Scratch::new(), SigningKey::generate().expect("a key"));
    let file = scratch.file("key.pem", key.to_pem());
    let cluster = cluster(|c| c.access.service_account_signing_key_file = Some(file)).await;
    let admin = Caller::admin(&cluster);
    let uid = account(&admin, "bot").await;
    let audiences = [ISSUER.to_string()];
    let issue = |key: SigningKey, now: Timestamp| {
        let grant = Grant {
            namespace: "default",
            name: "bot",
            uid: &uid,
            audiences: &audiences,
            binding: Binding::default(),
            now,
            seconds: 600,
            id: "id".into(),
        };
        Issuer::new(ISSUER, key).issue(&grant).expect("a token")
    };
    let same = || SigningKey::from_pem(key.to_pem()).expect("a key");
    let now = Timestamp::now();
    let good = issue(same(), now);
    assert!(is_let_in(&cluster, &good).await);
    let hour = SignedDuration::from_hours(1);
    assert!(!is_let_in(&cluster, &issue(same(), now - hour)).await, "expired");
    assert!(!is_let_in(&cluster, &issue(same(), now + hour)).await, "not yet good");
    assert!(
        !is_let_in(&cluster, &issue(SigningKey::generate().expect("a key"), now)).await,
        "of another key"
    );

    let mut parts = good.split('.');
    let (header, claims, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let decoded = URL_SAFE_NO_PAD.decode(claims).expect("it is base64");
    let masters = String::from_utf8(decoded).expect("it is text").replace("default:bot", "default:admin");
    let masters = URL_SAFE_NO_PAD.encode(masters);
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for bad in [
        format!("{header}.{masters}.{signature}"),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{claims}"),
        format!("{good}.{good}"),
        "x".repeat(100_000),
    ] {
        assert!(!is_let_in(&cluster, &bad).await, "{bad:.60}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_not_taken_for_none() {
    let cluster = cluster(|_| {}).await;
    // Without a token one is anonymous and may ask for the version.
    assert_eq!(Caller::nobody(&cluster).get("/version").await.code, 200);
    assert_eq!(Caller::nobody(&cluster).token("nonsense").get("/version").await.code, 401);
    let closed = self::cluster(|c| c.access.anonymous_auth = false).await;
    assert_eq!(Caller::nobody(&closed).get("/version").await.code, 401);
    assert_eq!(Caller::admin(&closed).get("/version").await.code, 200);
}

fn self_review_of(
    scratch: &Scratch,
    proxies: &Authority,
    names: &[&str],
    custom: bool,
) -> RequestHeaderConfig {
    let headers = |name: &str| if custom { vec![name.to_string()] } else { Vec::new() };
    RequestHeaderConfig {
        client_ca_file: scratch.file("proxies.pem", &proxies.certificate_pem()),
        allowed_names: names.iter().map(ToString::to_string).collect(),
        username_headers: headers("X-Corp-User"),
        uid_headers: Vec::new(),
        group_headers: headers("X-Corp-Group"),
        extra_headers_prefixes: Vec::new(),
    }
}

#[tokio::test]
async fn headers_of_a_proxy_count_from_the_proxy_alone() {
    for custom in [false, true] {
        let (user, group) =
            if custom { ("X-Corp-User", "X-Corp-Group") } else { ("X-Remote-User", "X-Remote-Group") };
        let scratch = Scratch::new();
        let proxies = Authority::new("proxies", SystemTime::now()).expect("an authority");
        let others = Authority::new("others", SystemTime::now()).expect("an authority");
        let config = self_review_of(&scratch, &proxies, &["front-proxy"], custom);
        let cluster = cluster(|c| c.access.request_header = Some(config)).await;
        let claims = |caller: Caller| caller.header(user, "root").header(group, "system:masters");
        let of = |authority: &Authority, name: &str| {
            let identity = authority.client(name, &NO_GROUPS, SystemTime::now()).expect("a certificate");
            claims(Caller::with(&cluster, Some(&identity)))
        };
        let (name, groups) = of(&proxies, "front-proxy").who().await.expect("the proxy is believed");
        assert_eq!(name, "root");
        assert_eq!(groups, ["system:masters", "system:authenticated"]);

        assert_eq!(of(&proxies, "somebody-else").who().await, None, "a name that is not allowed");
        assert_eq!(of(&others, "front-proxy").who().await, None, "an authority that nobody trusts");
        assert_eq!(claims(Caller::nobody(&cluster)).who().await, None, "no certificate at all");
        assert_eq!(claims(Caller::nobody(&cluster)).get("/api/v1/secrets").await.code, 403, "as nobody");
        let jane = claims(Caller::user(&cluster, "jane", &[]));
        assert_eq!(jane.who().await.expect("she is known").0, "jane", "a user of our own stays who she is");
        if custom {
            let identity =
                proxies.client("front-proxy", &NO_GROUPS, SystemTime::now()).expect("a certificate");
            let usual = Caller::with(&cluster, Some(&identity)).header("X-Remote-User", "root");
            assert_eq!(usual.who().await, None, "these are not the headers that were agreed upon");
        }
    }
}

#[tokio::test]
async fn nobody_acts_as_another_without_the_right() {
    let cluster = cluster(|_| {}).await;
    let jane = || Caller::user(&cluster, "jane", &[]);
    for (name, value) in
        [("Impersonate-User", "admin"), ("Impersonate-User", "system:serviceaccount:kube-system:x")]
    {
        let answer = jane().header(name, value).get("/api/v1/secrets").await;
        assert_eq!(answer.code, 403);
        let said = answer.body["message"].as_str().expect("it says why");
        assert!(said.contains("cannot impersonate"), "{said}");
    }
    let masters = jane().header("Impersonate-User", "jane").header("Impersonate-Group", "system:masters");
    assert_eq!(masters.get("/api/v1/secrets").await.code, 403);
    let groups_alone = jane().header("Impersonate-Group", "system:masters");
    assert_eq!(groups_alone.get("/api/v1/secrets").await.code, 400);
    let admin = Caller::admin(&cluster).header("Impersonate-User", "jane");
    assert_eq!(admin.who().await.expect("he may").0, "jane");
}

#[tokio::test]
async fn somebody_may_act_as_others_for_one_thing_alone() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({
        "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "constrained"},
        "rules": [
            {"verbs": ["impersonate:user-info"], "apiGroups": ["authentication.k8s.io"], "resources": ["users"], "resourceNames": ["bob"]},
            {"verbs": ["impersonate-on:user-info:list"], "apiGroups": [""], "resources": ["configmaps"]},
        ],
    });
    assert_eq!(admin.post(&format!("{rbac}/clusterroles"), role).await.code, 201);
    let binding = |name: &str, role: &str, user: &str| {
        json!({
            "kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        })
    };
    for (name, role, user) in [("a", "constrained", "proxy"), ("b", "cluster-admin", "bob")] {
        let made = admin.post(&format!("{rbac}/clusterrolebindings"), binding(name, role, user)).await;
        assert_eq!(made.code, 201, "{}", made.body);
    }
    let proxy = |user: &str| Caller::user(&cluster, "proxy", &[]).header("Impersonate-User", user);
    assert_eq!(proxy("bob").get("/api/v1/configmaps").await.code, 200);
    assert_eq!(proxy("bob").get("/api/v1/secrets").await.code, 403, "bob may, but not as bob");
    assert_eq!(proxy("eve").get("/api/v1/configmaps").await.code, 403, "not as eve");
    let masters = proxy("bob").header("Impersonate-Group", "system:masters");
    assert_eq!(masters.get("/api/v1/configmaps").await.code, 403);
}

#[tokio::test]
async fn a_bootstrap_token_is_as_good_as_its_secret() {
    let cluster = cluster(|c| c.access.enable_bootstrap_token_auth = true).await;
    let admin = Caller::admin(&cluster);
    let secret = |expiration: &str| {
        let mut data = serde_json::Map::new();
        for (key, value) in [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", expiration),
        ] {
            data.insert(key.into(), STANDARD.encode(value).into());
        }
        json!({"kind": "Secret", "apiVersion": "v1", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": "bootstrap-token-abcdef"}, "data": data})
    };
    let at = "/api/v1/namespaces/kube-system/secrets";
    assert_eq!(admin.post(at, secret("2999-01-01T00:00:00Z")).await.code, 201);
    let by = |token: &str| Caller::nobody(&cluster).token(token);
    let (name, groups) = by("abcdef.0123456789abcdef").who().await.expect("it is good");
    assert_eq!(name, "system:bootstrap:abcdef");
    assert_eq!(groups, ["system:bootstrappers", "system:authenticated"]);
    assert_eq!(by("abcdef.0123456789abcdee").who().await, None);
    assert_eq!(admin.delete(&format!("{at}/bootstrap-token-abcdef")).await.code, 200);
    assert_eq!(by("abcdef.0123456789abcdef").who().await, None);
    assert_eq!(admin.post(at, secret("2001-01-01T00:00:00Z")).await.code, 201);
    assert_eq!(by("abcdef.0123456789abcdef").who().await, None);
}
