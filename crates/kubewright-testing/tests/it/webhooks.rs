//! Webhooks of operators as the API server meets them: rotation of certificates under load, conversion between versions,
//! failure policies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kubewright::webhook::{
    Admission, Certificates, Conversion, FailurePolicy, Handler, Lives, Mutator, Validator, Verdict, Webhook,
};
use kubewright::{Action, Context, Controller, Kind, Operator, Permit, Reconciler, Verb};
use kubewright_testing::{BoxError, Permission, TestCluster, TestError, eventually};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use time::Clock;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsConnector;

type TestResult = Result<(), BoxError>;

const DAY: Duration = Duration::from_secs(86_400);

/// Does what the config map says.
struct Obeys;

impl Validator for Obeys {
    type Object = ConfigMap;

    async fn validate_create(&self, map: &ConfigMap, _: &Admission) -> kubewright::Result<Verdict> {
        match map.data.as_ref().and_then(|data| data.get("do")).map(String::as_str) {
            Some("deny") => Ok(Verdict::deny("told to").warn("think again")),
            Some("panic") => panic!("told to"),
            Some("fail") => Err(kubewright::Error::other("the database is away")),
            _ => Ok(Verdict::allow()),
        }
    }
}

fn map(name: &str, what: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"do": what}})).expect("a config map")
}

mod time {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime};

    /// A clock that a test sets.
    #[derive(Clone)]
    pub struct Clock(Arc<Mutex<SystemTime>>);

    impl Clock {
        pub fn at(time: SystemTime) -> Clock {
            Clock(Arc::new(Mutex::new(time)))
        }

        pub fn now(&self) -> SystemTime {
            *self.0.lock().expect("no test panics with it")
        }

        pub fn pass(&self, time: Duration) {
            *self.0.lock().expect("no test panics with it") += time;
        }
    }
}

/// The state of the certificates that replicas share.
struct Shared {
    secrets: Api<Secret>,
    clock: Clock,
}

impl Shared {
    const NAME: &'static str = "obeys-webhook-certificates";

    async fn read(&self, name: &str) -> Result<String, BoxError> {
        let data = self.secrets.get(Self::NAME).await?.data.unwrap_or_default();
        let ByteString(bytes) = data.get(name).cloned().unwrap_or_default();
        Ok(String::from_utf8(bytes)?)
    }

