//! Replicas that elect a leader.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kubewright::{
    Action, Context, Controller, Error, LeaderElection, LeaseTiming, Manager, Reconciler, Result, Verb,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use crate::leases::Server;

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
    let server = Server::new(1);
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
    let transitions = server.lease("op")["spec"]["leaseTransitions"].clone();
    assert_eq!(transitions, json!(1));
    second.stop.send(()).unwrap();
    second.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_working_without_exiting_and_leads_again() {
    let server = Server::new(1);
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

/// Waits until readiness tells this.
async fn tells(ready: &kubewright::Readiness, line: &str) {
    while !ready.report().contains(line) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What an address answers to a request for its metrics.
async fn metrics(address: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn readiness_and_metrics_tell_of_the_lease_and_who_leads() {
    let server = Server::new(1);
    let candidate = |who: &str| {
        let election = LeaderElection::new("op").identity(who).timing(TIMING);
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let manager = Manager::new("op", server.client()).leader_election(election);
        let manager = manager.metrics_address(Some(&address));
        (address, manager.readiness(), tokio::spawn(manager.run(std::future::pending())))
    };
    let (leaders, leader, first) = candidate("a");
    tells(&leader, "[+]lease op: leading\n").await;
    let (standbys, standby, second) = candidate("b");
    tells(&standby, "[+]lease op: standing by\n").await;
    assert!(leader.is_ready() && standby.is_ready());
    assert!(metrics(&leaders).await.contains("leader_election_master_status{name=\"op\"} 1\n"));
    assert!(metrics(&standbys).await.contains("leader_election_master_status{name=\"op\"} 0\n"));
    server.silent.send_replace(true);
    tells(&leader, "[-]lease op: the API server does not answer\n").await;
    assert!(!leader.is_ready());
    first.abort();
    second.abort();
}
