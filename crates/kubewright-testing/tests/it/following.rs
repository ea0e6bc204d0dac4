//! What an operator follows while the cluster changes around it: namespaces that come and go, kinds that are not there.

use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kubewright::cache::{Cached, Namespaces, Scope, Select};
use kubewright::{
    Action, Context, Controller, Error, External, Key, Kind, Manager, RawReconciler, Readiness, Reconciler,
    Trigger, View, owners,
};
use kubewright_testing::{BoxError, TestCluster, eventually};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::mapper::{definition, widget};

type TestResult = Result<(), BoxError>;
type Heard = mpsc::UnboundedReceiver<String>;

/// Tells which objects it is called for, and which it is told are gone.
#[derive(Clone)]
struct Tells(mpsc::UnboundedSender<String>);

impl Tells {
    fn new() -> (Tells, Heard) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Tells(sender), receiver)
    }
}

impl Reconciler for Tells {
    type Object = ConfigMap;

    async fn reconcile(&self, map: Arc<ConfigMap>, cx: &Context) -> kubewright::Result<Action> {
        let others = cx.get::<Secret>(("elsewhere", "s")).await;
        assert!(matches!(others, Err(Error::NotFollowed { .. })), "{others:?}");
        let seen = cx.list::<ConfigMap>().await?.len();
        let data = map.data.as_ref().and_then(|data| data.get("k")).cloned().unwrap_or_default();
        let _ = self.0.send(format!("{} {data} of {seen}", cx.key()));
        // A timer that must not survive its namespace.
        Ok(Action::after(std::time::Duration::from_secs(3600)))
    }

    async fn deleted(&self, key: &Key, _: &Context) -> kubewright::Result<Action> {
        let _ = self.0.send(format!("{key} is gone"));
        Ok(Action::done())
    }
}

impl RawReconciler for Tells {
    async fn reconcile(&self, object: Arc<Cached>, _: &Context) -> kubewright::Result<Action> {
        let _ = self.0.send(object.key().to_string());
        Ok(Action::done())
    }

    async fn deleted(&self, key: &Key, _: &Context) -> kubewright::Result<Action> {
        let _ = self.0.send(format!("{key} is gone"));
        Ok(Action::done())
    }
}

struct Running {
    _stop: oneshot::Sender<()>,
    readiness: Readiness,
}

fn run(manager: Manager) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let readiness = manager.readiness();
    tokio::spawn(manager.run(stopped.map(drop)));
    Running { _stop: stop, readiness }
}

fn map(data: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"k": data}})).unwrap()
}

#[tokio::test]
async fn namespaces_are_followed_and_left_while_the_manager_runs() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let post = PostParams::default();
    let mut apis: Vec<Api<ConfigMap>> = Vec::new();
    for hint in ["a", "b", "c"] {
        let namespace = cluster.namespace(hint).await?;
        apis.push(Api::default_namespaced(namespace.client()));
    }
    let [a, b, c] = &*apis else { return Err("three namespaces".into()) };
    for api in &apis {
        api.create(&post, &map("1")).await?;
    }
    let (tells, mut heard) = Tells::new();
    let namespaces = Namespaces::of(["a-0", "b-1"]);
    let manager = Manager::new("several", cluster.client())
        .namespaces(&namespaces)
        .controller(Controller::new(tells).reads::<Secret>());
    let cache = manager.cache();
    let running = run(manager);
    let mut first = [heard.recv().await.ok_or("a")?, heard.recv().await.ok_or("b")?];
    first.sort();
    assert_eq!(first, ["a-0/m 1 of 2", "b-1/m 1 of 2"]);

    namespaces.add("c-2");
    assert_eq!(heard.recv().await.ok_or("c")?, "c-2/m 1 of 3");
    assert!(running.readiness.is_ready());

    namespaces.remove("a-0");
    let maps = || cache.informers().into_iter().find(|informer| *informer.kind() == Kind::of::<ConfigMap>());
    eventually!(cluster, "its objects leave the cache", maps().is_some_and(|maps| maps.stats().objects == 2));
    a.replace("m", &post, &map("2")).await?;
    a.delete("m", &DeleteParams::default()).await?;
    b.replace("m", &post, &map("3")).await?;
    // Nothing was told of the namespace that was left, least of all that its objects are gone.
    assert_eq!(heard.recv().await.ok_or("b")?, "b-1/m 3 of 2");

    // Back again, it is listed anew.
    a.create(&post, &map("4")).await?;
    namespaces.set(["a-0"]);
    assert_eq!(heard.recv().await.ok_or("a")?, "a-0/m 4 of 1");
    c.delete("m", &DeleteParams::default()).await?;
    a.delete("m", &DeleteParams::default()).await?;
    assert_eq!(heard.recv().await.ok_or("a")?, "a-0/m is gone");
    namespaces.remove("a-0");
    eventually!(cluster, "nothing is followed", maps().is_some_and(|maps| maps.stats().objects == 0));
    assert!(running.readiness.is_ready());
    Ok(())
}

