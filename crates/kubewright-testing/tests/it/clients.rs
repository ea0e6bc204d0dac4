//! The ways to read and write one object (typed, dynamic, metadata alone), and what the API server warns of.

use std::io;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt as _};
use kubewright::cache::Cached;
use kubewright::client::MergePatch;
use kubewright::{Action, Context, Controller, Kind, Operator, RawReconciler, Reconciler, Verb};
use kubewright_testing::{BoxError, TestCluster};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

type TestResult = Result<(), BoxError>;

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": "x"}}, "data": {"k": "v"}}))
        .unwrap()
}

/// What a reconciler of ConfigMaps does with one of them.
struct Does<F>(F);

impl<F, Fut> Reconciler for Does<F>
where
    F: Fn(Arc<ConfigMap>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = kubewright::Result> + Send,
{
    type Object = ConfigMap;

    async fn reconcile(&self, map: Arc<ConfigMap>, cx: &Context) -> kubewright::Result<Action> {
        (self.0)(map, cx.clone()).await?;
        Ok(Action::done())
    }
}

/// Runs a controller until dropped.
fn run(cluster: &TestCluster, controller: Controller) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(Operator::new("op").controller(controller).run(cluster.client(), stopped.map(drop)));
    stop
}

#[tokio::test]
async fn one_object_is_read_and_written_typed_dynamic_and_as_metadata_alone() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let does = Does(move |map: Arc<ConfigMap>, cx: Context| {
        let told = told.clone();
        async move {
            if map.metadata.annotations.is_some() {
                return Ok(());
            }
            let kind = cx.mapper().kind("", "ConfigMap").await?.kind;
            let dynamic: Api<DynamicObject> = cx.mapper().api(&cx.client(), &kind, Some("default"));
            let annotation = json!({"metadata": {"annotations": {"seen": "yes"}}});
            let whole = dynamic.patch("m", &PatchParams::default(), &Patch::Merge(&annotation)).await?;
            let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::default_namespaced(cx.client());
            let head = metadata.get_metadata("m").await?;
            let label =
                ObjectMeta { labels: Some([("by".into(), "op".into())].into()), ..ObjectMeta::default() };
            let label = label.into_request_partial::<ConfigMap>();
            let patch = Patch::Merge(&label);
            let typed: Api<ConfigMap> = Api::default_namespaced(cx.client());
            let labelled = typed.patch_metadata("m", &PatchParams::default(), &patch).await?;
            // The cache catches up with writes of every form.
            let cached = cx
                .get::<ConfigMap>(("default", "m"))
                .await?
                .ok_or_else(|| kubewright::Error::other("no map"))?;
            let _ = told.send(json!([
                whole.data["data"],
                head.metadata.annotations,
                labelled.metadata.labels,
                cached.metadata.labels,
                cached.data
            ]));
            Ok(())
        }
    });
    let _stop = run(&cluster, Controller::new(does).writes::<ConfigMap>([Verb::Patch]));
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map("m")).await?;
    let labels = json!({"app": "x", "by": "op"});
    assert_eq!(
        heard.recv().await.ok_or("an answer")?,
        json!([{"k": "v"}, {"seen": "yes"}, labels, labels, {"k": "v"}])
    );
    Ok(())
}

#[tokio::test]
async fn what_is_applied_is_made_without_an_owner_and_what_is_no_more_wished_for_goes() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let does = Does(move |map: Arc<ConfigMap>, cx: Context| {
        let told = told.clone();
        async move {
            if map.metadata.name.as_deref() != Some("m") {
                return Ok(());
            }
            let wish = |data: serde_json::Value| -> kubewright::Result<ConfigMap> {
                let metadata = json!({"name": "kept", "namespace": "default"});
                Ok(serde_json::from_value(json!({"metadata": metadata, "data": data}))?)
            };
            let made = cx.apply(&wish(json!({"a": "1", "b": "1"}))?).await?;
            // Somebody else's part stays, whatever is applied.
            let others: Api<ConfigMap> = Api::default_namespaced(cx.client());
            let theirs = Patch::Merge(json!({"data": {"theirs": "1"}}));
            let manager = PatchParams { field_manager: Some("somebody".into()), ..PatchParams::default() };
            others.patch("kept", &manager, &theirs).await?;
            let changed = cx.apply(&wish(json!({"a": "2"}))?).await?;
            // It is in the cache for whoever reads it next.
            let cached = cx.get::<ConfigMap>(("default", "kept")).await?;
            let same = cached.is_some_and(|cached| cached.data == changed.data);
            let owners = made.metadata.owner_references.is_some();
            let _ = told.send(json!([made.data, changed.data, owners, same]));
            Ok(())
        }
    });
    let _stop = run(&cluster, Controller::new(does).writes::<ConfigMap>([Verb::Create, Verb::Patch]));
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map("m")).await?;
    let expected = json!([{"a": "1", "b": "1"}, {"a": "2", "theirs": "1"}, false, true]);
    assert_eq!(heard.recv().await.ok_or("an answer")?, expected);
    Ok(())
}

