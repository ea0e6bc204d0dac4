//! Clients with options: dry runs, field validation and owners, acting as others, one namespace.

use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{
    DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams, ValidationDirective,
};
use kubewright::client::{ClientOptions, Impersonate};
use kubewright::{Action, Context, Controller, Error, Event, Operator, Permit, Reconciler, Verb};
use kubewright_testing::{BoxError, TestCluster};
use serde_json::{Value, json};
use tokio::sync::mpsc;

type TestResult = Result<(), BoxError>;

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v"}})).unwrap()
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// The revision of everything that is stored: it moves with any write of anything.
async fn revision(cluster: &TestCluster) -> Result<String, BoxError> {
    let list = Api::<ConfigMap>::all(cluster.client()).list(&ListParams::default()).await?;
    Ok(list.metadata.resource_version.unwrap_or_default())
}

#[tokio::test]
async fn nothing_that_is_written_through_a_dry_run_stays() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let client = cluster.client();
    let post = PostParams::default();
    Api::<ConfigMap>::default_namespaced(client.clone()).create(&post, &map("kept")).await?;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    accounts.create(&post, &serde_json::from_value(json!({"metadata": {"name": "default"}}))?).await?;
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
    )?;
    Api::<Pod>::default_namespaced(client.clone()).create(&post, &pod).await?;
    let before = revision(&cluster).await?;

    let dry = ClientOptions::new().dry_run().client(&client);
    let maps: Api<ConfigMap> = Api::default_namespaced(dry.clone());
    let made = maps.create(&post, &map("tried")).await?;
    assert!(made.metadata.uid.is_some(), "the server does all of it but the storing");
    let mut changed = maps.get("kept").await?;
    changed.data = None;
    assert_eq!(maps.replace("kept", &post, &changed).await?.data, None);
    maps.patch("kept", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "w"}}))).await?;
    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}});
    maps.patch("applied", &PatchParams::apply("me").force(), &Patch::Apply(&apply)).await?;
    maps.delete("kept", &DeleteParams::default()).await?;
    maps.delete("kept", &DeleteParams::foreground().grace_period(0)).await?;
    maps.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    let pods: Api<Pod> = Api::default_namespaced(dry.clone());
    pods.evict("p", &EvictParams::default()).await?;
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(json!({"status": {"phase": "Failed"}})))
        .await?;
    pods.delete("p", &DeleteParams::default()).await?;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    pods.create_subresource::<Value, Value>("binding", "p", &post, &binding).await?;
    let exec = pods.exec("p", ["rm", "-r", "/"], &Default::default()).await.err().ok_or("it is refused")?;
    assert!(matches!(Error::from(exec), Error::ClientOptions(_)));

    assert_eq!(revision(&cluster).await?, before);
    assert_eq!(Api::<ConfigMap>::default_namespaced(client).get("kept").await?.data, map("kept").data);
    Ok(())
}

/// Does what a function does, once, and tells how it went.
struct Once<F>(F, mpsc::UnboundedSender<Result<Value, Error>>);