    /// Lets time pass, and has the replicas look at the clock: they look whenever the Secret changes.
    async fn pass(&self, time: Duration) -> TestResult {
        self.clock.pass(time);
        let note = format!("{:?}", self.clock.now());
        let patch = json!({"metadata": {"annotations": {"test/looked-at": note}}});
        self.secrets.patch(Self::NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}

/// Opens a new connection to each replica of a webhook, trusting what its configuration says.
async fn greet(
    configurations: &Api<ValidatingWebhookConfiguration>,
    replicas: [SocketAddr; 2],
) -> Result<(), BoxError> {
    let hooks = configurations.get("obeys").await?.webhooks.unwrap_or_default();
    let client = &hooks.first().ok_or("a webhook")?.client_config;
    let (Some(ByteString(bundle)), Some(service)) = (&client.ca_bundle, &client.service) else {
        return Err("a service with authorities".into());
    };
    let bundle = kubewright_pki::Bundle::from_pem(std::str::from_utf8(bundle)?)?;
    let tls = TlsConnector::from(Arc::new(kubewright_pki::client_config(&bundle, None)?));
    let name = ServerName::try_from(format!("{}.{}.svc", service.name, service.namespace))?;
    for replica in replicas {
        tls.connect(name.clone(), TcpStream::connect(replica).await?).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load_without_a_lost_request() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    // So long ago that all of the rotation happens in the past: TLS on the way looks at the real clock.
    let clock = Clock::at(SystemTime::now() - 80 * DAY);
    let lives = Lives { authority: 100 * DAY, serving: 100 * DAY, overlap: Duration::from_secs(600) };
    let replica = || {
        let clock = clock.clone();
        let certificates = Certificates::own().lives(lives).clock(move || clock.now());
        Operator::new("obeys").webhook(Webhook::validating(Obeys)).webhook_certificates(certificates)
    };
    let (first, second) = (cluster.run(replica()).await?, cluster.run(replica()).await?);
    let shared = Shared { secrets: Api::namespaced(cluster.client(), "obeys-system"), clock: clock.clone() };
    let (bundle, shown) = (shared.read("ca.crt").await?, shared.read("tls.crt").await?);

    let answered = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..4)
        .map(|worker| {
            let (maps, answered) =
                (Api::<ConfigMap>::default_namespaced(cluster.client()), Arc::clone(&answered));
            tokio::spawn(async move {
                let trial = PostParams { dry_run: true, ..PostParams::default() };
                loop {
                    maps.create(&trial, &map(&format!("load-{worker}"), "allow")).await?;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                #[allow(unreachable_code)]
                Ok::<(), kube::Error>(())
            })
        })
        .collect();
    let greeted = Arc::new(AtomicUsize::new(0));
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
    let greeting = tokio::spawn({
        let (configurations, greeted) = (configurations.clone(), Arc::clone(&greeted));
        let replicas = [first.webhooks(), second.webhooks()];
        async move {
            loop {
                greet(&configurations, replicas).await?;
                greeted.fetch_add(1, Ordering::SeqCst);
            }
            #[allow(unreachable_code)]
            Ok::<(), BoxError>(())
        }
    });
    // In every state of the rotation, requests are asked about and answered, and each replica is trusted by whoever knows no
    // more than the configuration of then.
    let busy = async |state: &str| {
        let (before, greetings) = (answered.load(Ordering::SeqCst), greeted.load(Ordering::SeqCst));
        eventually!(cluster, state, {
            assert!(load.iter().all(|worker| !worker.is_finished()), "a request was lost: {state}");
            assert!(!greeting.is_finished(), "a replica was not trusted: {state}");
            answered.load(Ordering::SeqCst) >= before + 40 && greeted.load(Ordering::SeqCst) >= greetings + 4
        });
    };
    busy("before").await;

    shared.pass(67 * DAY).await?;
    eventually!(cluster, "a second authority is trusted", shared.read("phase").await?.starts_with("trusted"));
    let both = shared.read("ca.crt").await?;
    assert!(both.starts_with(&bundle) && both.len() > bundle.len(), "the first authority stays");
    assert_eq!(shared.read("tls.crt").await?, shown, "nobody shows what is not trusted everywhere");
    busy("introducing").await;

    shared.pass(lives.overlap).await?;
    eventually!(cluster, "the certificate is switched", shared.read("phase").await?.starts_with("retiring"));
    assert_ne!(shared.read("tls.crt").await?, shown);
    assert_eq!(shared.read("ca.crt").await?, both, "whoever shows the old one is still trusted");
    busy("retiring").await;

    shared.pass(lives.overlap).await?;
    eventually!(cluster, "the first authority is dropped", shared.read("phase").await? == "stable");
    let after = shared.read("ca.crt").await?;
    assert_eq!(format!("{bundle}{after}"), both);
    eventually!(cluster, "the configuration trusts the second authority alone", {
        let hooks = configurations.get("obeys").await?.webhooks.unwrap_or_default();
        hooks[0].client_config.ca_bundle == Some(ByteString(after.clone().into_bytes()))
    });
    busy("afterwards").await;
    load.iter().for_each(|worker| worker.abort());
    greeting.abort();
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_was_replaced_gets_its_authorities_again() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let _operator = cluster.run(Operator::new("obeys").webhook(Webhook::validating(Obeys))).await?;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
    let mut configuration = configurations.get("obeys").await?;
    let before = configuration.webhooks.clone();
    for hook in configuration.webhooks.iter_mut().flatten() {
        hook.client_config.ca_bundle = None;
    }
    configurations.replace("obeys", &PostParams::default(), &configuration).await?;
    eventually!(cluster, "it is mended", configurations.get("obeys").await?.webhooks == before);
    Ok(())
}

#[tokio::test]
async fn a_failing_webhook_is_what_its_failure_policy_says_and_lives_on() -> TestResult {
    for (policy, passes) in [(FailurePolicy::Fail, false), (FailurePolicy::Ignore, true)] {
        let cluster = TestCluster::api_server_only().await?;
        let operator = Operator::new("obeys").webhook(Webhook::validating(Obeys).failure_policy(policy));
        let operator = cluster.run(operator).await?;
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
        for (what, why) in [("panic", "the webhook panicked"), ("fail", "the database is away")] {
            match maps.create(&PostParams::default(), &map(what, what)).await {
                Ok(_) => assert!(passes, "{what} was ignored"),
                Err(error) => assert!(!passes && error.to_string().contains(why), "{error}"),
            }
        }
        let denied = maps.create(&PostParams::default(), &map("denied", "deny")).await.unwrap_err();
        assert!(denied.to_string().contains("denied the request: told to"), "{denied}");
        operator.stop().await?;
        let unheard = maps.create(&PostParams::default(), &map("denied", "deny")).await;
        assert_eq!(unheard.is_ok(), passes);
    }
    Ok(())
}

#[tokio::test]
async fn what_an_operator_uses_is_told_beside_what_it_is_granted() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let least = cluster.run(Operator::new("least").webhook(Webhook::validating(Obeys))).await?;
    eventually!(cluster, "every right is used", cluster.permissions(least.user()).await?.is_least());
    cluster.permissions(least.user()).await?.assert_least();

    let greedy = Webhook::validating(Obeys).permits(Permit::on::<ConfigMap>([Verb::Delete]));
    let greedy = cluster.run(Operator::new("greedy").webhook(greedy.reads::<Secret>())).await?;
    let client = cluster.client_as(greedy.user(), &["system:authenticated"]);
    Api::<Node>::all(client).list(&ListParams::default()).await.unwrap_err();
    let report = cluster.permissions(greedy.user()).await?;
    let told = |list: &[Permission]| list.iter().map(Permission::to_string).collect::<Vec<_>>();
    assert_eq!(told(&report.not_granted), ["list nodes"]);
    assert!(told(&report.unused).contains(&"delete configmaps".to_owned()), "{report}");
    assert!(!told(&report.unused).iter().any(|unused| unused.contains("secrets")), "{report}");
    assert!(std::panic::catch_unwind(|| report.assert_least()).is_err());
    Ok(())
}

#[tokio::test]
async fn an_apply_that_creates_uses_both_of_its_rights() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let permits = Permit::on::<ConfigMap>([Verb::Create, Verb::Patch, Verb::Delete]);
    let operator =
        cluster.run(Operator::new("applies").webhook(Webhook::validating(Obeys).permits(permits))).await?;
    let client = cluster.client_as(operator.user(), &["system:authenticated"]);
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    maps.patch("new", &PatchParams::apply("applies"), &Patch::Apply(map("new", "pass"))).await?;
    let unused = cluster.permissions(operator.user()).await?.unused;
    let unused: Vec<String> = unused.iter().map(Permission::to_string).collect();
    assert_eq!(unused, ["delete configmaps"]);
    Ok(())
}

/// Waits until it may go on, then writes what the operator's own webhook refuses.
struct Finishes {
    busy: Arc<Notify>,
    go_on: Arc<Notify>,
    told: mpsc::UnboundedSender<String>,
}

impl Reconciler for Finishes {
    type Object = Node;

