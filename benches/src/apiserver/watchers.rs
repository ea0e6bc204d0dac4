//! How soon an event reaches those who watch: from sending a create to the moment that its bytes have been read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::client::Client;
use super::{collection, config_map};
use crate::table::{Aim, Row};

const WATCHERS: usize = 100;
/// Turns, so that what the machine does meanwhile meets all.
const TURNS: usize = 20;
/// Events of a turn that count, and those before that do not.
const EVENTS: usize = 20;
const WARM_UP: usize = 5;
/// Bytes of text in the created objects.
const TEXT: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures. Watchers of one client share a connection of HTTP/2, as those of client-go and of our runtime do; watchers of
/// many clients have one each, of HTTP/1.1.
pub async fn rows(address: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Vec<Row>> {
    let mut one = Watched::new("few", Client::sharing(1, address, tls).await?).await?;
    let mut shared = Watched::new("shared", Client::sharing(WATCHERS, address, tls).await?).await?;
    let mut apart = Watched::new("apart", Client::several(WATCHERS, address, tls).await?).await?;
    let mut writer = Client::connect(address, tls).await?;
    let text = "x".repeat(TEXT);
    let mut number = 0;
    for _ in 0..TURNS {
        for watched in [&mut one, &mut shared, &mut apart] {
            for event in 0..WARM_UP + EVENTS {
                number += 1;
                let object = config_map(&format!("object-{number:06}"), &text);
                let latencies = watched.event(&mut writer, object).await?;
                if event >= WARM_UP {
                    watched.latencies.push(latencies);
                }
            }
        }
    }
    let (one, shared, apart) = (one.end().await, shared.end().await, apart.end().await);
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

/// A collection and those who watch it.
struct Watched {
    path: String,
    watchers: usize,
    tasks: JoinSet<anyhow::Result<()>>,
    board: Arc<Board>,
    /// For each event that counts what [`Watched::event`] gave.
    latencies: Vec<Vec<f64>>,
}

impl Watched {
    /// Each client watches the namespace.
    async fn new(namespace: &str, clients: Vec<Client>) -> anyhow::Result<Self> {
        let path = collection(namespace);
        let watch = format!(
            "{path}?watch=1&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
        );
        let watchers = clients.len();
        let board = Arc::new(Board::default());
        let mut tasks = JoinSet::new();
        for mut client in clients {
            let body = client.send(Method::GET, &watch, Bytes::new(), StatusCode::OK).await?;
            tasks.spawn(follow(client, body, Arc::clone(&board), watchers));
        }
        Ok(Self { path, watchers, tasks, board, latencies: Vec::new() })
    }

    /// Creates an object and waits until everybody has seen it: the microseconds after which they had, in order.
    async fn event(&self, writer: &mut Client, object: Bytes) -> anyhow::Result<Vec<f64>> {
        let started = Instant::now();
        writer.post(&self.path, object).await?;
        tokio::time::timeout(PATIENCE, self.board.full.notified()).await?;
        let arrivals =
            std::mem::take(&mut *self.board.arrivals.lock().expect("nobody panics with the board"));
        ensure!(arrivals.len() == self.watchers, "{} of {} saw the event", arrivals.len(), self.watchers);
        let micros = |arrival: Instant| arrival.duration_since(started).as_secs_f64() * 1e6;
        let mut latencies: Vec<f64> = arrivals.into_iter().map(micros).collect();
        latencies.sort_by(f64::total_cmp);
        Ok(latencies)
    }

    /// The latencies of the events that count.
    async fn end(mut self) -> Vec<Vec<f64>> {
        self.tasks.shutdown().await;
        self.latencies
    }
}

/// Where watchers note when they have read an event.
#[derive(Default)]
struct Board {
    arrivals: Mutex<Vec<Instant>>,
    /// Everybody has.
    full: Notify,
}

/// Notes when each line has come; the last of the watchers tells.
async fn follow(
    _connection: Client,
    mut body: Incoming,
    board: Arc<Board>,
    watchers: usize,
) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        let lines = frame?.data_ref().map_or(0, |data| memchr::memchr_iter(b'\n', data).count());
        let now = Instant::now();
        let mut arrivals = board.arrivals.lock().expect("nobody panics with the board");
        arrivals.extend(std::iter::repeat_n(now, lines));
        if arrivals.len() >= watchers {
            board.full.notify_one();
        }
    }
    Ok(())
}
