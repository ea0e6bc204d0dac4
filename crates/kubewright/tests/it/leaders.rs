//! Replicas that elect a leader, against an API server that keeps one Lease and some Namespaces.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::client::Body;
use kubewright::{
    Action, Context, Controller, Error, LeaderElection, LeaseTiming, Manager, Reconciler, Result, Verb,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tower::BoxError;

/// One Lease with optimistic concurrency, one Namespace, and writes that are counted. While it is silent,
/// requests about the Lease get no answer.
#[derive(Clone)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    revision: Arc<Mutex<u64>>,
    holders: watch::Sender<String>,
    silent: watch::Sender<bool>,
    lists: watch::Sender<u32>,
}

type Stream = StreamBody<BoxStream<'static, std::result::Result<Frame<Bytes>, BoxError>>>;

impl Server {
    fn new() -> Server {
        Server {
            lease: Arc::default(),
            revision: Arc::default(),
            holders: watch::channel(String::new()).0,
            silent: watch::channel(false).0,
            lists: watch::channel(0).0,
        }
    }

    fn client(&self) -> kube::Client {
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
            let (status, body) = self.lease(&parts.method, body);
            return reply(status, vec![body.to_string()], false);
        }
        if path == "/api/v1/namespaces" && query.contains("watch=true") {
            self.lists.send_modify(|lists| *lists += 1);
            let team = json!({"type": "ADDED", "object": {"kind": "Namespace", "apiVersion": "v1",
                "metadata": {"name": "team", "uid": "u", "resourceVersion": "3"}}});
            let end = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5",
                "annotations": {"k8s.io/initial-events-end": "true"}}}});
            return reply(200, vec![format!("{team}\n{end}\n")], true);
        }
        let made =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c", "namespace": "team"}});
        reply(201, vec![made.to_string()], false)
    }

    fn lease(&self, method: &Method, mut body: Value) -> (u16, Value) {
        let mut lease = self.lease.lock().unwrap();
        let status =
            |code: u16| (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": ""}));
        match (method, &*lease) {
            (&Method::GET, Some(kept)) => return (200, kept.clone()),
            (&Method::GET, None) => return status(404),
            (&Method::POST, None) => {}
            (&Method::PUT, Some(kept))
                if kept["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"] => {}
            _ => return status(409),
        }
        let mut revision = self.revision.lock().unwrap();
        *revision += 1;
        body["metadata"]["resourceVersion"] = json!(revision.to_string());
        body["metadata"]["uid"] = json!("l");
        *lease = Some(body.clone());
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

/// Reports who reconciles and how its write went, and then waits to be cancelled or released.
struct Writes {
    who: &'static str,
    told: mpsc::UnboundedSender<String>,
    until: watch::Receiver<bool>,
}

impl Reconciler for Writes {
    type Object = Namespace;

    async fn reconcile(&self, _: Arc<Namespace>, cx: &Context) -> Result<Action> {
        self.told.send(format!("{} begins", self.who)).unwrap();
        let mut dropped = Dropped(self, true);
        // It holds on to its client while the Lease may go.
        let maps: Api<ConfigMap> = Api::namespaced(cx.client(), "team");
        let mut until = self.until.clone();
        until.wait_for(|go| *go).await.unwrap();
        dropped.1 = false;
        let mut map = ConfigMap::default();
        map.metadata.name = Some("c".into());
        let written = maps.create(&Default::default(), &map).await.map_err(Error::from);
        let how = written.map_or_else(|error| error.to_string(), |_| "written".into());
        self.told.send(format!("{}: {how}", self.who)).unwrap();
        Ok(Action::done())
    }
}

/// Tells of a reconciliation that was cancelled.
struct Dropped<'a>(&'a Writes, bool);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.told.send(format!("{} is dropped", self.0.who)).unwrap();
        }
    }
}

const TIMING: LeaseTiming = LeaseTiming {
    lease: Duration::from_millis(1000),
    renew_deadline: Duration::from_millis(300),
    retry: Duration::from_millis(50),
};

struct Replica {
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<Result>,
}

fn replica(
    server: &Server,
    who: &'static str,
    told: &mpsc::UnboundedSender<String>,
    until: &watch::Receiver<bool>,
) -> Replica {
    let writes = Writes { who, told: told.clone(), until: until.clone() };
    let (stop, stopped) = oneshot::channel::<()>();
    let manager = Manager::new("op", server.client())
        .leader_election(LeaderElection::new("op").identity(who).timing(TIMING))
        .controller(Controller::new(writes).writes::<ConfigMap>([Verb::Create]));
    let running = tokio::spawn(manager.run(async {
        let _ = stopped.await;
    }));
    Replica { stop, running }
}

#[tokio::test]
async fn a_standby_has_warm_caches_and_takes_over_when_the_leader_stops() {
    let server = Server::new();
    let (told, mut hear) = mpsc::unbounded_channel();
    let (_go, until) = watch::channel(true);
    let first = replica(&server, "a", &told, &until);
    assert_eq!(hear.recv().await.unwrap(), "a begins");
    assert_eq!(hear.recv().await.unwrap(), "a: written");
    let second = replica(&server, "b", &told, &until);
    // Both list, one reconciles.
    server.lists.subscribe().wait_for(|lists| *lists == 2).await.unwrap();
    let mut holders = server.holders.subscribe();
    first.stop.send(()).unwrap();
    first.running.await.unwrap().unwrap();
    // The Lease was given back, and nothing is listed again for the new leader to begin.
    holders.wait_for(|holder| holder == "b").await.unwrap();
    assert_eq!(hear.recv().await.unwrap(), "b begins");
    assert_eq!(hear.recv().await.unwrap(), "b: written");
    assert_eq!(*server.lists.borrow(), 2);
    let transitions = server.lease.lock().unwrap().as_ref().unwrap()["spec"]["leaseTransitions"].clone();
    assert_eq!(transitions, json!(1));
    second.stop.send(()).unwrap();
    second.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_working_without_exiting_and_leads_again() {
    let server = Server::new();
    let (told, mut hear) = mpsc::unbounded_channel();
    let (go, until) = watch::channel(false);
    let only = replica(&server, "a", &told, &until);
    assert_eq!(hear.recv().await.unwrap(), "a begins");
    // The reconciliation under way is cancelled when the Lease is lost, and begins anew when it is back.
    server.silent.send_replace(true);
    assert_eq!(hear.recv().await.unwrap(), "a is dropped");
    server.silent.send_replace(false);
    assert_eq!(hear.recv().await.unwrap(), "a begins");
    go.send_replace(true);
    assert_eq!(hear.recv().await.unwrap(), "a: written");
    only.stop.send(()).unwrap();
    only.running.await.unwrap().unwrap();
    assert_eq!(*server.holders.borrow(), "");
}