    async fn reconcile(&self, _: Arc<Node>, cx: &Context) -> kubewright::Result<Action> {
        self.busy.notify_one();
        self.go_on.notified().await;
        let maps: Api<ConfigMap> = Api::namespaced(cx.client(), "default");
        let refused = maps.create(&PostParams::default(), &map("last", "deny")).await;
        let _ = self.told.send(refused.map_or_else(|error| error.to_string(), |_| "it was not asked".into()));
        Ok(Action::done())
    }
}

#[tokio::test]
async fn what_is_reconciled_within_the_grace_period_is_still_judged() -> TestResult {
    let cluster = TestCluster::start().await?;
    let (busy, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, mut heard) = mpsc::unbounded_channel();
    let finishes = Finishes { busy: Arc::clone(&busy), go_on: Arc::clone(&go_on), told };
    let controller = Controller::new(finishes).writes::<ConfigMap>([Verb::Create]);
    let operator = Operator::new("obeys").webhook(Webhook::validating(Obeys)).controller(controller);
    let operator = cluster.run(operator).await?;
    busy.notified().await;
    let readiness = operator.readiness().clone();
    let stopping = tokio::spawn(operator.stop());
    eventually!(cluster, "the operator stops", !readiness.is_ready());
    // Whatever else ends on that signal does so now: this runtime has one thread.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    go_on.notify_one();
    let answer = heard.recv().await.ok_or("the reconciliation was cancelled")?;
    assert!(answer.contains("denied the request: told to"), "{answer}");
    stopping.await??;
    Ok(())
}

/// Labels whatever it is asked about.
struct Labels(&'static str);

impl Handler for Labels {
    async fn handle(&self, cx: &Admission) -> kubewright::Result<Verdict> {
        let mut object = cx.object()?.unwrap_or_default();
        object["metadata"]["labels"][self.0] = json!("yes");
        Ok(Verdict::allow().replace(object))
    }
}

#[tokio::test]
async fn several_webhooks_of_one_kind_are_all_asked_each_at_its_path() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let labels = |name: &'static str, path: &str| {
        let hook = Webhook::mutating_raw(&Kind::of::<ConfigMap>(), Labels(name)).path(path);
        hook.named(&format!("{name}.labels.example.com"))
    };
    let several = Operator::new("several").webhook(labels("a", "/a")).webhook(labels("b", "b"));
    let operator = cluster.run(several.webhook(Webhook::validating(Obeys))).await?;
    let ready = operator.readiness().report();
    assert!(ready.contains("[+]webhook certificates loaded\n"), "{ready}");
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let made = maps.create(&PostParams::default(), &map("m", "allow")).await?;
    assert_eq!(json!(made.metadata.labels), json!({"a": "yes", "b": "yes"}));
    assert!(maps.create(&PostParams::default(), &map("n", "deny")).await.is_err());

