//! The HTTP endpoints that tell of the process: `/healthz`, `/readyz`, `/metrics`, and what is under `/debug` on addresses
//! that are secured or of this machine alone. They answer from what is true at that
//! moment and, unless somebody's right to ask has to be reviewed, wait for nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::net::TcpListener;

use super::extra::Endpoint;
use super::gate::{Gate, Refused};
use super::health::Health;
use super::metrics::Metrics;
use super::queues::Queues;
use crate::logs::LogFilter;
use crate::serving::Answer;

/// Where the filter of the logs is (as for Kubernetes' components), and how long one may be.
const LOG_FILTER: &str = "/debug/flags/v";
const MAX_FILTER: usize = 4096;
/// Where it is told what the queues hold.
const QUEUES: &str = "/debug/queues";

/// What one address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Serves {
    pub(super) metrics: bool,
    pub(super) health: bool,
}

/// What is served where, from the addresses of the metrics and of health: they may be the same, unless any free port
/// will do.
pub(super) fn addresses(metrics: Option<&str>, health: Option<&str>) -> Vec<(String, Serves)> {
    let both = metrics.filter(|address| health == Some(address) && !address.ends_with(":0"));
    if let Some(address) = both {
        return vec![(address.into(), Serves { metrics: true, health: true })];
    }
    let metrics = metrics.map(|address| (address.into(), Serves { metrics: true, health: false }));
    let health = health.map(|address| (address.into(), Serves { metrics: false, health: true }));
    metrics.into_iter().chain(health).collect()
}

/// Whether only this machine reaches a listener.
pub(super) fn private(listener: &TcpListener) -> bool {
    listener.local_addr().is_ok_and(|address| address.ip().is_loopback())
}

/// The endpoints of one address.
pub(super) struct Endpoints {
    pub(super) serves: Serves,
    /// What requests other than probes have to pass.
    pub(super) gate: Option<Gate>,
    /// Whether only this machine reaches the address.
    pub(super) private: bool,
    /// The filter of the logs, where this process set them up.
    pub(super) log_filter: Option<LogFilter>,
    pub(super) queues: Arc<Queues>,
    /// What the program serves besides, where metrics are.
    pub(super) extra: Vec<Endpoint>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
}

impl Answer for Endpoints {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let extra = self.extra.iter().find(|endpoint| self.serves.metrics && endpoint.path == path);
        let (parts, body) = request.into_parts();
        let checked = |(passed, text): (bool, String)| {
            respond(if passed { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, text)
        };
        // What changes or tells more than figures is for those who may, or who are on this machine anyway.
        let debugs = self.gate.is_some() || self.private;
        match parts.uri.path() {
            "/healthz" | "/livez" if self.serves.health => return checked(self.health.live()),
            "/readyz" if self.serves.health => return checked(self.health.ready()),
            "/metrics" if self.serves.metrics => {}
            LOG_FILTER | QUEUES if debugs => {}
            _ if extra.is_some() => {}
            _ => return respond(StatusCode::NOT_FOUND, "not found\n".into()),
        }
        if let Some(gate) = &self.gate
            && let Err(refused) = gate.admit(&parts, Timestamp::now()).await
        {
            return refuse(&refused);
        }
        if let Some(endpoint) = extra {
            return endpoint.answer(Request::from_parts(parts, body)).await.map(Full::new);
        }
        match (parts.uri.path(), parts.method) {
            ("/metrics", Method::GET | Method::HEAD) => respond(StatusCode::OK, self.metrics.text()),
            (QUEUES, Method::GET | Method::HEAD) => respond(StatusCode::OK, self.queues.text()),
            (LOG_FILTER, method) => self.filter(&method, body).await,
            _ => respond(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".into()),
        }
    }
}

impl Endpoints {
    /// The filter of the logs: GET tells it, PUT sets it.
    async fn filter(&self, method: &Method, body: Incoming) -> Response<Full<Bytes>> {
        let Some(filter) = &self.log_filter else {
            return respond(StatusCode::NOT_FOUND, "the program has set up its own logging\n".into());
        };
        match *method {
            Method::GET | Method::HEAD => respond(StatusCode::OK, format!("{}\n", filter.read())),
            Method::PUT => {
                let Ok(body) = Limited::new(body, MAX_FILTER).collect().await else {
                    return respond(StatusCode::PAYLOAD_TOO_LARGE, "the filter is too long\n".into());
                };
                match filter.set(&String::from_utf8_lossy(&body.to_bytes())) {
                    Ok(set) => respond(StatusCode::OK, format!("successfully set the log filter to {set}\n")),
                    Err(error) => respond(StatusCode::BAD_REQUEST, format!("{error}\n")),
                }
            }
            _ => respond(StatusCode::METHOD_NOT_ALLOWED, "only GET and PUT are answered here\n".into()),
        }
    }
}

fn refuse(refused: &Refused) -> Response<Full<Bytes>> {
    if let Refused::NoReview(_, error) = refused {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the API server does not say who may ask: {refused}"
        );
    }
    let mut response = respond(refused.code(), format!("{refused}\n"));
    if refused.code() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

fn respond(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::serving::{listen, serve};

    async fn get(address: SocketAddr, path: &str) -> String {
        ask(address, "GET", path, "").await
    }

    async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Endpoints on a free port, which end with what is given back.
    async fn started(make: impl FnOnce(&mut Endpoints)) -> (SocketAddr, tokio::task::JoinSet<()>) {
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut endpoints = Endpoints {
            serves: Serves { metrics: true, health: true },
            gate: None,
            private: private(&listener),
            log_filter: None,
            queues: Arc::default(),
            extra: Vec::new(),
            health: Arc::default(),
            metrics: Arc::default(),
        };
        make(&mut endpoints);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move {
            serve(listener, None, "health", Arc::new(endpoints), stopped).await;
            drop(stop);
        });
        (address, server)
    }

