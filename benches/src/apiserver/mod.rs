//! The API server on a socket: authentication by certificate, RBAC, admission and all, but nobody around it.
//!
//! Its peer is a bare hyper server in the same process with the same TLS set-up, asked in turns by the same clients, so
//! that what the machine does meanwhile meets both. Clients and servers share the cores.

mod bare;
mod client;
mod load;
mod watchers;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use kubewright_cluster::{Cluster, ClusterConfig};
use kubewright_pki::{Authority, ServingCertificate};
use serde_json::json;

use self::bare::Answers;
use self::client::Client;
use self::load::{Act, Load, config_map};
use crate::table::{Aim, Row, Table};

/// Clients that ask at the same time.
const CLIENTS: usize = 16;
/// Turns of each measurement, after one that does not count.
const TURNS: usize = 15;
const GETS: usize = 8_000;
const LISTS: usize = 32;
const CREATES: usize = 3_000;
/// Objects of the list, and bytes of text in each: 1.5 KB as they are served.
const LISTED: usize = 20_000;
const LISTED_TEXT: usize = 1_060;
/// Bytes of text in the object that is read and in those that are created.
const TEXT: usize = 1_000;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Get, list and create beside the bare server.
    Requests,
    /// Events to watchers.
    Events,
}

/// Measures one part, or both.
pub async fn run(only: Option<Part>) -> anyhow::Result<Table> {
    let authority = Arc::new(Authority::new("benches", SystemTime::now())?);
    let cluster = Cluster::start(ClusterConfig {
        bind: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        controllers: false,
        authority: Some(Arc::clone(&authority)),
        ..ClusterConfig::default()
    })
    .await?;
    let address = cluster.address().context("the cluster has no address")?;
    // A user whom RBAC allows what it does.
    let tls = client_tls(&authority, "bench", &["benches"])?;
    prepare(address, &client_tls(&authority, "admin", &["system:masters"])?).await?;

    let mut rows = Vec::new();
    if only != Some(Part::Events) {
        rows.extend(requests(address, &authority, &tls).await?);
    }
    if only != Some(Part::Requests) {
        rows.extend(watchers::rows(address, &tls).await?);
    }
    cluster.shutdown().await;
    Ok(Table { rows })
}

/// Rows of requests that are answered once.
async fn requests(
    address: SocketAddr,
    authority: &Authority,
    tls: &Arc<rustls::ClientConfig>,
) -> anyhow::Result<Vec<Row>> {
    let listed =
        Act::Create { path: collection("listed"), prefix: "object".into(), text: "x".repeat(LISTED_TEXT) };
    Load::connect(CLIENTS, address, tls).await?.rate(LISTED, listed).await?;
    let (object, list) = (format!("{}/one", collection("read")), collection("listed"));
    let mut client = Client::connect(address, tls).await?;
    let (one, all) = (client.read(&object).await?, client.read(&list).await?);
    let sizes = (one.len(), all.len());
    let answers = Answers(vec![(object.clone(), one), (list.clone(), all)]);
    let bare = bare::serve(answers, server_tls(authority)?).await?;

    let mut both = Both {
        ours: Load::connect(CLIENTS, address, tls).await?,
        peer: Load::connect(CLIENTS, bare, tls).await?,
    };
    let (gets, peer_gets) = both.turns(GETS, |_| Act::Get(object.clone(), sizes.0)).await?;
    let (lists, peer_lists) = both.turns(LISTS, |_| Act::Get(list.clone(), sizes.1)).await?;
    let (creates, peer_creates) = both
        .turns(CREATES, |turn| Act::Create {
            path: collection("created"),
            prefix: format!("turn-{turn:02}"),
            text: "x".repeat(TEXT),
        })
        .await?;
    let megabytes = |lists: Vec<f64>| lists.into_iter().map(|rate| rate * sizes.1 as f64 / 1e6).collect();
    let (one_list, peer_one_list) = one_at_a_time(address, bare, tls, &list).await?;
    let (get, create, listing) = ("get, 16 clients", "create, 16 clients", "list of 20 000, 1 client");
    Ok(vec![
        beside_recorded(get, "1/s", &gets, 1600.0),
        beside_bare(get, "1/s", gets, &peer_gets, Aim::RatioAtLeast(0.6)),
        beside_recorded(create, "1/s", &creates, 900.0),
        beside_bare(create, "1/s", creates, &peer_creates, Aim::RatioAtLeast(0.4)),
        beside_bare(
            "list of 20 000, 16 clients",
            "MB/s",
            megabytes(lists),
            &megabytes(peer_lists),
            Aim::RatioAtLeast(0.6),
        ),
        beside_recorded(listing, "ms", &one_list, 330.0),
        beside_bare(listing, "ms", one_list, &peer_one_list, Aim::None),
    ])
}

