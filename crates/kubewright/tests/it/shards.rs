//! Replicas that share the objects.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kubewright::{Action, Context, Controller, LeaseTiming, Manager, Reconciler, Result, Sharding};
use tokio::sync::{mpsc, oneshot};

use crate::leases::Server;

struct Tells(u8, mpsc::UnboundedSender<(u8, String)>);

impl Reconciler for Tells {
    type Object = Namespace;

    async fn reconcile(&self, namespace: Arc<Namespace>, _: &Context) -> Result<Action> {
        self.1.send((self.0, namespace.metadata.name.clone().unwrap_or_default())).unwrap();
        Ok(Action::done())
    }
}

const TIMING: LeaseTiming = LeaseTiming {
    lease: Duration::from_secs(3),
    renew_deadline: Duration::from_secs(2),
    retry: Duration::from_millis(50),
};

type Replica = (oneshot::Sender<()>, tokio::task::JoinHandle<Result>);

fn replica(server: &Server, who: u8, told: &mpsc::UnboundedSender<(u8, String)>) -> Replica {
    let (stop, stopped) = oneshot::channel::<()>();
    let manager = Manager::new("op", server.client())
        .sharding(Sharding::new("op").timing(TIMING))
        .controller(Controller::new(Tells(who, told.clone())));
    let running = tokio::spawn(manager.run(async {
        let _ = stopped.await;
    }));
    (stop, running)
}

/// What one replica is heard to reconcile until there are so many.
async fn hear(told: &mut mpsc::UnboundedReceiver<(u8, String)>, who: u8, count: usize) -> BTreeSet<String> {
    let mut heard = BTreeSet::new();
    while heard.len() < count {
        let (by, name) = told.recv().await.unwrap();
        if by == who {
            heard.insert(name);
        }
    }
    heard
}

#[tokio::test]
async fn a_replica_that_joins_gets_its_share_and_what_it_had_goes_back_when_it_leaves() {
    let server = Server::new(200);
    let (told, mut heard) = mpsc::unbounded_channel();
    let first = replica(&server, 1, &told);
    assert_eq!(hear(&mut heard, 1, 200).await.len(), 200);
    let second = replica(&server, 2, &told);
    // About half of the objects; which ones follows from their uids.
    let theirs = hear(&mut heard, 2, 60).await;
    second.0.send(()).unwrap();
    second.1.await.unwrap().unwrap();
    let mut back = BTreeSet::new();
    while !back.is_superset(&theirs) {
        let (by, name) = heard.recv().await.unwrap();
        if by == 1 {
            back.insert(name);
        }
    }
    // What never moved is not reconciled again.
    assert!(back.len() < 150, "{}", back.len());
    first.0.send(()).unwrap();
    first.1.await.unwrap().unwrap();
    let leases = server.lease("op-shards");
    assert_eq!(leases["metadata"]["labels"]["kubewright.io/shards"], "op");
}

#[tokio::test]
async fn sharing_and_electing_exclude_each_other() {
    let server = Server::new(0);
    let manager = Manager::new("op", server.client())
        .sharding(Sharding::new("op"))
        .leader_election(kubewright::LeaderElection::new("op"));
    let error = manager.run(std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("either share the objects or elect"), "{error}");
}
