//! The ways to read and write one object (typed, dynamic, metadata alone), and what the API server warns of.

use std::io;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt as _};
use kubewright::cache::{Cached, Index, Select};
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

#[tokio::test]
async fn a_list_is_narrowed_by_namespace_owner_index_and_labels() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let does = Does(move |map: Arc<ConfigMap>, cx: Context| {
        let told = told.clone();
        async move {
            if map.metadata.name.as_deref() != Some("m") {
                return Ok(());
            }
            let selector = serde_json::from_value(json!({"matchLabels": {"app": "x"}}))?;
            let lists = [
                cx.list::<ConfigMap>().labels("app=x"),
                cx.list::<ConfigMap>().in_namespace("default"),
                cx.list::<ConfigMap>().owned_by(&*map),
                cx.list::<ConfigMap>().indexed("data.colour", "blue"),
                cx.list::<ConfigMap>()
                    .indexed("data.colour", "blue")
                    .in_namespace("default")
                    .labels("app=x,!no"),
                cx.list::<ConfigMap>().matching(&selector).labels("no"),
            ];
            let mut names = Vec::new();
            for list in lists {
                let names_of = |map: &Arc<ConfigMap>| map.metadata.name.clone().unwrap_or_default();
                names.push(list.await?.iter().map(names_of).collect::<Vec<_>>().join(" "));
            }
            let unread = cx.list::<ConfigMap>().labels("app in x").await.map(|_| ());
            let unknown = cx.list::<ConfigMap>().indexed("data.size", "1").await.map(|_| ());
            names.extend([unread, unknown].map(|result| result.unwrap_err().to_string()));
            let _ = told.send(names);
            Ok(())
        }
    });
    let other = cluster.namespace("other").await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let elsewhere: Api<ConfigMap> = Api::default_namespaced(other.client());
    let create = |name: &str, metadata: serde_json::Value, colour: &str| -> Result<ConfigMap, BoxError> {
        let mut object = json!({"metadata": metadata, "data": {"colour": colour}});
        object["metadata"]["name"] = json!(name);
        Ok(serde_json::from_value(object)?)
    };
    let post = PostParams::default();
    elsewhere.create(&post, &create("a", json!({"labels": {"app": "x"}}), "blue")?).await?;
    maps.create(&post, &create("b", json!({"labels": {"app": "x"}}), "blue")?).await?;
    maps.create(&post, &create("c", json!({"labels": {"app": "x", "no": ""}}), "blue")?).await?;
    let uid = maps.create(&post, &map("m")).await?.metadata.uid;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "m", "uid": uid}]);
    maps.create(&post, &create("d", json!({"ownerReferences": owner}), "red")?).await?;
    let index = Index::path::<ConfigMap>("data.colour");
    let _stop = run(&cluster, Controller::new(does).index(index));
    let told = heard.recv().await.ok_or("an answer")?;
    assert_eq!(told[..6], ["b c m a", "b c d m", "d", "b c a", "b", "c"]);
    assert!(told[6].contains("label selector \"app in x\""), "{}", told[6]);
    assert!(told[7].contains(".index(Index::path::<ConfigMap>(\"data.size\"))"), "{}", told[7]);
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

#[tokio::test]
async fn a_kind_may_be_followed_by_its_metadata_alone() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let secret =
        |name: &str| json!({"metadata": {"name": name, "labels": {"app": "x"}}, "stringData": {"k": "v"}});
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client());
    secrets.create(&PostParams::default(), &serde_json::from_value(secret("s"))?).await?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let does = Does(move |_, cx: Context| {
        let told = told.clone();
        async move {
            let own: Api<Secret> = Api::default_namespaced(cx.client());
            let created = own.create(&PostParams::default(), &serde_json::from_value(secret("t"))?).await;
            let heads = cx.list::<PartialObjectMeta<Secret>>().labels("app=x").await?;
            let names: Vec<_> = heads.iter().filter_map(|head| head.metadata.name.clone()).collect();
            let raw = cx.list::<Secret>().raw().await?;
            let held = raw.iter().filter(|secret| secret.at(&["data"]).is_some()).count();
            let error = cx.get::<Secret>(("default", "s")).await.map(|_| ()).unwrap_err();
            if created.is_ok() {
                let _ = told.send((names.join(" "), held, error.chain()));
            }
            Ok(())
        }
    });
    let controller = Controller::new(does).reads::<Secret>().writes::<Secret>([Verb::Create]);
    let operator = Operator::new("op").controller(controller).select::<Secret>(Select::all().metadata());
    let (_stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(operator.run(cluster.client(), stopped.map(drop)));
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&PostParams::default(), &map("m")).await?;
    let (names, held, error) = heard.recv().await.ok_or("an answer")?;
    assert_eq!((names.as_str(), held), ("s t", 0));
    assert!(error.contains("nothing but its metadata is cached"), "{error}");
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