/// A row beside what was measured of the bare server in turns with ours.
fn beside_bare(name: &'static str, unit: &'static str, samples: Vec<f64>, peer: &[f64], aim: Aim) -> Row {
    let peer = Row { name, unit, samples: peer.to_vec(), peer: None, aim: Aim::None }.median();
    Row { name, unit, samples, peer: Some((peer, false)), aim }
}

/// The same row beside what was recorded of kube-apiserver.
fn beside_recorded(name: &'static str, unit: &'static str, samples: &[f64], recorded: f64) -> Row {
    Row { name, unit, samples: samples.to_vec(), peer: Some((recorded, true)), aim: Aim::None }
}

/// Clients of both servers.
struct Both {
    ours: Load,
    peer: Load,
}

impl Both {
    /// Lets the clients of either server act in turns; returns the rates.
    async fn turns(
        &mut self,
        times: usize,
        act: impl Fn(usize) -> Act,
    ) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for turn in 0..=TURNS {
            peer.push(self.peer.rate(times, act(turn)).await?);
            ours.push(self.ours.rate(times, act(turn)).await?);
        }
        Ok((ours.split_off(1), peer.split_off(1)))
    }
}

/// Milliseconds of one list after the other, of either server.
async fn one_at_a_time(
    address: SocketAddr,
    bare: SocketAddr,
    tls: &Arc<rustls::ClientConfig>,
    list: &str,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (mut client, mut peer) = (Client::connect(address, tls).await?, Client::connect(bare, tls).await?);
    let (mut times, mut peer_times) = (Vec::new(), Vec::new());
    for _ in 0..=TURNS {
        for (client, times) in [(&mut peer, &mut peer_times), (&mut client, &mut times)] {
            let started = Instant::now();
            client.get(list).await?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok((times.split_off(1), peer_times.split_off(1)))
}

/// The path of the ConfigMaps of a namespace.
fn collection(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// What the measurements read, and the right to.
async fn prepare(address: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<()> {
    let mut client = Client::connect(address, tls).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "benches"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "benches"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    client.post(bindings, binding.to_string().into()).await?;
    for namespace in ["read", "listed", "created", "few", "shared", "apart"] {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}).to_string();
        client.post("/api/v1/namespaces", object.into()).await?;
    }
    client.post(&collection("read"), config_map("one", &"x".repeat(TEXT))).await?;
    Ok(())
}

fn client_tls(
    authority: &Authority,
    user: &str,
    groups: &[&str],
) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let identity = authority.client(user, groups, SystemTime::now())?;
    Ok(Arc::new(kubewright_pki::client_config(&authority.bundle(), Some(&identity))?))
}

/// As the cluster's own listener has it.
fn server_tls(authority: &Authority) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let address = Ipv4Addr::LOCALHOST.into();
    let identity = authority.server(&["localhost"], &[address], SystemTime::now())?;
    let serving = ServingCertificate::new(&identity)?;
    Ok(Arc::new(kubewright_pki::server_config(Arc::new(serving))?))
}