impl<F, Fut> Reconciler for Once<F>
where
    F: Fn(Arc<Namespace>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, Error>> + Send,
{
    type Object = Namespace;

    async fn reconcile(&self, namespace: Arc<Namespace>, cx: &Context) -> kubewright::Result<Action> {
        if namespace.metadata.name.as_deref() == Some("default") {
            let _ = self.1.send((self.0)(namespace, cx.clone()).await);
        }
        Ok(Action::done())
    }
}

/// What a function does in a reconciler of the namespace `default`.
async fn reconciled<F, Fut>(
    client: kube::Client,
    declare: impl FnOnce(Controller) -> Controller,
    function: F,
) -> Result<Value, Error>
where
    F: Fn(Arc<Namespace>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, Error>> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let operator = Operator::new("trial").controller(declare(Controller::new(Once(function, sender))));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(operator.run(client, stopped.map(drop)));
    let told = receiver.recv().await.unwrap();
    drop(stop);
    running.await.unwrap()?;
    told
}

#[tokio::test]
async fn the_helpers_of_a_context_keep_to_its_dry_run() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let surplus = {
        let namespace = Api::<Namespace>::all(cluster.client()).get("default").await?;
        let mut surplus = map("surplus");
        surplus.metadata.owner_references = Some(vec![serde_json::from_value(json!({"apiVersion": "v1",
            "kind": "Namespace", "name": "default", "uid": namespace.metadata.uid, "controller": true}))?]);
        surplus
    };
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    maps.create(&PostParams::default(), &surplus).await?;
    let before = revision(&cluster).await?;
    let declare = |controller: Controller| controller.owns::<ConfigMap>().writes::<Namespace>([Verb::Patch]);
    let told = reconciled(cluster.client(), declare, |namespace, cx| async move {
        let dry = cx.with(&ClientOptions::new().dry_run());
        let mut wanted = map("wanted");
        wanted.metadata.namespace = Some("default".into());
        let report = dry.apply_children(&namespace, [wanted.clone()]).await?;
        // Nothing is remembered of a trial: the same again is tried again.
        let again = dry.apply_children(&namespace, [wanted.clone()]).await?;
        dry.apply(&wanted).await?;
        dry.add_finalizer(&namespace, "example.com/hold").await?;
        dry.patch_status(
            &namespace,
            json!({"phase": "Active", "conditions": [{"type": "Tried", "status": "True"}]}),
        )
        .await?;
        dry.event(&namespace, Event::normal("Tried", "Try", "never told"));
        Ok(json!([report.written(), report.pruned(), again.written()]))
    });
    assert_eq!(told.await?, json!([1, 1, 1]));
    assert_eq!(revision(&cluster).await?, before);
    Ok(())
}

#[tokio::test]
async fn a_whole_operator_may_be_a_dry_run() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let before = revision(&cluster).await?;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let reconcile = |namespace: Arc<Namespace>, cx: Context| async move {
        let mut wanted = map("wanted");
        wanted.metadata.namespace = Some("default".into());
        let report = cx.apply_children(&namespace, [wanted]).await?;
        cx.event(&namespace, Event::normal("Made", "Make", "never told"));
        Ok(json!(report.written()))
    };
    let controller = Controller::new(Once(reconcile, sender)).owns::<ConfigMap>();
    let operator =
        Operator::new("trial").client_options(ClientOptions::new().dry_run()).controller(controller);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(operator.run(cluster.client(), stopped.map(drop)));
    assert_eq!(receiver.recv().await.ok_or("an answer")??, json!(1));
    drop(stop);
    running.await??;
    assert_eq!(revision(&cluster).await?, before);
    Ok(())
}

#[tokio::test]
async fn the_helpers_of_a_context_apply_as_its_field_owner() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let told = reconciled(
        cluster.client(),
        |controller| controller.owns::<ConfigMap>(),
        |namespace, cx| async move {
            let mut wanted = map("wanted");
            wanted.metadata.namespace = Some("default".into());
            let tenant = cx.with(&ClientOptions::new().field_owner("tenant"));
            tenant.apply_children(&namespace, [wanted]).await?;
            Ok(json!(tenant.field_manager()))
        },
    );
    assert_eq!(told.await?, "tenant");
    let made = Api::<ConfigMap>::default_namespaced(cluster.client()).get("wanted").await?;
    let managers = made.metadata.managed_fields.unwrap_or_default();
    assert_eq!(managers.iter().filter_map(|entry| entry.manager.as_deref()).collect::<Vec<_>>(), ["tenant"]);
    Ok(())
}

