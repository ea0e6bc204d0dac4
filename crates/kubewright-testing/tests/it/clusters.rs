//! One operator on two clusters: what an object of one wishes is made in the other, and what becomes of it there is told in
//! the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kubewright::cache::{Memory, Select};
use kubewright::client::Mapper;
use kubewright::{
    Action, Cluster, Context, Controller, Error, Key, Manager, Reconciler, Result, Runnable, Trigger, Uses,
    Verb,
};
use kubewright_testing::{BoxError, TestCluster, eventually};
use serde_json::json;

use crate::mapper::definition;

/// Copies the config maps of the home cluster to the edge, and notes at home what the edge has.
struct Mirror;

impl Reconciler for Mirror {
    type Object = ConfigMap;

    async fn reconcile(&self, map: Arc<ConfigMap>, cx: &Context) -> Result<Action> {
        let Some(wanted) = map.data.as_ref().and_then(|data| data.get("wanted")) else {
            return Ok(Action::never());
        };
        let edge = cx.cluster("edge")?;
        let copies: Api<ConfigMap> = Api::namespaced(edge.client(), "default");
        let copy = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": cx.key().name()},
            "data": {"is": wanted}});
        let apply = PatchParams::apply(cx.field_manager()).force();
        copies.patch(cx.key().name(), &apply, &Patch::Apply(copy)).await?;
        // The cache of the edge includes what was just written there.
        let copy = edge.get::<ConfigMap>(cx.key().clone()).await?.ok_or_else(|| Error::other("no copy"))?;
        let seen = copy.data.as_ref().and_then(|data| data.get("seen")).cloned().unwrap_or_default();
        let home: Api<ConfigMap> = Api::namespaced(cx.client(), "default");
        let status = json!({"metadata": {"annotations": {"seen": seen}}});
        home.patch(cx.key().name(), &PatchParams::default(), &Patch::Merge(status)).await?;
        // Nothing was declared about secrets there.
        let undeclared = edge.client();
        let refused = Api::<Secret>::namespaced(undeclared, "default").get("x").await.map_err(Error::from);
        assert!(matches!(refused, Err(Error::Undeclared(_))), "{refused:?}");
        Ok(Action::done())
    }
}