fn widgets() -> Kind {
    Kind {
        group: "example.com".into(),
        version: "v1".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
        namespaced: true,
    }
}

#[tokio::test]
async fn a_kind_that_is_missing_is_waited_for_and_holds_nobody_else_up() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let (waits, mut of_widgets) = Tells::new();
    let (works, mut of_maps) = Tells::new();
    let manager = Manager::new("patient", cluster.client())
        .namespaces(&Namespaces::of(["default"]))
        .follow_definitions()
        .controller(Controller::raw(&widgets(), waits))
        .controller(Controller::new(works).reads::<Secret>());
    let cache = manager.cache();
    let running = run(manager);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    maps.create(&PostParams::default(), &map("1")).await?;
    assert_eq!(of_maps.recv().await.ok_or("a map")?, "default/m 1 of 1");
    let missing = "[-]cache widgets.example.com: Widget of example.com/v1 is not served: there is no group \"example.com\"";
    eventually!(cluster, "readiness names the kind", running.readiness.report().contains(missing));
    assert!(!running.readiness.is_ready());

    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let object = widget();
    let api = cache.mapper().api(&cluster.client(), &widgets(), Some("default"));
    // It comes, goes and comes again; the informer starts and stops with it.
    for _ in 0..2 {
        definitions.create(&PostParams::default(), &definition("widgets", "Widget", &["v1"])).await?;
        eventually!(cluster, "the kind is served", api.create(&PostParams::default(), &object).await.is_ok());
        assert_eq!(of_widgets.recv().await.ok_or("a widget")?, "default/w");
        eventually!(cluster, "the operator is ready", running.readiness.is_ready());
        definitions.delete("widgets.example.com", &DeleteParams::default()).await?;
        assert_eq!(of_widgets.recv().await.ok_or("its end")?, "default/w is gone");
        eventually!(cluster, "readiness names the kind again", running.readiness.report().contains(missing));
    }
    maps.replace("m", &PostParams::default(), &map("2")).await?;
    assert_eq!(of_maps.recv().await.ok_or("a map")?, "default/m 2 of 1");
    Ok(())
}

/// Reads a kind that may not be there.
struct Optional(mpsc::UnboundedSender<String>);

impl Reconciler for Optional {
    type Object = ConfigMap;

    async fn reconcile(&self, _: Arc<ConfigMap>, cx: &Context) -> kubewright::Result<Action> {
        let error = cx.mapper().kind("example.com", "Widget").await.unwrap_err();
        let _ = self.0.send(Error::from(error).chain());
        Ok(Action::done())
    }
}

#[tokio::test]
async fn a_reconciler_can_ask_whether_a_kind_is_served() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let manager = Manager::new("asks", cluster.client()).controller(Controller::new(Optional(told)));
    let _running = run(manager);
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map("1")).await?;
    let told = heard.recv().await.ok_or("an answer")?;
    assert!(told.starts_with("Widget in group \"example.com\" is not served: there is no group"), "{told}");
    Ok(())
}

/// A kind whose definition comes and goes.
#[derive(kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug)]
#[kube(group = "example.com", version = "v1", kind = "Widget", namespaced)]
struct WidgetSpec {}

/// Reads Widgets.
struct Counts(mpsc::UnboundedSender<String>);

impl Reconciler for Counts {
    type Object = ConfigMap;

    async fn reconcile(&self, map: Arc<ConfigMap>, cx: &Context) -> kubewright::Result<Action> {
        let data = map.data.as_ref().and_then(|data| data.get("k")).cloned().unwrap_or_default();
        let seen = match cx.list::<Widget>().await {
            Ok(widgets) => widgets.len().to_string(),
            Err(error) => error.chain(),
        };
        let _ = self.0.send(format!("{data}: {seen}"));
        Ok(Action::done())
    }
}

