//! What runs beside controllers, on one replica or on all.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kubewright::{
    Action, Cluster, Context, Controller, LeaderElection, LeaseTiming, Manager, Operator, Permit, Reconciler,
    Result, Runnable, Running, Sharding, Uses, Verb,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::canned::{Answer, Canned};
use crate::leases::Server;

/// Long enough for a machine that is busy with something else.
const TIMING: LeaseTiming = LeaseTiming {
    lease: Duration::from_secs(4),
    renew_deadline: Duration::from_secs(3),
    retry: Duration::from_millis(50),
};

type Told = mpsc::UnboundedSender<String>;

/// Tells when it begins, when it is told to stop, and when it is dropped before that.
fn tells(who: &'static str, told: &Told) -> Runnable {
    let told = told.clone();
    Runnable::new("sweeper", move |running: Running| {
        let mut tells = Tells { who, told: told.clone(), stopped: false };
        async move {
            let objects = running.access().list::<Namespace>().may_be_stale().await?.len();
            tells.tell(&format!("begins with {objects}"));
            running.stopped().await;
            tells.stopped = true;
            tells.tell("stops");
            Ok(())
        }
    })
    .uses(Uses::new().reads::<Namespace>())
}

struct Tells {
    who: &'static str,
    told: Told,
    stopped: bool,
}

impl Tells {
    fn tell(&self, what: &str) {
        // The test may be over.
        let _ = self.told.send(format!("{} {what}", self.who));
    }
}

impl Drop for Tells {
    fn drop(&mut self) {
        if !self.stopped {
            self.tell("is dropped");
        }
    }
}

fn start(manager: Manager) -> (oneshot::Sender<()>, JoinHandle<Result>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(manager.run(async {
        let _ = stopped.await;
    }));
    (stop, running)
}

fn candidate(server: &Server, who: &str) -> Manager {
    Manager::new("op", server.client())
        .leader_election(LeaderElection::new("op").identity(who).timing(TIMING))
}

#[tokio::test]
async fn a_runnable_works_where_the_lease_is_and_anew_when_it_is_back() {
    let server = Server::new(2);
    let (told, mut hear) = mpsc::unbounded_channel();
    let first = candidate(&server, "a").runnable(tells("a", &told));
    let ready = first.readiness();
    let first = start(first);
    assert_eq!(hear.recv().await.unwrap(), "a begins with 2", "its caches are synced");
    assert!(ready.report().contains("[+]runnable sweeper runs\n"), "{}", ready.report());
    let second = candidate(&server, "b").runnable(tells("b", &told));
    let standby = second.readiness();
    let second = start(second);
    server.lists.subscribe().wait_for(|lists| *lists == 2).await.unwrap();
    assert!(standby.report().contains("[+]runnable sweeper stands by\n"), "{}", standby.report());
    first.0.send(()).unwrap();
    first.1.await.unwrap().unwrap();
    let mut heard = Vec::new();
    for _ in 0..2 {
        heard.push(hear.recv().await.unwrap());
    }
    assert_eq!(heard, ["a stops", "b begins with 2"], "never both");
    server.silent.send_replace(true);
    assert_eq!(hear.recv().await.unwrap(), "b is dropped");
    server.silent.send_replace(false);
    assert_eq!(hear.recv().await.unwrap(), "b begins with 2");
    second.0.send(()).unwrap();
    second.1.await.unwrap().unwrap();
}

#[tokio::test]
async fn of_replicas_that_share_the_objects_one_runs_it() {
    let server = Server::new(0);
    let (told, mut hear) = mpsc::unbounded_channel();
    let sharing = |who: &'static str| {
        let sharding = Sharding::new("op").timing(TIMING);
        let everywhere = Runnable::new("everywhere", {
            let told = told.clone();
            move |running: Running| {
                let _ = told.send(format!("{who} is there"));
                async move {
                    running.stopped().await;
                    Ok(())
                }
            }
        });
        let manager = Manager::new("op", server.client()).sharding(sharding).runnable(tells(who, &told));
        start(manager.runnable(everywhere.on_every_replica()))
    };
    let running = [sharing("a"), sharing("b")];
    let mut heard = Vec::new();
    let has = |heard: &[String], what: &str| heard.iter().filter(|heard| heard.contains(what)).count();
    while has(&heard, "is there") < 2 || has(&heard, "begins") == 0 {
        heard.push(hear.recv().await.unwrap());
    }
    for (stop, running) in running {
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
    }
    drop(told);
    while let Some(more) = hear.recv().await {
        heard.push(more);
    }
    // Whoever takes it over begins after the other has let go.
    let mut holder = None;
    for what in heard.iter().filter(|heard| !heard.contains("is there")) {
        match what.contains("begins") {
            true => assert_eq!(holder.replace(what), None, "{heard:?}"),
            false => holder = None,
        }
    }
}

