//! Whether the process lives and is ready, and the small HTTP server that says so: `/healthz`, `/readyz`
//! and `/metrics`. It answers from what is true at that moment and never waits for anything.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::cache::Informer;
use crate::controller::panic_message;
use crate::{Error, Result};

/// Something that is asked whenever an endpoint is: what it is about, and whether it is well.
pub(crate) type Check = Box<dyn Fn() -> (String, bool) + Send + Sync>;

/// What the endpoints tell.
#[derive(Default)]
pub(crate) struct Health {
    state: Mutex<State>,
    live: Mutex<Vec<Check>>,
    ready: Mutex<Vec<Check>>,
}

#[derive(Default)]
struct State {
    /// With the names of their clusters, where these are not the manager's own.
    informers: Vec<(Option<String>, Informer)>,
    started: bool,
    stopping: bool,
    ended: Vec<String>,
}

impl Health {
    /// The informers that must be synced before the process is ready.
    pub(crate) fn started(&self, mut informers: Vec<(Option<String>, Informer)>) {
        let of = |informer: &(Option<String>, Informer)| (informer.0.clone(), informer.1.kind().clone());
        informers.sort_by_key(of);
        informers.dedup_by_key(|informer| of(informer));
        let mut state = self.state.lock();
        state.informers = informers;
        state.started = true;
    }

    /// Asks this too, for liveness.
    pub(crate) fn live_check(&self, check: Check) {
        self.live.lock().push(check);
    }

    /// Asks this too, for readiness.
    pub(crate) fn ready_check(&self, check: Check) {
        self.ready.lock().push(check);
    }

    /// The process is on its way out: not ready any more. Lets go of the informers.
    pub(crate) fn stopping(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        state.informers.clear();
    }

    /// A part of the process ended that should not have.
    pub(crate) fn ended(&self, task: &str) {
        self.state.lock().ended.push(task.into());
    }

    /// Whether the process works; false means that only a restart helps.
    pub(crate) fn live(&self) -> (bool, String) {
        let state = self.state.lock();
        let dead = state.informers.iter().filter(|(_, informer)| !informer.is_running());
        let mut checks: Vec<_> =
            dead.map(|(cluster, informer)| (format!("{} runs", cache(cluster, informer)), false)).collect();
        checks.extend(state.ended.iter().map(|task| (format!("{task} runs"), false)));
        drop(state);
        checks.extend(self.live.lock().iter().map(ask));
        report("healthz", checks)
    }

    /// Whether the process does its work now.
    pub(crate) fn ready(&self) -> (bool, String) {
        let state = self.state.lock();
        let mut checks =
            vec![("started".to_owned(), state.started), ("not stopping".to_owned(), !state.stopping)];
        for (cluster, informer) in &state.informers {
            let name = cache(cluster, informer);
            checks.push(if informer.is_missing() {
                let version = informer.kind().api_version();
                (format!("{name}: {version} is not served, its definition is not installed"), false)
            } else {
                (format!("{name} synced"), informer.is_synced() && informer.is_running())
            });
        }
        checks.extend(state.ended.iter().map(|task| (format!("{task} runs"), false)));
        drop(state);
        checks.extend(self.ready.lock().iter().map(ask));
        report("readyz", checks)
    }
}

/// A cache as it is named to people.
fn cache(cluster: &Option<String>, informer: &Informer) -> String {
    match cluster {
        None => format!("cache {}", informer.kind()),
        Some(cluster) => format!("cache {} in {cluster}", informer.kind()),
    }
}

/// A check of a user may panic; then it fails.
fn ask(check: &Check) -> (String, bool) {
    catch_unwind(AssertUnwindSafe(check))
        .unwrap_or_else(|panic| (format!("a check panicked: {}", panic_message(&*panic)), false))
}

