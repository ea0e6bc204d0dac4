//! What an aggregated API server's questions to its cluster cost a request when the answers are known: who calls
//! (TokenReview) and whether they may (SubjectAccessReview), beside the request over TLS that they guard.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kubewright_apiserver::aggregated::{AggregatedServer, Kind, Running, Serving, Settings};
use kubewright_apiserver::authn::UserInfo;
use kubewright_apiserver::authz::{self, Attributes, Decision};
use kubewright_apiserver::outbound::Peer;
use kubewright_cluster::access::AccessConfig;
use kubewright_cluster::{Cluster, ClusterConfig};
use kubewright_pki::Authority;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::table::{Aim, Row, Table};

const TOKEN: &str = "a-token-that-the-cluster-knows";
const THING: &str = "/apis/things.example.com/v1/namespaces/default/things/one";
const REQUESTS: usize = 3000;
/// Checks timed together: one is shorter than a clock tells well.
const BATCH: u32 = 200;

/// Measures.
pub async fn run() -> anyhow::Result<Table> {
    let file = std::env::temp_dir().join(format!("kubewright-bench-tokens-{}", std::process::id()));
    std::fs::write(&file, format!("{TOKEN},jane,1,\"dev,ops\"\n"))?;
    let access = AccessConfig { token_auth_file: Some(file.clone()), ..AccessConfig::default() };
    let bind = Some(([127, 0, 0, 1], 0).into());
    let config = ClusterConfig { bind, controllers: false, access, ..ClusterConfig::default() };
    let cluster = Cluster::start(config).await?;
    std::fs::remove_file(&file)?;
    allow(&cluster).await?;
    let authority = Authority::new("things", SystemTime::now())?;
    let running = serve(&cluster, &authority).await?;
    let mut sender = connect(&running, &authority).await?;
    create(&running).await?;

    let mut requests = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let started = Instant::now();
        get(&mut sender).await?;
        requests.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let core = running.server().core();
    let mut checks = Vec::with_capacity(REQUESTS / 10);
    for _ in 0..REQUESTS / 10 {
        let started = Instant::now();
        for _ in 0..BATCH {
            let mut user = None;
            for authenticator in core.authenticators() {
                if let Some(found) = authenticator.authenticate_token(core, TOKEN, &[]).await? {
                    user = Some(found.user);
                    break;
                }
            }
            let user: UserInfo = user.context("the token is known")?;
            let decision = authz::decide(core, &attributes(&user)).await;
            ensure!(matches!(black_box(&decision), Decision::Allow(_)), "jane may read things");
        }
        checks.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
    }
    let mut table = Table::default();
    let request = Row {
        name: "GET of an aggregated server over TLS, bearer token",
        unit: "µs",
        samples: requests,
        peer: None,
        aim: Aim::None,
    };
    let median = request.median();
    table.rows.push(request);
    table.rows.push(Row {
        name: "its delegated checks, from cache (peer: the GET)",
        unit: "µs",
        samples: checks,
        peer: Some((median, false)),
        aim: Aim::RatioAtMost(0.05),
    });
    running.shutdown().await;
    cluster.shutdown().await;
    Ok(table)
}

fn attributes(user: &UserInfo) -> Attributes<'_> {
    Attributes {
        user,
        verb: "get".into(),
        group: "things.example.com".into(),
        version: "v1".into(),
        resource: "things".into(),
        subresource: "".into(),
        namespace: "default".into(),
        name: "one".into(),
        path: THING.into(),
        resource_request: true,
        label_selector: None,
        field_selector: None,
    }
}

/// Lets jane read things.
async fn allow(cluster: &Cluster) -> anyhow::Result<()> {
    let group = "rbac.authorization.k8s.io";
    let role = json!({"metadata": {"name": "things"}, "rules":
        [{"apiGroups": ["things.example.com"], "resources": ["things"], "verbs": ["get"]}]});
    let binding = json!({"metadata": {"name": "things"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "things"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]});
    for (kind, object) in [("ClusterRole", role), ("ClusterRoleBinding", binding)] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    }
    Ok(())
}

async fn serve(cluster: &Cluster, authority: &Authority) -> anyhow::Result<Running> {
    let kubeconfig = cluster.kubeconfig("c", "system:things", &["system:masters"])?;
    let schema = json!({"type": "object", "properties": {"size": {"type": "integer"}}});
    let identity = authority.server(&["things"], &[[127, 0, 0, 1].into()], SystemTime::now())?;
    let settings = Settings {
        cluster: Peer::from_kubeconfig(&serde_json::to_string(&kubeconfig)?, std::path::Path::new("."))?,
        bind: ([127, 0, 0, 1], 0).into(),
        serving: Serving::Certificate(Box::new(identity)),
    };
    let kind = Kind::with_schema("things.example.com", "v1", "Thing", "things", schema);
    Ok(AggregatedServer::new("things").kind(kind).start(settings).await?)
}

async fn create(running: &Running) -> anyhow::Result<()> {
    let client = kube::Client::new(running.server().service(Some(UserInfo::server())), "default");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("things.example.com", "v1", "Thing"));
    let api: Api<DynamicObject> = Api::default_namespaced_with(client, &resource);
    let thing: Value = json!({"apiVersion": "things.example.com/v1", "kind": "Thing", "metadata": {"name": "one"},
        "size": 1});
    api.create(&PostParams::default(), &serde_json::from_value(thing)?).await?;
    Ok(())
}

async fn connect(running: &Running, authority: &Authority) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let tls = kubewright_pki::client_config(&authority.bundle(), None)?;
    let stream = TcpStream::connect(running.address().context("it listens")?).await?;
    stream.set_nodelay(true)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = connector.connect(ServerName::try_from("things")?, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn get(sender: &mut SendRequest<Empty<Bytes>>) -> anyhow::Result<()> {
    sender.ready().await?;
    let request = http::Request::get(THING)
        .header("host", "things")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Empty::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status() == 200, "the answer is {}", response.status());
    black_box(response.into_body().collect().await?.to_bytes());
    Ok(())
}
