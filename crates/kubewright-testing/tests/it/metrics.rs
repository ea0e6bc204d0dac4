//! Secured metrics as a scraper meets them: over TLS, with tokens of the API server, under RBAC.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::Response;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, ObjectMeta, PostParams};
use kubewright::webhook::Certificates;
use kubewright::{Action, Context, Controller, Manager, Operator, Reconciler};
use kubewright_pki::{Authority, Bundle};
use kubewright_testing::{BoxError, TestCluster, eventually};
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const NAME: &str = "scraped-metrics.scraped-system.svc";

struct Idle;

impl Reconciler for Idle {
    type Object = ConfigMap;

    async fn reconcile(&self, _: Arc<ConfigMap>, _: &Context) -> kubewright::Result<Action> {
        Ok(Action::done())
    }
}

fn operator() -> Operator {
    Operator::new("scraped").controller(Controller::new(Idle))
}

/// A scraper that trusts an authority, or anybody.
struct Scraper {
    address: String,
    trusted: Option<Bundle>,
}

impl Scraper {
    /// Status and body of an answer.
    async fn ask(&self, method: &str, path: &str, token: Option<&str>) -> Result<(u16, String), BoxError> {
        let tls = match &self.trusted {
            Some(trusted) => kubewright_pki::client_config(trusted, None)?,
            None => kubewright_pki::client_config_without_verification(None)?,
        };
        let stream = tokio::net::TcpStream::connect(&self.address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let mut stream = connector.connect(ServerName::try_from(NAME)?, stream).await?;
        let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
        Ok((head.split(' ').nth(1).unwrap_or_default().parse()?, body.to_owned()))
    }
}

/// A service account's token.
async fn token(cluster: &TestCluster, account: &str) -> Result<String, BoxError> {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    let metadata = ObjectMeta { name: Some(account.into()), ..ObjectMeta::default() };
    let wanted = ServiceAccount { metadata, ..ServiceAccount::default() };
    accounts.create(&PostParams::default(), &wanted).await?;
    let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(made.status.and_then(|status| status.token).ok_or("no token")?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_for_tokens_whose_account_may_get_them() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    // Applies the manifests: the operator's own rights, and the role for readers.
    let installed = cluster.run(operator()).await?;
    let (scraper, stranger) = (token(&cluster, "scraper").await?, token(&cluster, "stranger").await?);
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client());
    let binding = json!({
        "metadata": {"name": "scraper"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "scraped-metrics-reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "scraper", "namespace": "default"}],
    });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    let role = json!({
        "metadata": {"name": "greeted"}, "rules": [{"nonResourceURLs": ["/greeting"], "verbs": ["get"]}],
    });
    let roles: Api<ClusterRole> = Api::all(cluster.client());
    roles.create(&PostParams::default(), &serde_json::from_value(role)?).await?;
    let binding = json!({
        "metadata": {"name": "greeted"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "greeted"},
        "subjects": [{"kind": "ServiceAccount", "name": "stranger", "namespace": "default"}],
    });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;

    let folder = std::env::temp_dir().join(format!("kubewright-metrics-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let authority = Authority::new("test", SystemTime::now())?;
    let identity = authority.server(&[NAME], &[], SystemTime::now())?;
    std::fs::write(folder.join("tls.crt"), identity.certificate_pem())?;
    std::fs::write(folder.join("tls.key"), identity.key_pem())?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let groups = ["system:serviceaccounts", "system:authenticated"];
    let manager = operator()
        .manager(cluster.client_as(installed.user(), &groups))
        .metrics_address(Some(&address))
        .endpoint("/greeting", |_| async { Response::new(Bytes::from_static(b"hello\n")) })
        .secure_metrics(Certificates::files(&folder));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(manager.run(async {
        let _ = stopped.await;
    }));
    let ask = Scraper { address, trusted: Some(authority.bundle()) };

    eventually!(cluster, "an answer", ask.ask("GET", "/metrics", None).await?.0 == 401);
    let (code, text) = ask.ask("GET", "/metrics", Some(&scraper)).await?;
    assert_eq!(code, 200, "{text}");
    assert!(text.contains("rest_client_requests_total{method=\"POST\",code=\"201\"}"), "{text}");
    assert_eq!(
        ask.ask("GET", "/metrics", Some(&stranger)).await?,
        (403, "Authorization denied for user system:serviceaccount:default:stranger\n".to_owned())
    );
    assert_eq!(ask.ask("PUT", "/metrics", Some(&scraper)).await?.0, 403);
    assert_eq!(ask.ask("GET", "/metrics", Some("made-up")).await?.0, 401);
    assert_eq!(ask.ask("GET", "/other", Some(&scraper)).await?.0, 404);
    // What the program serves besides is for those who may get that.
    assert_eq!(ask.ask("GET", "/greeting", Some(&scraper)).await?.0, 403);
    assert_eq!(ask.ask("GET", "/greeting", Some(&stranger)).await?, (200, "hello\n".to_owned()));
    let _ = stop.send(());
    running.await??;
    installed.stop().await?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[tokio::test]
async fn without_the_right_to_ask_for_reviews_nobody_gets_metrics() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let admin = token(&cluster, "admin").await?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    // Nothing was applied: this account may do nothing.
    let client = cluster.client_as("system:serviceaccount:scraped-system:scraped", &["system:authenticated"]);
    let manager =
        Manager::new("scraped", client).metrics_address(Some(&address)).secure_metrics(Certificates::own());
    let running = tokio::spawn(manager.run(std::future::pending()));
    let ask = Scraper { address, trusted: None };
    eventually!(cluster, "an answer", {
        let (code, text) = ask.ask("GET", "/metrics", Some(&admin)).await?;
        code == 500 && text == "Authentication failed\n"
    });
    running.abort();
    Ok(())
}

#[tokio::test]
async fn the_printed_deployment_is_what_the_api_server_takes() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let installed = cluster.run(operator()).await?;
    let text = operator().deployment("example.com/scraped:1", installed.namespace(), &["default"])?;
    let object: serde_json::Value = serde_saphyr::from_str(&text)?;
    let path = "/apis/apps/v1/namespaces/scraped-system/deployments?fieldValidation=Strict";
    let request = http::Request::post(path).header("content-type", "application/json");
    let made: Deployment = cluster.client().request(request.body(object.to_string().into_bytes())?).await?;
    let pod = made.spec.and_then(|spec| spec.template.spec).ok_or("no pod")?;
    assert_eq!(pod.termination_grace_period_seconds, Some(40));
    Ok(())
}