fn report(check: &str, checks: Vec<(String, bool)>) -> (bool, String) {
    let passed = checks.iter().all(|(_, ok)| *ok);
    let mut text = String::new();
    for (name, ok) in checks {
        let _ = writeln!(text, "[{}]{name}", if ok { '+' } else { '-' });
    }
    let _ = writeln!(text, "{check} check {}", if passed { "passed" } else { "failed" });
    (passed, text)
}

/// What one address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Serves {
    pub metrics: bool,
    pub health: bool,
}

/// What is served where, from the addresses of the metrics and of health: they may be the same.
pub(super) fn addresses(metrics: Option<&str>, health: Option<&str>) -> Vec<(String, Serves)> {
    let mut wanted: Vec<(String, Serves)> = Vec::new();
    if let Some(address) = metrics {
        wanted.push((address.into(), Serves { metrics: true, health: health == Some(address) }));
    }
    if let Some(address) = health.filter(|address| metrics != Some(address)) {
        wanted.push((address.into(), Serves { metrics: false, health: true }));
    }
    wanted
}

/// A listener on `HOST:PORT` or `:PORT`.
pub(crate) async fn listen(address: &str) -> Result<TcpListener> {
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    TcpListener::bind(&full).await.map_err(|source| Error::Listen { address: address.to_owned(), source })
}

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, serves: Serves, health: Arc<Health>, metrics: Arc<Metrics>) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, metrics = serves.metrics, health = serves.health, "listening");
    }
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _): (_, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(request.uri().path(), serves, &health, &metrics);
            async move { Ok::<_, Infallible>(answer) }
        });
        connections.spawn(async move {
            let server = hyper::server::conn::http1::Builder::new();
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection of the health endpoint broke");
            }
        });
    }
}

fn answer(path: &str, serves: Serves, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    let checked = |(passed, text): (bool, String)| {
        (if passed { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, text)
    };
    let (status, text) = match path {
        "/healthz" | "/livez" if serves.health => checked(health.live()),
        "/readyz" if serves.health => checked(health.ready()),
        "/metrics" if serves.metrics => (StatusCode::OK, metrics.text()),
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn an_address_serves_what_it_is_for() {
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
        metrics.controller("web").started(std::time::Duration::ZERO);
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serves = Serves { metrics: true, health: true };
        let server = tokio::spawn(serve(listener, serves, Arc::clone(&health), metrics));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 500 "));
        health.started(Vec::new());
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/healthz").await.ends_with("healthz check passed\n"));
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("controller_runtime_active_workers{controller=\"web\"} 1\n"), "{metrics}");
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404 "));
        server.abort();
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_an_error_that_names_it() {
        let taken = listen("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = listen(&address).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    }

    #[test]
    fn readiness_tells_what_is_missing() {
        let health = Health::default();
        assert_eq!(health.ready(), (false, "[-]started\n[+]not stopping\nreadyz check failed\n".into()));
        health.started(Vec::new());
        assert!(health.ready().0 && health.live().0);
        health.ended("controller x");
        assert!(!health.ready().0);
        assert_eq!(health.live(), (false, "[-]controller x runs\nhealthz check failed\n".into()));
    }

    #[test]
    fn checks_of_users_count_and_one_that_panics_fails() {
        let health = Health::default();
        health.started(Vec::new());
        health.ready_check(Box::new(|| ("licence valid".into(), true)));
        assert!(health.ready().0);
        health.ready_check(Box::new(|| panic!("a bug")));
        let (ready, text) = health.ready();
        assert!(!ready && text.contains("[+]licence valid\n[-]a check panicked: a bug\n"), "{text}");
        assert!(health.live().0);
        health.live_check(Box::new(|| ("disk".into(), false)));
        assert!(!health.live().0);
    }

    #[test]
    fn a_stopping_process_is_alive_and_not_ready() {
        let health = Health::default();
        health.started(Vec::new());
        health.stopping();
        assert!(!health.ready().0 && health.live().0);
    }
}