#[tokio::test]
async fn a_manager_stops_when_a_runnable_fails_and_names_it() {
    let run = |runnable: Runnable| {
        let canned = Canned::new([]);
        Manager::new("op", canned.client()).runnable(runnable).run(std::future::pending())
    };
    let error = run(Runnable::new("poller", |_| async { Ok(()) })).await.unwrap_err();
    assert_eq!(error.chain(), "runnable poller ended unexpectedly");
    let error = run(Runnable::new("poller", |_| async { panic!("a bug") })).await.unwrap_err();
    assert_eq!(error.chain(), "runnable poller failed: panicked: a bug");
    let failing = Runnable::new("poller", |_| async { Err(kubewright::Error::other("no disk")) });
    assert_eq!(run(failing.may_end()).await.unwrap_err().chain(), "runnable poller failed: no disk");
}

#[tokio::test]
async fn a_runnable_with_a_client_of_its_own_sends_through_it() {
    let found = r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"team"}}"#;
    let (shared, own) =
        (Canned::new([]), Canned::new([Answer::body("GET /api/v1/namespaces/team", 200, found)]));
    let asks = Runnable::new("asks", |running| async move {
        let namespaces: kube::Api<Namespace> = kube::Api::all(running.access().client());
        namespaces.get("team").await?;
        Err(kubewright::Error::other("has asked"))
    });
    let asks = asks.uses(Uses::new().permits(Permit::on::<Namespace>([Verb::Get]))).client(own.client());
    let ended = Manager::new("op", shared.client()).runnable(asks).run(std::future::pending()).await;
    assert_eq!(ended.unwrap_err().chain(), "runnable asks failed: has asked");
    assert_eq!(own.sent("").len(), 1);
    assert!(shared.sent("").is_empty());
}

#[tokio::test]
async fn a_runnable_that_may_end_leaves_the_rest_running() {
    let (told, mut hear) = mpsc::unbounded_channel();
    let migration = Runnable::new("migration", |_| async { Ok(()) }).may_end();
    let manager = Manager::new("op", Canned::new([]).client()).runnable(migration);
    let ready = manager.readiness();
    let (stop, running) = start(manager.runnable(Runnable::new("watch", {
        move |running: Running| {
            let (told, ready) = (told.clone(), ready.clone());
            async move {
                while !ready.report().contains("[+]runnable migration is done\n") {
                    tokio::task::yield_now().await;
                }
                told.send(()).unwrap();
                running.stopped().await;
                Ok(())
            }
        }
    })));
    hear.recv().await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

/// Tells whom it reconciles for.
struct Reconciles(&'static str, Told);

impl Reconciler for Reconciles {
    type Object = Namespace;

    async fn reconcile(&self, _: Arc<Namespace>, _: &Context) -> Result<Action> {
        let _ = self.1.send(self.0.into());
        Ok(Action::done())
    }
}

#[tokio::test]
async fn a_controller_of_every_replica_works_while_another_leads() {
    let server = Server::new(1);
    let (told, mut hear) = mpsc::unbounded_channel();
    let leader =
        start(candidate(&server, "a").controller(Controller::new(Reconciles("leads", told.clone()))));
    assert_eq!(hear.recv().await.unwrap(), "leads");
    let everywhere = Controller::new(Reconciles("everywhere", told.clone())).on_every_replica();
    let standby = candidate(&server, "b").controller(Controller::new(Reconciles("stands by", told)));
    let standby = start(standby.controller(everywhere.named("everywhere")));
    assert_eq!(hear.recv().await.unwrap(), "everywhere");
    for (stop, running) in [standby, leader] {
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
    }
    assert!(hear.try_recv().is_err(), "nobody else reconciled");
}

#[test]
fn what_runnables_use_is_in_the_role_of_each_cluster() {
    let uses = Uses::new().reads::<Namespace>().writes::<ConfigMap>([Verb::Create]);
    let runnable = Runnable::new("mirror", |_| async { Ok(()) }).uses(Uses::new().reads::<Namespace>());
    let operator = Operator::new("op").runnable(runnable.uses_in("edge", uses));
    let home = operator.manifests("op-system", []).unwrap();
    assert!(home.contains("namespaces") && !home.contains("configmaps"), "{home}");
    let edge = operator.manifests_of_cluster("edge", "op-system").unwrap();
    assert!(edge.contains("configmaps") && !edge.contains("leases"), "{edge}");
    assert!(operator.manifests_of_cluster("other", "op-system").is_err());
}

#[tokio::test]
async fn following_definitions_of_a_cluster_is_in_its_role_alone() {
    let edge = |cluster: Cluster| {
        let operator = Operator::new("op").cluster(cluster);
        operator.manifests_of_cluster("edge", "op-system").map(|role| (role, operator.manifests("n", [])))
    };
    let client = Server::new(1).client();
    let (there, home) = edge(Cluster::new("edge", client.clone()).follow_definitions()).unwrap();
    assert!(there.contains("customresourcedefinitions") && there.contains("apiservices"), "{there}");
    assert!(!home.unwrap().contains("customresourcedefinitions"));
    assert!(edge(Cluster::new("edge", client)).is_err(), "nothing is declared for it");
}