#[tokio::test]
async fn a_read_of_a_kind_that_is_served_no_more_fails_at_once_and_says_so() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    definitions.create(&PostParams::default(), &definition("widgets", "Widget", &["v1"])).await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let manager = Manager::new("counts", cluster.client())
        .namespaces(&Namespaces::of(["default"]))
        .controller(Controller::new(Counts(told)).reads::<Widget>());
    let cache = manager.cache();
    let _running = run(manager);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    maps.create(&PostParams::default(), &map("1")).await?;
    assert_eq!(heard.recv().await.ok_or("a count")?, "1: 0");
    definitions.delete("widgets.example.com", &DeleteParams::default()).await?;
    let missing = || cache.informers().iter().any(|informer| informer.missing().is_some());
    eventually!(cluster, "the kind is missed", missing());
    maps.replace("m", &PostParams::default(), &map("2")).await?;
    let told = heard.recv().await.ok_or("an error")?;
    assert!(told.starts_with("2: Widget of example.com/v1 is not served: there is no group"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_kind_learnt_of_at_run_time_triggers_a_controller() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let (tells, mut heard) = Tells::new();
    let external = External::new();
    let manager = Manager::new("learns", cluster.client())
        .namespaces(&Namespaces::of(["default"]))
        .controller(Controller::new(tells).reads::<Secret>().external(&external));
    let cache = manager.cache();
    let _running = run(manager);
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map("1")).await?;
    assert_eq!(heard.recv().await.ok_or("a map")?, "default/m 1 of 1");
    // Only now it turns out that Widgets concern the map.
    cluster.apply(&definition_text()).await?;
    let kind = cache.mapper().kind("example.com", "Widget").await?.kind;
    let informer = cache.informer(&kind, &Scope::Namespace("default".into()));
    let _subscription =
        informer.subscribe(move |_| external.trigger(Key::new("default", "m"), "a widget changed"));
    let api = cache.mapper().api(&cluster.client(), &kind, Some("default"));
    api.create(&PostParams::default(), &widget()).await?;
    assert_eq!(heard.recv().await.ok_or("a map")?, "default/m 1 of 1");
    Ok(())
}

fn definition_text() -> String {
    let mut text = serde_json::to_value(definition("widgets", "Widget", &["v1"])).unwrap();
    text["apiVersion"] = json!("apiextensions.k8s.io/v1");
    text["kind"] = json!("CustomResourceDefinition");
    text.to_string()
}

#[tokio::test]
async fn an_owner_that_does_not_control_is_reached_by_a_function() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let (tells, mut heard) = Tells::new();
    let every_owner = |secret: &Cached, _: &View| {
        let namespace = secret.key().namespace().unwrap_or_default();
        let of_maps = secret.owners().iter().filter(|owner| &*owner.kind == "ConfigMap");
        Ok(of_maps.map(|owner| Key::new(namespace, &owner.name)).collect())
    };
    let controller = Controller::new(tells).trigger(Trigger::mapped_raw(Kind::of::<Secret>(), every_owner));
    let manager = Manager::new("owners", cluster.client())
        .namespaces(&Namespaces::of(["default"]))
        .controller(controller);
    let _running = run(manager);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let owner = maps.create(&PostParams::default(), &map("1")).await?;
    assert_eq!(heard.recv().await.ok_or("a map")?, "default/m 1 of 1");
    let mut secret: Secret = serde_json::from_value(json!({"metadata": {"name": "s"}}))?;
    secret.metadata.namespace = owner.metadata.namespace.clone();
    owners::set_owner(&owner, &mut secret)?;
    Api::<Secret>::default_namespaced(cluster.client()).create(&PostParams::default(), &secret).await?;
    assert_eq!(heard.recv().await.ok_or("a map")?, "default/m 1 of 1");
    Ok(())
}

#[tokio::test]
async fn a_kind_may_be_followed_in_namespaces_of_its_own() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let other = cluster.namespace("other").await?;
    let (tells, mut heard) = Tells::new();
    // It fails unless Secrets elsewhere can't be read.
    let manager = Manager::new("narrow", cluster.client())
        .select::<Secret>(Select::all().namespaces(&Namespaces::of(["default"])))
        .controller(Controller::new(tells).reads::<Secret>());
    let cache = manager.cache();
    let _running = run(manager);
    Api::<ConfigMap>::default_namespaced(other.client()).create(&PostParams::default(), &map("1")).await?;
    while !heard.recv().await.ok_or("a map")?.starts_with("other-0/m 1") {}
    let scopes =
        cache.informers().into_iter().map(|one| (one.kind().plural.clone(), one.scope().to_string()));
    let scopes: std::collections::BTreeMap<String, String> = scopes.collect();
    assert_eq!((&*scopes["secrets"], &*scopes["configmaps"]), ("namespaces default", "all namespaces"));
    Ok(())
}
