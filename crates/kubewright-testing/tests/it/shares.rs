//! Replicas that ask the server for their share of the objects only, of servers that know how and of those that don't.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kubewright::cache::{Cache, InformerStats};
use kubewright::{Action, Context, Controller, Key, Kind, LeaseTiming, Manager, Reconciler, Sharding};
use kubewright_testing::{BoxError, TestCluster, eventually};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

type TestResult = Result<(), BoxError>;

const TIMING: LeaseTiming = LeaseTiming {
    lease: Duration::from_secs(5),
    renew_deadline: Duration::from_secs(4),
    retry: Duration::from_millis(50),
};
const OBJECTS: usize = 60;

/// What a server makes of a shard selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    /// It selects.
    Yes,
    /// It takes it for a parameter of somebody else's.
    No,
    /// It answers that there is no such parameter.
    Refuses,
}

fn server(client: kube::Client, knows: Knows) -> kube::Client {
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let client = client.clone();
        async move {
            let uri = request.uri().to_string();
            let without: Vec<&str> =
                uri.split('&').filter(|pair| !pair.starts_with("shardSelector=")).collect();
            let without = without.join("&");
            if without != uri && knows == Knows::Refuses {
                let mut refusal = Response::new(Body::from(
                    br#"{"kind":"Status","code":400,"message":"unknown"}"#.to_vec(),
                ));
                *refusal.status_mut() = StatusCode::BAD_REQUEST;
                return Ok(refusal);
            }
            if knows == Knows::No {
                *request.uri_mut() = without.parse()?;
            }
            Ok::<_, BoxError>(client.send(request).await?)
        }
    });
    kube::Client::new(service, "default")
}

/// Tells which replica is called for what.
struct Tells(u8, mpsc::UnboundedSender<(u8, String)>);

impl Reconciler for Tells {
    type Object = ConfigMap;

    async fn reconcile(&self, map: Arc<ConfigMap>, cx: &Context) -> kubewright::Result<Action> {
        // What is worked on is there to be read, and so is what is no object of the share's kind.
        assert!(cx.get::<ConfigMap>(cx.key()).await?.is_some());
        assert_eq!(cx.list::<Secret>().await?.len(), 1);
        let data = map.data.as_ref().and_then(|data| data.get("k")).cloned().unwrap_or_default();
        let _ = self.1.send((self.0, format!("{} {data}", cx.key().name())));
        Ok(Action::done())
    }

    async fn deleted(&self, key: &Key, _: &Context) -> kubewright::Result<Action> {
        let _ = self.1.send((self.0, format!("{} is gone", key.name())));
        Ok(Action::done())
    }
}

struct Replica {
    cache: Cache,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<kubewright::Result>,
}

impl Replica {
    fn start(client: kube::Client, who: u8, told: &mpsc::UnboundedSender<(u8, String)>) -> Replica {
        Replica::sharing(client, who, told, Sharding::new("op").timing(TIMING).shard_selector())
    }

    fn sharing(
        client: kube::Client,
        who: u8,
        told: &mpsc::UnboundedSender<(u8, String)>,
        sharding: Sharding,
    ) -> Replica {
        let manager = Manager::new("op", client).namespace(Some("default")).sharding(sharding).controller(
            Controller::new(Tells(who, told.clone())).watches::<Secret>(|_, _| {
                // Whosever they are, and whether or not they are there.
                Ok((0..OBJECTS).map(|number| Key::new("default", &format!("m{number}"))).collect())
            }),
        );
        let cache = manager.cache();
        let (stop, stopped) = oneshot::channel::<()>();
        Replica { cache, stop, running: tokio::spawn(manager.run(stopped.map(drop))) }
    }

    fn stats(&self) -> InformerStats {
        let informers = self.cache.informers();
        let maps = informers.iter().find(|informer| *informer.kind() == Kind::of::<ConfigMap>());
        maps.map(|informer| informer.stats()).unwrap_or_default()
    }
}

/// What replicas are heard to do, until they were heard to do so much.
async fn hear(
    heard: &mut mpsc::UnboundedReceiver<(u8, String)>,
    mut wanted: BTreeSet<String>,
) -> Vec<(u8, String)> {
    let mut all = Vec::new();
    while !wanted.is_empty() {
        let (who, what) = heard.recv().await.unwrap();
        wanted.remove(&what);
        all.push((who, what));
    }
    all
}

/// The objects that are shared, each with this value, beside a Secret that concerns all of them.
async fn objects(cluster: &TestCluster, value: &str) -> Result<Api<ConfigMap>, BoxError> {
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let post = PostParams::default();
    let secret = serde_json::from_value(json!({"metadata": {"name": "s"}}))?;
    Api::<Secret>::default_namespaced(cluster.client()).create(&post, &secret).await?;
    for number in 0..OBJECTS {
        let map = json!({"metadata": {"name": format!("m{number}")}, "data": {"k": value}});
        maps.create(&post, &serde_json::from_value(map)?).await?;
    }
    Ok(maps)
}