#[tokio::test]
async fn writes_that_name_no_owner_get_the_clients_and_unknown_fields_are_judged() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let client = cluster.client();
    let resource = kube::api::ApiResource::erase::<ConfigMap>(&());
    let object = |name: &str| -> Result<DynamicObject, BoxError> {
        Ok(serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v"}, "dota": {}}))?)
    };
    let with = |directive: ValidationDirective| {
        let options = ClientOptions::new().field_validation(directive).field_owner("tool");
        Api::<DynamicObject>::default_namespaced_with(options.client(&client), &resource)
    };
    let refused =
        with(ValidationDirective::Strict).create(&PostParams::default(), &object("a")?).await.unwrap_err();
    assert_eq!(code(&refused), 400);
    assert!(refused.to_string().contains("unknown field \"dota\""), "{refused}");
    let made = with(ValidationDirective::Ignore).create(&PostParams::default(), &object("b")?).await?;
    assert!(made.data.get("dota").is_none());
    let managers = made.metadata.managed_fields.unwrap_or_default();
    assert_eq!(managers[0].manager.as_deref(), Some("tool"));
    let own = PostParams { field_manager: Some("own".into()), ..PostParams::default() };
    let made = with(ValidationDirective::Warn).create(&own, &object("c")?).await?;
    assert_eq!(made.metadata.managed_fields.unwrap_or_default()[0].manager.as_deref(), Some("own"));
    Ok(())
}