fn map(name: &str, key: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_one_cluster_makes_one_in_another_and_its_state_flows_back() -> Result<(), BoxError> {
    let home = TestCluster::api_server_only().await?;
    let edge = TestCluster::api_server_only().await?;
    let controller = Controller::new(Mirror)
        .writes::<ConfigMap>([Verb::Patch])
        .uses_in("edge", Uses::new().writes::<ConfigMap>([Verb::Patch]))
        .trigger(Trigger::itself::<ConfigMap>().in_cluster("edge"));
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let manager = Manager::new("mirror", home.client())
        .cluster(Cluster::new("edge", edge.client()))
        .metrics_address(Some(&free))
        .metrics(|out| out.push_str("# TYPE mirrored gauge\nmirrored 1"))
        .controller(controller);
    let ready = manager.readiness();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(manager.run(async {
        let _ = stopped.await;
    }));
    let at_home: Api<ConfigMap> = Api::default_namespaced(home.client());
    let there: Api<ConfigMap> = Api::default_namespaced(edge.client());
    at_home.create(&PostParams::default(), &map("a", "wanted", "blue")).await?;
    eventually!(edge, "the copy", {
        let copy = there.get_opt("a").await?;
        copy.and_then(|copy| copy.data).and_then(|data| data.get("is").cloned()).as_deref() == Some("blue")
    });
    // A change at the edge comes back, though nothing changed at home.
    let seen = json!({"data": {"seen": "by the edge"}});
    there.patch("a", &PatchParams::default(), &Patch::Merge(seen)).await?;
    eventually!(home, "the state of the edge", {
        let annotations = at_home.get("a").await?.metadata.annotations.unwrap_or_default();
        annotations.get("seen").map(String::as_str) == Some("by the edge")
    });
    assert!(ready.report().contains("[+]cache configmaps synced\n"), "{}", ready.report());
    assert!(ready.report().contains("[+]cache configmaps in edge synced\n"), "{}", ready.report());
    let metrics = scrape(&free).await?;
    assert!(
        metrics.contains("kubewright_cache_objects{resource=\"configmaps\",cluster=\"edge\"} 2\n"),
        "{metrics}"
    );
    let revision = metrics.lines().find_map(|line| {
        line.strip_prefix("kubewright_cache_resource_version{resource=\"configmaps\",cluster=\"edge\"} ")
    });
    assert!(
        revision.is_some_and(|revision| revision.parse::<u64>().is_ok_and(|revision| revision > 0)),
        "{metrics}"
    );
    assert!(metrics.contains("method=\"PATCH\",code=\"201\",cluster=\"edge\"}"), "{metrics}");
    assert!(metrics.contains("\n# TYPE mirrored gauge\nmirrored 1\n"), "{metrics}");
    let _ = stop.send(());
    running.await??;
    Ok(())
}

async fn scrape(address: &str) -> Result<String, BoxError> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn a_cluster_that_nothing_is_declared_for_is_refused_by_name() -> Result<(), BoxError> {
    struct Asks(tokio::sync::mpsc::UnboundedSender<String>);
    impl Reconciler for Asks {
        type Object = k8s_openapi::api::core::v1::Namespace;
        async fn reconcile(&self, _: Arc<Self::Object>, cx: &Context) -> Result<Action> {
            let _ = self.0.send(cx.cluster("edge").map_or_else(|error| error.to_string(), |_| String::new()));
            Ok(Action::done())
        }
    }
    let cluster = TestCluster::api_server_only().await?;
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let manager = Manager::new("asks", cluster.client()).controller(Controller::new(Asks(told)));
    let running = tokio::spawn(manager.run(std::future::pending()));
    let error = hear.recv().await.ok_or("it ended")?;
    assert!(error.contains("`.uses_in(\"edge\", Uses::new()..)`"), "{error}");
    running.abort();
    Ok(())
}

/// Gives the mappers of home and edge away.
struct Maps(tokio::sync::mpsc::UnboundedSender<[Mapper; 2]>);

impl Reconciler for Maps {
    type Object = ConfigMap;

    async fn reconcile(&self, _: Arc<ConfigMap>, cx: &Context) -> Result<Action> {
        let _ = self.0.send([cx.mapper().clone(), cx.cluster("edge")?.mapper().clone()]);
        Ok(Action::done())
    }
}

#[tokio::test]
async fn kinds_that_come_and_go_in_another_cluster_are_known_where_definitions_are_followed()
-> Result<(), BoxError> {
    let home = TestCluster::api_server_only().await?;
    let edge = TestCluster::api_server_only().await?;
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let manager = Manager::new("maps", home.client())
        .cluster(Cluster::new("edge", edge.client()).follow_definitions())
        .controller(Controller::new(Maps(told)).uses_in("edge", Uses::new().reads::<Secret>()));
    let ready = manager.readiness();
    let running = tokio::spawn(manager.run(std::future::pending()));
    let at_home: Api<ConfigMap> = Api::default_namespaced(home.client());
    at_home.create(&PostParams::default(), &map("a", "wanted", "blue")).await?;
    let [here, there] = hear.recv().await.ok_or("it ended")?;
    eventually!(home, "it is ready", ready.is_ready());
    let follows = "[+]cache customresourcedefinitions.apiextensions.k8s.io in edge synced\n";
    assert!(ready.report().contains(follows), "{}", ready.report());
    let definitions: Api<CustomResourceDefinition> = Api::all(edge.client());
    definitions.create(&PostParams::default(), &definition("widgets", "Widget", &["v1"])).await?;
    eventually!(edge, "the kind is known", there.resource("widgets").await.is_ok());
    assert!(here.resource("widgets").await.is_err(), "it is the other cluster's");
    // Without following it would be remembered: what is known is not asked for again.
    definitions.delete("widgets.example.com", &DeleteParams::default()).await?;
    eventually!(edge, "the kind is forgotten", there.resource("widgets").await.is_err());
    running.abort();
    Ok(())
}

#[tokio::test]
async fn another_cluster_is_followed_in_namespaces_and_by_selectors_of_its_own() -> Result<(), BoxError> {
    let home = TestCluster::api_server_only().await?;
    let edge = TestCluster::api_server_only().await?;
    let other = edge.namespace("other").await?;
    for (client, name, label) in
        [(edge.client(), "in", "x"), (edge.client(), "unlabelled", "y"), (other.client(), "outside", "x")]
    {
        let mut map = map(name, "k", "v");
        map.metadata.labels = Some(BTreeMap::from([("app".to_owned(), label.to_owned())]));
        Api::<ConfigMap>::default_namespaced(client).create(&PostParams::default(), &map).await?;
    }
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let looks = Runnable::new("looks", move |running| {
        let told = told.clone();
        async move {
            let maps = running.access().cluster("edge")?.list::<ConfigMap>().await?;
            let _ = told.send(maps.iter().map(|map| Key::of(&**map).to_string()).collect::<Vec<_>>());
            running.stopped().await;
            Ok(())
        }
    });
    let chosen = Cluster::new("edge", edge.client())
        .namespace(Some("default"))
        .memory(Memory::default())
        .select::<ConfigMap>(Select::all().labels("app=x")?);
    let looks = looks.uses_in("edge", Uses::new().reads::<ConfigMap>());
    let manager = Manager::new("looks", home.client()).cluster(chosen).runnable(looks);
    let running = tokio::spawn(manager.run(std::future::pending()));
    assert_eq!(hear.recv().await.ok_or("it ended")?, ["default/in"]);
    running.abort();
    Ok(())
}