async fn each_holds_and_reconciles_its_share(knows: Knows) -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let maps = objects(&cluster, "1").await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let client = server(cluster.client(), knows);
    let first = Replica::start(client.clone(), 1, &told);
    let everything = || (0..OBJECTS).map(|number| format!("m{number} 1")).collect::<BTreeSet<_>>();
    hear(&mut heard, everything()).await;
    assert_eq!(first.stats().objects, OBJECTS);

    let second = Replica::start(client, 2, &told);
    eventually!(cluster, "each holds its own share", {
        let (one, two) = (first.stats().objects, second.stats().objects);
        one > 0 && two > 0 && one + two == OBJECTS
    });
    let moved = second.stats().objects;
    let mut theirs = BTreeSet::new();
    while theirs.len() < moved {
        let (who, what) = heard.recv().await.ok_or("the second's share")?;
        // The first may have worked on some of them twice before.
        if who == 2 {
            theirs.insert(what);
        }
    }
    // An event reaches the owner alone, and so does an end: to move is not to be deleted.
    for number in 0..OBJECTS {
        let patch = Patch::Merge(json!({"data": {"k": "2"}}));
        maps.patch(&format!("m{number}"), &PatchParams::default(), &patch).await?;
    }
    let after = hear(&mut heard, (0..OBJECTS).map(|number| format!("m{number} 2")).collect()).await;
    let wrong = |(who, what): &&(u8, String)| theirs.contains(&what.replace(" 2", " 1")) != (*who == 2);
    assert_eq!(after.iter().find(wrong), None);
    for number in 0..10 {
        maps.delete(&format!("m{number}"), &DeleteParams::default()).await?;
    }
    let gone = hear(&mut heard, (0..10).map(|number| format!("m{number} is gone")).collect()).await;
    assert_eq!(gone.len(), 10, "{gone:?}");
    assert!(gone.iter().all(|(who, what)| theirs.contains(&what.replace(" is gone", " 1")) == (*who == 2)));
    // What concerns everything concerns each owner's share; what is another's, or gone for long, is not told as deleted.
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"changed": "yes"}}}));
    secrets.patch("s", &PatchParams::default(), &patch).await?;
    let again = hear(&mut heard, (10..OBJECTS).map(|number| format!("m{number} 2")).collect()).await;
    assert_eq!(again.iter().find(wrong), None);
    let left_out = first.stats().left_out + second.stats().left_out;
    assert_eq!(left_out > 0, knows != Knows::Yes, "{left_out}");

    second.stop.send(()).map_err(|()| "it stopped by itself")?;
    second.running.await??;
    eventually!(cluster, "the first holds all there is", first.stats().objects == OBJECTS - 10);
    let back = theirs.iter().filter_map(|what| what.split(' ').next()?.strip_prefix('m')?.parse().ok());
    let back: BTreeSet<String> =
        back.filter(|number: &usize| *number >= 10).map(|number| format!("m{number} 2")).collect();
    let heard = hear(&mut heard, back.clone()).await;
    assert!(heard.iter().all(|(who, what)| *who == 1 && back.contains(what)), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_selects_by_shard_sends_each_replica_its_own() -> TestResult {
    each_holds_and_reconciles_its_share(Knows::Yes).await
}

#[tokio::test]
async fn of_a_server_that_does_not_know_shards_the_rest_is_left_out() -> TestResult {
    each_holds_and_reconciles_its_share(Knows::No).await
}

#[tokio::test]
async fn a_server_that_refuses_shard_selectors_is_asked_without() -> TestResult {
    each_holds_and_reconciles_its_share(Knows::Refuses).await
}

#[tokio::test]
async fn the_end_of_an_object_is_told_to_the_replica_that_owned_it_alone() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let maps = objects(&cluster, "0").await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let replica = |who| Replica::sharing(cluster.client(), who, &told, Sharding::new("op").timing(TIMING));
    let _first = replica(1);
    hear(&mut heard, (0..OBJECTS).map(|number| format!("m{number} 0")).collect()).await;
    let _second = replica(2);
    // Whose each is shows in who hears of a change, once two changes in a row were heard by the same.
    let mut owners = BTreeMap::new();
    for round in 1.. {
        for number in 0..OBJECTS {
            let patch = Patch::Merge(json!({"data": {"k": round.to_string()}}));
            maps.patch(&format!("m{number}"), &PatchParams::default(), &patch).await?;
        }
        let wanted = (0..OBJECTS).map(|number| format!("m{number} {round}")).collect();
        let changes = hear(&mut heard, wanted).await.into_iter();
        let now: BTreeMap<String, u8> = changes
            .filter_map(|(who, what)| Some((what.strip_suffix(&format!(" {round}"))?.to_owned(), who)))
            .collect();
        if now == owners && now.values().any(|who| *who == 2) {
            break;
        }
        owners = now;
    }
    for number in 0..10 {
        maps.delete(&format!("m{number}"), &DeleteParams::default()).await?;
    }
    for number in 10..OBJECTS {
        let patch = Patch::Merge(json!({"data": {"k": "last"}}));
        maps.patch(&format!("m{number}"), &PatchParams::default(), &patch).await?;
    }
    // Each replica is told of the ends before it is of the last changes.
    let mut wanted: BTreeSet<String> = (0..10).map(|number| format!("m{number} is gone")).collect();
    wanted.extend((10..OBJECTS).map(|number| format!("m{number} last")));
    let all = hear(&mut heard, wanted).await.into_iter();
    let gone: Vec<(String, u8)> =
        all.filter_map(|(who, what)| Some((what.strip_suffix(" is gone")?.to_owned(), who))).collect();
    assert_eq!(gone.len(), 10, "{gone:?}");
    assert!(gone.iter().all(|(name, who)| owners[name] == *who), "{gone:?} of {owners:?}");
    Ok(())
}