/// Lets jane write ConfigMaps in `default`, and an account act as jane in the group `devs`.
async fn grant(cluster: &TestCluster) -> TestResult {
    let rbac = |name: &str, rules: Value| -> Result<Role, BoxError> {
        Ok(serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules}))?)
    };
    let bind = |name: &str, user: &str| -> Result<RoleBinding, BoxError> {
        Ok(serde_json::from_value(json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]}))?)
    };
    let roles: Api<Role> = Api::default_namespaced(cluster.client());
    let bindings: Api<RoleBinding> = Api::default_namespaced(cluster.client());
    let maps = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "patch"]}]);
    roles.create(&PostParams::default(), &rbac("maps", maps)?).await?;
    bindings.create(&PostParams::default(), &bind("maps", "jane")?).await?;
    // Whom one may act as is a question of the whole cluster.
    let cluster_rbac = |kind: &str| {
        let gvk = kube::core::GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind);
        Api::<DynamicObject>::all_with(cluster.client(), &kube::api::ApiResource::from_gvk(&gvk))
    };
    let role = json!({"metadata": {"name": "actor"}, "rules": [
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["groups"], "resourceNames": ["devs"], "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]}]});
    cluster_rbac("ClusterRole").create(&PostParams::default(), &serde_json::from_value(role)?).await?;
    let binding = json!({"metadata": {"name": "actor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "actor"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "actor"}]});
    cluster_rbac("ClusterRoleBinding")
        .create(&PostParams::default(), &serde_json::from_value(binding)?)
        .await?;
    Ok(())
}

#[tokio::test]
async fn whoever_is_acted_as_is_who_is_authorized() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    grant(&cluster).await?;
    let actor = cluster.client_as("actor", &[]);
    let jane = ClientOptions::new().as_user("jane").client(&actor);
    let maps: Api<ConfigMap> = Api::namespaced(jane.clone(), "default");
    maps.create(&PostParams::default(), &map("hers")).await?;
    let refused = Api::<Secret>::namespaced(jane, "default").list(&ListParams::default()).await.unwrap_err();
    assert_eq!(code(&refused), 403);
    assert!(refused.to_string().contains("User \"jane\" cannot list resource \"secrets\""), "{refused}");
    // The account itself has no right to what jane may do, nor to act as others.
    let own = Api::<ConfigMap>::namespaced(actor.clone(), "default").get("hers").await.unwrap_err();
    assert_eq!(code(&own), 403);
    for other in [Impersonate::user("joe"), Impersonate::user("jane").group("admins")] {
        let client = ClientOptions::new().as_user(other).client(&actor);
        let refused = Api::<ConfigMap>::namespaced(client, "default").get("hers").await.unwrap_err();
        assert!(refused.to_string().contains("cannot impersonate resource"), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn groups_uid_and_extra_fields_reach_the_server() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let jane = Impersonate::user("jane")
        .group("devs")
        .uid("u-1")
        .extra("Example.com/Team x", "a")
        .extra("scopes", "s");
    let client = ClientOptions::new().as_user(jane).client(&cluster.client());
    let review =
        Api::<SelfSubjectReview>::all(client).create(&PostParams::default(), &Default::default()).await?;
    let user = review.status.and_then(|status| status.user_info).ok_or("who one is")?;
    assert_eq!((user.username.as_deref(), user.uid.as_deref()), (Some("jane"), Some("u-1")));
    assert_eq!(user.groups.unwrap_or_default(), ["devs", "system:authenticated"]);
    assert_eq!(json!(user.extra), json!({"example.com/team x": ["a"], "scopes": ["s"]}));
    Ok(())
}

#[tokio::test]
async fn a_controller_acts_only_as_those_that_it_declares() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    grant(&cluster).await?;
    let acting = |controller: Controller| controller.owns::<ConfigMap>();
    let reconcile = |namespace: Arc<Namespace>, cx: Context| async move {
        let mut wanted = map("hers");
        wanted.metadata.namespace = Some("default".into());
        let jane = cx.with(&ClientOptions::new().as_user(Impersonate::user("jane").group("devs")));
        jane.apply(&wanted).await?;
        Ok(json!(namespace.metadata.name))
    };
    let admin = cluster.client();
    let refused = reconciled(admin, acting, reconcile).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Undeclared(undeclared) if undeclared.verb == Verb::Impersonate),
        "{refused}"
    );
    assert!(refused.to_string().contains(r#"Permit::on_resource("", "#), "{refused}");
    let declared = |controller: Controller| {
        let right =
            |resource: &str, name: &str| Permit::on_resource("", resource, [Verb::Impersonate]).named([name]);
        controller
            .writes::<ConfigMap>([Verb::Patch])
            .permits(right("users", "jane"))
            .permits(right("groups", "devs"))
    };
    // The account behind may do nothing with ConfigMaps; jane may.
    reconciled(cluster.client_as("actor", &[]), declared, reconcile).await?;
    let made = Api::<ConfigMap>::default_namespaced(cluster.client()).get("hers").await?;
    assert_eq!(made.data, map("hers").data);
    let manifests = Operator::new("trial")
        .controller(declared(Controller::new(Once(reconcile, mpsc::unbounded_channel().0))));
    assert!(manifests.manifests("trial-system", None)?.contains("impersonate"), "the role says so");
    Ok(())
}

#[tokio::test]
async fn a_client_of_one_namespace_sees_and_writes_no_other() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let namespace = cluster.namespace("team").await?;
    let post = PostParams::default();
    Api::<ConfigMap>::default_namespaced(cluster.client()).create(&post, &map("others")).await?;
    let client = ClientOptions::new().in_namespace(namespace.name()).client(&cluster.client());
    let mine: Api<ConfigMap> = Api::default_namespaced(client.clone());
    mine.create(&post, &map("mine")).await?;
    let all: Api<ConfigMap> = Api::all(client.clone());
    let seen = all.list(&ListParams::default()).await?;
    let names: Vec<_> = seen.items.iter().filter_map(|map| map.metadata.name.as_deref()).collect();
    assert_eq!(names, ["mine"]);
    let other = Api::<ConfigMap>::namespaced(client.clone(), "default").get("others").await.unwrap_err();
    assert!(other.to_string().contains("nothing was sent"), "{other}");
    // Kinds of the cluster are as they were, namespaces included.
    Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    assert!(Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await?.items.len() > 1);
    Api::<Namespace>::all(client).get("default").await?;
    all.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    assert!(mine.get_opt("mine").await?.is_none());
    assert!(Api::<ConfigMap>::default_namespaced(cluster.client()).get_opt("others").await?.is_some());
    Ok(())
}