    #[tokio::test]
    async fn an_address_serves_what_it_is_for() {
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
        let controller = metrics.controller("web");
        let _active = controller.started(std::time::Duration::ZERO);
        let (address, _server) = started(|endpoints| {
            (endpoints.health, endpoints.metrics) = (Arc::clone(&health), metrics);
        })
        .await;
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 500 "));
        health.started(Vec::new());
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/healthz").await.ends_with("healthz check passed\n"));
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("controller_runtime_active_workers{controller=\"web\"} 1\n"), "{metrics}");
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404 "));
        assert!(ask(address, "POST", "/metrics", "x").await.starts_with("HTTP/1.1 405 "));
        assert!(get(address, QUEUES).await.contains("\"controllers\": []"));
    }

    #[tokio::test]
    async fn a_program_serves_more_where_metrics_are_and_nowhere_else() {
        let greets = Endpoint::new("/greeting", |request: Request<Bytes>| async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            Response::new(Bytes::from(format!("hello {query}\n")))
        });
        let (address, _server) = started(|endpoints| endpoints.extra = vec![greets.clone()]).await;
        let answer = get(address, "/greeting?name=jane").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello name=jane\n"), "{answer}");
        assert!(get(address, "/greeting/more").await.starts_with("HTTP/1.1 404 "));
        let (address, _server) = started(|endpoints| {
            (endpoints.extra, endpoints.serves.metrics) = (vec![greets], false);
        })
        .await;
        assert!(get(address, "/greeting").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn the_log_filter_is_told_and_changed_where_only_this_machine_asks() {
        let filter = LogFilter::of("info").unwrap();
        let (address, _server) = started(|endpoints| endpoints.log_filter = Some(filter.clone())).await;
        assert!(get(address, LOG_FILTER).await.ends_with("\r\n\r\ninfo\n"));
        let set = ask(address, "PUT", LOG_FILTER, "4").await;
        assert!(set.ends_with("successfully set the log filter to debug\n"), "{set}");
        assert_eq!(filter.read(), "debug");
        assert!(ask(address, "PUT", LOG_FILTER, "debgu").await.starts_with("HTTP/1.1 400 "));
        assert!(ask(address, "PUT", LOG_FILTER, &"x".repeat(5000)).await.starts_with("HTTP/1.1 413 "));
        assert!(ask(address, "DELETE", LOG_FILTER, "").await.starts_with("HTTP/1.1 405 "));
        assert_eq!(filter.read(), "debug");

        let (address, _server) = started(|endpoints| {
            (endpoints.log_filter, endpoints.private) = (Some(filter), false);
        })
        .await;
        assert!(get(address, LOG_FILTER).await.starts_with("HTTP/1.1 404 "));
        assert!(get(address, QUEUES).await.starts_with("HTTP/1.1 404 "));
        let anywhere = listen("0.0.0.0:0").await.unwrap();
        assert!(!private(&anywhere));
    }

    #[test]
    fn one_address_may_serve_both() {
        let both = Serves { metrics: true, health: true };
        assert_eq!(addresses(Some(":1"), Some(":1")), [(":1".to_owned(), both)]);
        assert_eq!(addresses(Some(":1"), Some(":2")).len(), 2);
        assert_eq!(addresses(Some("127.0.0.1:0"), Some("127.0.0.1:0")).len(), 2, "two free ports");
        assert_eq!(addresses(None, None), []);
    }
}
