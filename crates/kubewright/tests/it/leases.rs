//! An API server that keeps Leases, for replicas that agree on something.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::BoxError;

/// Leases with optimistic concurrency, a few Namespaces that are watched, and writes of ConfigMaps. While it is silent,
/// requests about the Lease get no answer; while it is `stuck`, writes of ConfigMaps arrive and get none.
#[derive(Clone)]
pub struct Server {
    namespaces: usize,
    leases: Arc<Mutex<BTreeMap<String, Value>>>,
    revision: Arc<Mutex<u64>>,
    pub holders: watch::Sender<String>,
    pub silent: watch::Sender<bool>,
    pub lists: watch::Sender<u32>,
    pub stuck: watch::Sender<bool>,
    /// Writes of ConfigMaps that arrived.
    pub writes: watch::Sender<u32>,
}

type Stream = StreamBody<BoxStream<'static, std::result::Result<Frame<Bytes>, BoxError>>>;

impl Server {
    pub fn new(namespaces: usize) -> Server {
        Server {
            namespaces,
            leases: Arc::default(),
            revision: Arc::default(),
            holders: watch::channel(String::new()).0,
            silent: watch::channel(false).0,
            lists: watch::channel(0).0,
            stuck: watch::channel(false).0,
            writes: watch::channel(0).0,
        }
    }

    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        kube::Client::new(service, "op-system")
    }

    async fn answer(&self, request: Request<Body>) -> std::result::Result<Response<Stream>, BoxError> {
        let (parts, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        if path.contains("/leases") {
            if *self.silent.borrow() {
                std::future::pending::<()>().await;
            }
            let (status, body) = self.leases(&parts.method, path, body);
            return reply(status, vec![body.to_string()], false);
        }
        if path == "/api/v1/namespaces" && query.contains("watch=true") {
            self.lists.send_modify(|lists| *lists += 1);
            let mut lines: Vec<Value> = (0..self.namespaces)
                .map(|index| {
                    json!({"type": "ADDED", "object": {"kind": "Namespace", "apiVersion": "v1",
                        "metadata": {"name": format!("team-{index}"), "uid": format!("{index}-5b6ff1ea-0d4c-4f2e-8f1c-6d2a1c3b4d5e"),
                            "resourceVersion": "3"}}})
                })
                .collect();
            lines.push(json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5",
                "annotations": {"k8s.io/initial-events-end": "true"}}}}));
            let text = lines.iter().map(|line| format!("{line}\n")).collect();
            return reply(200, vec![text], true);
        }
        self.writes.send_modify(|writes| *writes += 1);
        if *self.stuck.borrow() {
            std::future::pending::<()>().await;
        }
        let made =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c", "namespace": "team"}});
        reply(201, vec![made.to_string()], false)
    }

    /// A Lease as it is kept.
    pub fn lease(&self, name: &str) -> Value {
        self.leases.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    fn leases(&self, method: &Method, path: &str, mut body: Value) -> (u16, Value) {
        let mut leases = self.leases.lock().unwrap();
        let status =
            |code: u16| (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": ""}));
        let named = path.rsplit('/').next().filter(|last| *last != "leases");
        let name = named.or(body["metadata"]["name"].as_str()).unwrap_or_default().to_owned();
        let same =
            |kept: &Value, meta: &Value| kept["metadata"]["resourceVersion"] == meta["resourceVersion"];
        match (method, leases.get(&name)) {
            (&Method::GET, _) if named.is_none() => {
                let items: Vec<&Value> = leases.values().collect();
                return (200, json!({"kind": "LeaseList", "metadata": {}, "items": items}));
            }
            (&Method::GET, Some(kept)) => return (200, kept.clone()),
            (&Method::GET, None) => return status(404),
            (&Method::POST, None) => {}
            (&Method::PUT, Some(kept)) if same(kept, &body["metadata"]) => {}
            (&Method::DELETE, Some(kept)) if same(kept, &body["preconditions"]) => {
                leases.remove(&name);
                return (200, json!({"kind": "Status", "status": "Success", "code": 200}));
            }
            _ => return status(409),
        }
        let mut revision = self.revision.lock().unwrap();
        *revision += 1;
        body["metadata"]["resourceVersion"] = json!(revision.to_string());
        body["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        leases.insert(name, body.clone());
        let holder = body["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        self.holders.send_if_modified(|before| {
            let changed = *before != holder;
            before.clone_from(&holder);
            changed
        });
        (200, body)
    }
}

fn reply(status: u16, chunks: Vec<String>, open: bool) -> std::result::Result<Response<Stream>, BoxError> {
    let chunks = stream::iter(chunks).map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
    let body = if open { chunks.chain(stream::pending()).boxed() } else { chunks.boxed() };
    let mut response = Response::new(StreamBody::new(body));
    *response.status_mut() = StatusCode::from_u16(status)?;
    Ok(response)
}