#[tokio::test]
async fn a_patch_of_what_changed_leaves_the_rest_and_conflicts_if_asked_to() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let read = maps.create(&PostParams::default(), &map("m")).await?;
    let theirs = json!({"data": {"theirs": "1"}});
    maps.patch("m", &PatchParams::default(), &Patch::Merge(theirs)).await?;
    let mut wanted = read.clone();
    wanted.data = Some([("k".to_owned(), "w".to_owned())].into());
    let patch = MergePatch::between(&read, &wanted)?;
    let strict = patch.clone().if_unchanged().into();
    let refused = maps.patch("m", &PatchParams::default(), &strict).await.map_err(kubewright::Error::from);
    assert!(refused.is_err_and(|error| error.is_conflict()));
    let patched = maps.patch("m", &PatchParams::default(), &patch.into()).await?;
    assert_eq!(json!(patched.data), json!({"k": "w", "theirs": "1"}));
    Ok(())
}

/// Looks at metadata alone.
struct Heads(mpsc::UnboundedSender<String>);

impl RawReconciler for Heads {
    async fn reconcile(&self, object: Arc<Cached>, cx: &Context) -> kubewright::Result<Action> {
        let secrets = cx.list::<Secret>().labels("app=x").raw().await?;
        let names: Vec<&str> = secrets.iter().map(|secret| secret.key().name()).collect();
        let _ = self.0.send(format!("{} {:?} {names:?}", object.key(), object.labels()));
        Ok(Action::done())
    }
}

#[tokio::test]
async fn a_controller_of_metadata_needs_no_type() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let secret = json!({"metadata": {"name": "s", "labels": {"app": "x"}}, "stringData": {"k": "v"}});
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client());
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let _stop = run(&cluster, Controller::raw(&Kind::of::<ConfigMap>(), Heads(told)).reads::<Secret>());
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map("m")).await?;
    while heard.recv().await.ok_or("an answer")? != r#"default/m {"app": "x"} ["s"]"# {}
    Ok(())
}

/// Log lines, as they are written.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_the_server_warns_of_is_logged_once() -> TestResult {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let cluster = TestCluster::api_server_only().await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let does = Does(move |_, cx: Context| {
        let told = told.clone();
        async move {
            let kind = cx.mapper().kind("", "ConfigMap").await?.kind;
            let dynamic = cx.mapper().api(&cx.client(), &kind, Some("default"));
            for name in ["one", "two", "three"] {
                let object = serde_json::from_value(json!({"metadata": {"name": name}, "dota": {}}))?;
                let parameters = PostParams { dry_run: true, ..PostParams::default() };
                dynamic.create(&parameters, &object).await?;
            }
            let _ = told.send(());
            Ok(())
        }
    });
    let _stop = run(&cluster, Controller::new(does).writes::<ConfigMap>([Verb::Create]));
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map("m")).await?;
    heard.recv().await.ok_or("an answer")?;
    let text = String::from_utf8(log.0.lock().unwrap().clone())?;
    let warnings: Vec<&str> = text.lines().filter(|line| line.contains("the API server warns")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("unknown field \"dota\""), "{}", warnings[0]);
    assert_eq!(
        Api::<ConfigMap>::default_namespaced(cluster.client())
            .list(&ListParams::default())
            .await?
            .items
            .len(),
        1
    );
    Ok(())
}
