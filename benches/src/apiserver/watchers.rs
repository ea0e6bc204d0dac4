//! How soon an event reaches those who watch: from sending a create to the moment that its bytes have been read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::Client;
use super::{collection, config_map};
use crate::table::{Aim, Row};

const WATCHERS: usize = 100;
const EVENTS: usize = 400;
/// Events that do not count.
const WARM_UP: usize = 20;
/// Bytes of text in the created objects.
const TEXT: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures. Watchers of one client share a connection of HTTP/2, as those of client-go and of our runtime do; watchers of
/// many clients have one each, of HTTP/1.1.
pub async fn rows(address: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Vec<Row>> {
    let one = latencies("few", Client::sharing(1, address, tls).await?, address, tls).await?;
    let shared = latencies("shared", Client::sharing(WATCHERS, address, tls).await?, address, tls).await?;
    let apart = latencies("apart", Client::several(WATCHERS, address, tls).await?, address, tls).await?;
    let row = |name, samples, peer, aim| Row { name, unit: "µs", samples, peer: Some(peer), aim };
    let last = |events: &[Vec<f64>]| events.iter().filter_map(|e| e.last().copied()).collect::<Vec<f64>>();
    let alone = row("create → event, 1 watcher", last(&one), (3500.0, true), Aim::None);
    let peer = (alone.median(), false);
    Ok(vec![
        alone,
        row("create → event, 100 watchers", shared.concat(), (5600.0, true), Aim::None),
        row("100 watchers; peer: 1 watcher", shared.concat(), peer, Aim::RatioAtMost(5.0)),
        row("the last of 100; peer: 1 watcher", last(&shared), peer, Aim::None),
        row("100 on a connection each; peer: 1", apart.concat(), peer, Aim::None),
        row("the last of 100 on a connection each", last(&apart), peer, Aim::None),
    ])
}

/// For each event the microseconds after which the watchers had it, in order.
async fn latencies(
    prefix: &str,
    clients: Vec<Client>,
    address: SocketAddr,
    tls: &Arc<rustls::ClientConfig>,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let path = collection("watched");
    let watchers = clients.len();
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let watch = format!(
            "{path}?watch=1&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
        );
        let body = client.send(Method::GET, &watch, Bytes::new(), StatusCode::OK).await?;
        tasks.spawn(follow(client, body, seen.clone()));
    }
    let mut writer = Client::connect(address, tls).await?;
    let text = "x".repeat(TEXT);
    let mut out = Vec::new();
    for event in 0..WARM_UP + EVENTS {
        let object = config_map(&format!("{prefix}-{event:05}"), &text);
        let started = Instant::now();
        writer.post(&path, object).await?;
        let mut latencies = Vec::with_capacity(watchers);
        while latencies.len() < watchers {
            let arrival: Instant =
                tokio::time::timeout(PATIENCE, arrivals.recv()).await?.context("a watch ended")?;
            latencies.push(arrival.duration_since(started).as_secs_f64() * 1e6);
        }
        latencies.sort_by(f64::total_cmp);
        out.push(latencies);
    }
    tasks.shutdown().await;
    Ok(out.split_off(WARM_UP))
}

/// Says when each line has come.
async fn follow(
    _connection: Client,
    mut body: Incoming,
    seen: mpsc::UnboundedSender<Instant>,
) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        let lines = frame?.data_ref().map_or(0, |data| data.iter().filter(|b| **b == b'\n').count());
        let now = Instant::now();
        for _ in 0..lines {
            ensure!(seen.send(now).is_ok(), "nobody waits any more");
        }
    }
    Ok(())
}
