//! Writes of a process whose Lease may be another's: whoever kept a client, of whichever cluster, sends nothing.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kubewright::{
    Action, Cluster, Context, Controller, Error, LeaderElection, LeaseTiming, Manager, Reconciler, Result,
    Runnable, Running, Sharding, Uses, Verb,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::leases::Server;

const TIMING: LeaseTiming = LeaseTiming {
    lease: Duration::from_millis(3000),
    renew_deadline: Duration::from_millis(1000),
    retry: Duration::from_millis(50),
};

/// What code that works under the Lease tells the test.
enum Told {
    /// The clients that it has, and of whom.
    Has(String, kube::Client),
    /// It was cancelled.
    Dropped,
}

type Tells = mpsc::UnboundedSender<Told>;

/// Tells of whoever holds it when they are cancelled.
struct UntilDropped(Tells);

impl Drop for UntilDropped {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(Told::Dropped);
    }
}

/// Gives its clients away and works until it is cancelled, or not at all.
struct GivesAway {
    told: Tells,
    waits: bool,
}

impl Reconciler for GivesAway {
    type Object = Namespace;

    async fn reconcile(&self, _: Arc<Namespace>, cx: &Context) -> Result<Action> {
        let _dropped = UntilDropped(self.told.clone());
        let _ = self.told.send(Told::Has("a controller".into(), cx.client()));
        if self.waits {
            let there = cx.cluster("edge")?.client();
            let _ = self.told.send(Told::Has("a controller, elsewhere".into(), there));
            std::future::pending::<()>().await;
        }
        Ok(Action::done())
    }
}

fn writes() -> Uses {
    Uses::new().writes::<ConfigMap>([Verb::Create])
}

/// A controller and a runnable on two clusters, each of which gives its clients away.
fn manager(home: &Server, edge: &Server, told: &Tells) -> Manager {
    let controller = Controller::new(GivesAway { told: told.clone(), waits: true });
    let controller = controller.writes::<ConfigMap>([Verb::Create]).uses_in("edge", writes());
    let told = told.clone();
    let runnable = Runnable::new("keeper", move |running: Running| {
        let told = told.clone();
        async move {
            let _dropped = UntilDropped(told.clone());
            let (here, there) = (running.access(), running.access().cluster("edge")?);
            let _ = told.send(Told::Has("a runnable".into(), here.client()));
            let _ = told.send(Told::Has("a runnable, elsewhere".into(), there.client()));
            std::future::pending().await
        }
    });
    Manager::new("op", home.client())
        .cluster(Cluster::new("edge", edge.client()))
        .controller(controller)
        .runnable(runnable.uses(writes()).uses_in("edge", writes()))
}

async fn write(client: &kube::Client) -> Result<ConfigMap> {
    let mut map = ConfigMap::default();
    map.metadata.name = Some("c".into());
    Api::namespaced(client.clone(), "team").create(&Default::default(), &map).await.map_err(Error::from)
}

/// Nobody who kept a client gets a write through once the Lease is lost.
async fn is_fenced(agree: impl FnOnce(Manager) -> Manager) {
    let (home, edge) = (Server::new(1), Server::new(0));
    let (told, mut hear) = mpsc::unbounded_channel();
    let running = tokio::spawn(agree(manager(&home, &edge, &told)).run(std::future::pending()));
    let mut kept = Vec::new();
    while kept.len() < 4 {
        if let Told::Has(who, client) = hear.recv().await.unwrap() {
            write(&client).await.unwrap_or_else(|error| panic!("{who}: {error}"));
            kept.push((who, client));
        }
    }
    home.silent.send_replace(true);
    for _ in 0..2 {
        while !matches!(hear.recv().await.unwrap(), Told::Dropped) {}
    }
    for (who, client) in &kept {
        let refused = write(client).await;
        assert!(matches!(refused, Err(Error::Fenced(_))), "{who}: {refused:?}");
    }
    assert_eq!((*home.writes.borrow(), *edge.writes.borrow()), (2, 2), "nothing else was sent");
    running.abort();
}

#[tokio::test]
async fn whoever_kept_a_client_of_any_cluster_writes_nothing_once_the_lease_is_lost() {
    is_fenced(|manager| manager.leader_election(LeaderElection::new("op").timing(TIMING))).await;
}

#[tokio::test]
async fn the_same_where_replicas_share_the_objects() {
    is_fenced(|manager| manager.sharding(Sharding::new("op").timing(TIMING))).await;
}

/// A manager that leads and whose controller is done, with the controller's client.
async fn leads(server: &Server) -> (kube::Client, oneshot::Sender<()>, JoinHandle<Result>) {
    let (told, mut hear) = mpsc::unbounded_channel();
    let controller = Controller::new(GivesAway { told, waits: false }).writes::<ConfigMap>([Verb::Create]);
    let (stop, stopped) = oneshot::channel::<()>();
    let manager = Manager::new("op", server.client())
        .leader_election(LeaderElection::new("op").identity("a").timing(TIMING))
        .controller(controller);
    let running = tokio::spawn(manager.run(async {
        let _ = stopped.await;
    }));
    loop {
        if let Told::Has(_, client) = hear.recv().await.unwrap() {
            return (client, stop, running);
        }
    }
}

#[tokio::test]
async fn a_write_that_is_never_answered_ends_with_the_lease_which_is_not_given_back_before() {
    let server = Server::new(1);
    server.stuck.send_replace(true);
    let (client, stop, running) = leads(&server).await;
    let writing = tokio::spawn(async move { write(&client).await });
    server.writes.subscribe().wait_for(|writes| *writes == 1).await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(*server.holders.borrow(), "a", "the write may still arrive");
    let given_up = writing.await.unwrap().unwrap_err();
    assert!(given_up.chain().contains("the lease may have expired"), "{}", given_up.chain());
    assert_eq!(*server.writes.borrow(), 1, "it is not sent again");
}

#[tokio::test]
async fn a_write_that_was_answered_leaves_the_lease_free_to_be_given_back() {
    let server = Server::new(1);
    let (client, stop, running) = leads(&server).await;
    write(&client).await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(*server.holders.borrow(), "");
}