    let clash = Operator::new("clash").webhook(labels("a", "/a")).webhook(labels("b", "/a"));
    let error = cluster.run(clash).await.map(|_| ()).unwrap_err();
    let TestError::Ended(error) = error else { return Err(error.into()) };
    assert!(error.to_string().contains("two webhooks are served at /a"), "{error}");
    Ok(())
}

mod v1 {
    #[derive(
        kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug,
    )]
    #[kube(group = "example.com", version = "v1", kind = "Route", namespaced)]
    pub struct RouteSpec {
        /// Such as `example.com:80`.
        pub target: String,
    }
}

mod v2 {
    #[derive(
        kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug,
    )]
    #[kube(group = "example.com", version = "v2", kind = "Route", namespaced)]
    pub struct RouteSpec {
        pub host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub port: Option<u16>,
    }
}

impl TryFrom<v1::Route> for v2::Route {
    type Error = String;

    fn try_from(old: v1::Route) -> Result<v2::Route, String> {
        let target = &old.spec.target;
        let (host, port) = target.split_once(':').ok_or(format!("\"{target}\" has no port"))?;
        let port = port.parse().map_err(|error| format!("the port of \"{target}\": {error}"))?;
        Ok(v2::Route::new("", v2::RouteSpec { host: host.into(), port: Some(port) }))
    }
}

impl From<v2::Route> for v1::Route {
    fn from(new: v2::Route) -> v1::Route {
        let target = format!("{}:{}", new.spec.host, new.spec.port.unwrap_or(80));
        v1::Route::new("", v1::RouteSpec { target })
    }
}

/// Fills in the port.
struct DefaultPort;

impl Mutator for DefaultPort {
    type Object = v2::Route;

    async fn mutate(&self, route: &mut v2::Route, _: &Admission) -> kubewright::Result<Verdict> {
        route.spec.port.get_or_insert(443);
        Ok(Verdict::allow())
    }
}

#[tokio::test]
async fn versions_of_a_kind_are_converted_through_the_hub() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let operator = Operator::new("routes")
        .conversion(Conversion::through::<v2::Route>().version::<v1::Route>())
        .webhook(Webhook::mutating(DefaultPort));
    let _operator = cluster.run(operator).await?;
    let old: Api<v1::Route> = Api::default_namespaced(cluster.client());
    let new: Api<v2::Route> = Api::default_namespaced(cluster.client());

    let mut route = v1::Route::new("a", v1::RouteSpec { target: "example.com:8080".into() });
    route.metadata.labels = Some([("kept".to_owned(), "yes".to_owned())].into());
    old.create(&PostParams::default(), &route).await?;
    let converted = new.get("a").await?;
    assert_eq!((&*converted.spec.host, converted.spec.port), ("example.com", Some(8080)));
    assert_eq!(converted.metadata.labels, route.metadata.labels);

    // Written in one version, defaulted in that of the webhook, read in the other.
    new.create(
        &PostParams::default(),
        &v2::Route::new("b", v2::RouteSpec { host: "b.org".into(), port: None }),
    )
    .await?;
    assert_eq!(old.get("b").await?.spec.target, "b.org:443");
    let all = old.list(&ListParams::default()).await?;
    let targets: Vec<&str> = all.items.iter().map(|route| &*route.spec.target).collect();
    assert_eq!(targets, ["example.com:8080", "b.org:443"]);
    let patch = json!({"spec": {"target": "c.net:1"}});
    old.patch("b", &PatchParams::default(), &Patch::Merge(patch)).await?;
    assert_eq!(new.get("b").await?.spec.port, Some(1));

    // One that can't be converted is refused, by name.
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Route"));
    let raw: Api<DynamicObject> = Api::default_namespaced_with(cluster.client(), &resource);
    let bad: Value = json!({"apiVersion": "example.com/v1", "kind": "Route", "metadata": {"name": "c"},
        "spec": {"target": "nowhere"}});
    let error = raw.create(&PostParams::default(), &serde_json::from_value(bad)?).await.unwrap_err();
    assert!(error.to_string().contains("Route default/c: \"nowhere\" has no port"), "{error}");
    Ok(())
}
