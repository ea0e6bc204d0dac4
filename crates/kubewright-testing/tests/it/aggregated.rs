//! An aggregated API server asks the cluster who callers are and what they may do, and believes nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kubewright_apiserver::aggregated::{AggregatedServer, Kind, Running, Serving, Settings};
use kubewright_apiserver::outbound::Peer;
use kubewright_pki::{Authority, Bundle, Identity};
use kubewright_testing::{BoxError, ClusterConfig, TestCluster};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const THINGS: &str = "/apis/things.example.com/v1/namespaces/default/things";

/// A cluster with an aggregated server, which clients here talk to directly, past the cluster.
struct Rig {
    cluster: TestCluster,
    running: Running,
    /// Who vouches for the server.
    authority: Authority,
}

impl Rig {
    async fn start() -> Result<Self, BoxError> {
        let bind = Some(([127, 0, 0, 1], 0).into());
        let cluster = TestCluster::with(ClusterConfig {
            bind,
            nodes: 0,
            controllers: false,
            ..ClusterConfig::default()
        })
        .await?;
        let kubeconfig = cluster.cluster().kubeconfig("c", "system:things", &["system:masters"])?;
        let authority = Authority::new("things", SystemTime::now())?;
        let identity = authority.server(&["things"], &[[127, 0, 0, 1].into()], SystemTime::now())?;
        let schema = json!({"type": "object", "properties": {"size": {"type": "integer"}}});
        let kind = Kind::with_schema("things.example.com", "v1", "Thing", "things", schema);
        let settings = Settings {
            cluster: Peer::from_kubeconfig(&serde_json::to_string(&kubeconfig)?, std::path::Path::new("."))?,
            bind: ([127, 0, 0, 1], 0).into(),
            serving: Serving::Certificate(Box::new(identity)),
        };
        let running = AggregatedServer::new("things").kind(kind).start(settings).await?;
        Ok(Self { cluster, running, authority })
    }

    fn address(&self) -> SocketAddr {
        self.running.address().expect("it listens")
    }

    /// Lets a user read things.
    async fn allow(&self, kind: &str, user: &str) -> Result<(), BoxError> {
        let rbac = |kind: &str| {
            ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind))
        };
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "things"},
            "rules": [{"apiGroups": ["things.example.com"], "resources": ["things"], "verbs": ["list"]}]});
        let group = if kind == "User" { "rbac.authorization.k8s.io" } else { "" };
        let namespace = if kind == "User" { Value::Null } else { json!("default") };
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("things-{user}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "things"},
            "subjects": [{"apiGroup": group, "kind": kind, "name": user, "namespace": namespace}]});
        for object in [role, binding] {
            let api: Api<DynamicObject> =
                Api::all_with(self.cluster.client(), &rbac(object["kind"].as_str().unwrap_or_default()));
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_string();
            api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(&object)).await?;
        }
        Ok(())
    }

    /// One request with these headers, with or without a client certificate: status and body.
    async fn get(
        &self,
        path: &str,
        identity: Option<&Identity>,
        headers: &[(&str, &str)],
    ) -> Result<(u16, String), BoxError> {
        let bundle: Bundle = self.authority.bundle();
        let tls = kubewright_pki::client_config(&bundle, identity)?;
        let stream = TcpStream::connect(self.address()).await?;
        let name = ServerName::try_from("things")?;
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: things\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        // The server may close without a word of TLS.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer)?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
        Ok((code, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_string()))
    }

    /// A certificate of the cluster's authority.
    fn certificate(&self, user: &str) -> Result<Identity, BoxError> {
        Ok(self.cluster.cluster().authority().client(user, &[""; 0], SystemTime::now())?)
    }
}

#[tokio::test]
async fn certificates_and_tokens_of_the_cluster_are_known_and_its_rbac_decides() -> Result<(), BoxError> {
    let rig = Rig::start().await?;
    rig.allow("User", "jane").await?;
    let (code, body) = rig.get(THINGS, Some(&rig.certificate("jane")?), &[]).await?;
    assert_eq!(code, 200, "{body}");
    let (code, body) = rig.get(THINGS, Some(&rig.certificate("joe")?), &[]).await?;
    assert_eq!(code, 403);
    assert!(body.contains(r#"User \"joe\" cannot list resource \"things\""#), "{body}");

    let accounts: Api<ServiceAccount> = Api::namespaced(rig.cluster.client(), "default");
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "reader"}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    rig.allow("ServiceAccount", "reader").await?;
    let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": []}}))?;
    let token = accounts.create_token_request("reader", &PostParams::default(), &request).await?;
    let token = token.status.and_then(|status| status.token).ok_or("a token")?;
    let bearer = format!("Bearer {token}");
    assert_eq!(rig.get(THINGS, None, &[("authorization", &bearer)]).await?.0, 200);
    let forged = format!("Bearer {token}x");
    assert_eq!(rig.get(THINGS, None, &[("authorization", &forged)]).await?.0, 401);
    let other: TokenRequest =
        serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": ["vault"]}}))?;
    let other = accounts.create_token_request("reader", &PostParams::default(), &other).await?;
    let bearer = format!("Bearer {}", other.status.and_then(|status| status.token).ok_or("a token")?);
    assert_eq!(rig.get(THINGS, None, &[("authorization", &bearer)]).await?.0, 401, "it is for somebody else");
    Ok(())
}

#[tokio::test]
async fn headers_of_a_proxy_count_only_over_the_certificate_of_the_clusters_own() -> Result<(), BoxError> {
    let rig = Rig::start().await?;
    let forged = [("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")];
    let (code, body) = rig.get(THINGS, None, &forged).await?;
    assert_eq!(code, 403);
    assert!(body.contains(r#"User \"system:anonymous\""#), "{body}");
    // A certificate for clients is none for proxies, whatever name is in it.
    for user in ["joe", "front-proxy-client"] {
        let (code, body) = rig.get(THINGS, Some(&rig.certificate(user)?), &forged).await?;
        assert_eq!(code, 403, "{body}");
        assert!(body.contains(&format!(r#"User \"{user}\""#)), "{body}");
    }
    let impostor = Authority::new("front-proxy-ca", SystemTime::now())?;
    let impostor = impostor.client("front-proxy-client", &[""; 0], SystemTime::now())?;
    assert_eq!(rig.get(THINGS, Some(&impostor), &forged).await?.0, 401);
    Ok(())
}

#[tokio::test]
async fn while_the_cluster_cannot_be_asked_nobody_is_let_in() -> Result<(), BoxError> {
    let rig = Rig::start().await?;
    rig.allow("User", "jane").await?;
    rig.cluster.cluster().server().shutdown();
    let (code, body) = rig.get(THINGS, Some(&rig.certificate("jane")?), &[]).await?;
    assert_eq!(code, 403, "{body}");
    let token = [("authorization", "Bearer whatever")];
    assert_eq!(rig.get(THINGS, None, &token).await?.0, 401);
    // Whether it is well can be asked all the same.
    assert_eq!(rig.get("/healthz", None, &[]).await?.0, 200);
    assert_eq!(rig.get("/metrics", None, &[]).await?.0, 403);
    Ok(())
}
