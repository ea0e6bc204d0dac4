//! Who the cluster's own parts are, and that the roles which Kubernetes has for them are all they need: whatever they do
//! is read back from an audit log.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kubewright_cluster::access::{AccessConfig, AuditConfig, AuthorizationWebhookConfig};
use kubewright_testing::{BoxError, ClusterConfig, TestCluster, TestNamespace, eventually};
use serde_json::{Value, json};

type TestResult = Result<(), BoxError>;

/// The identities of Kubernetes' own parts, as far as there is such a part here.
const USERS: [&str; 2] = ["system:kube-controller-manager", "system:kube-scheduler"];
const ACCOUNTS: [&str; 8] = [
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "generic-garbage-collector",
    "namespace-controller",
    "node-controller",
    "replicaset-controller",
    "root-ca-cert-publisher",
    "service-account-controller",
];

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, BoxError> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kubewright-identities-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf, BoxError> {
        let path = self.0.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> Result<K, BoxError> {
    Ok(serde_json::from_value(value)?)
}

fn deployment(replicas: i32) -> Result<Deployment, BoxError> {
    object(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}},
    }))
}

fn owned(name: &str, owner: &ConfigMap) -> Result<ConfigMap, BoxError> {
    object(json!({"metadata": {"name": name, "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
        "name": owner.metadata.name, "uid": owner.metadata.uid, "blockOwnerDeletion": true}]}}))
}

/// Makes every part of the cluster do all that it can have to do.
async fn live_through_everything(cluster: &TestCluster) -> TestResult {
    let team = cluster.namespace("team").await?;
    what_a_namespace_has_comes_back(cluster, &team).await?;
    a_deployment_is_rolled_out_and_goes(cluster, &team).await?;
    pods_wait_for_nodes_that_come_and_go(cluster, &team).await?;
    owners_go_in_every_way(cluster, &team).await?;
    an_aggregated_role_follows(cluster).await?;
    a_namespace_goes_once_the_last_object_has_gone(cluster, &team).await
}

async fn what_a_namespace_has_comes_back(cluster: &TestCluster, team: &TestNamespace) -> TestResult {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(team.client());
    eventually!(cluster, "the account appears", accounts.get_opt("default").await?.is_some());
    let maps: Api<ConfigMap> = Api::default_namespaced(team.client());
    eventually!(cluster, "the certificate appears", maps.get_opt("kube-root-ca.crt").await?.is_some());
    let forged = Patch::Merge(json!({"data": {"ca.crt": "forged"}}));
    maps.patch("kube-root-ca.crt", &PatchParams::default(), &forged).await?;
    eventually!(cluster, "the certificate is put right", {
        let data = maps.get("kube-root-ca.crt").await?.data.unwrap_or_default();
        data["ca.crt"].starts_with("-----BEGIN CERTIFICATE")
    });
    Ok(())
}

async fn a_deployment_is_rolled_out_and_goes(cluster: &TestCluster, team: &TestNamespace) -> TestResult {
    let deployments: Api<Deployment> = Api::default_namespaced(team.client());
    let pods: Api<Pod> = Api::default_namespaced(team.client());
    let mut web = deployment(3)?;
    if let Some(spec) = &mut web.spec {
        spec.revision_history_limit = Some(0);
    }
    deployments.create(&PostParams::default(), &web).await?;
    let available = async || -> Result<Option<i32>, BoxError> {
        Ok(deployments.get("web").await?.status.and_then(|status| status.available_replicas))
    };
    eventually!(cluster, "all replicas are available", available().await? == Some(3));
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await?;
    let sets: Api<ReplicaSet> = Api::default_namespaced(team.client());
    eventually!(cluster, "the new template is rolled out and the old set forgotten", {
        let annotations = deployments.get("web").await?.metadata.annotations.unwrap_or_default();
        annotations.get("deployment.kubernetes.io/revision").map(String::as_str) == Some("2")
            && sets.list(&ListParams::default()).await?.items.len() == 1
    });
    let of_set = ListParams::default().labels("app=web");
    let first = pods.list(&of_set).await?.items.swap_remove(0).metadata.name.unwrap_or_default();
    let label = |app: &str| Patch::Merge(json!({"metadata": {"labels": {"app": app}}}));
    pods.patch(&first, &PatchParams::default(), &label("debug")).await?;
    let is_free = async || -> Result<bool, BoxError> {
        Ok(pods.get(&first).await?.metadata.owner_references.unwrap_or_default().is_empty())
    };
    eventually!(cluster, "a pod that was relabelled is let go", is_free().await?);
    pods.patch(&first, &PatchParams::default(), &label("web")).await?;
    eventually!(cluster, "it is adopted again, and one is too much", {
        pods.get_opt(&first).await?.is_none_or(|pod| pod.metadata.owner_references.is_some())
            && pods.list(&of_set).await?.items.len() == 3
    });
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    deployments.delete("web", &orphan).await?;
    eventually!(cluster, "the deployment goes alone", deployments.get_opt("web").await?.is_none());
    deployments.create(&PostParams::default(), &web).await?;
    eventually!(cluster, "its successor takes the set over", {
        let items = sets.list(&ListParams::default()).await?.items;
        items.iter().all(|set| set.metadata.owner_references.is_some())
    });
    deployments.delete("web", &DeleteParams::foreground()).await?;
    eventually!(cluster, "everything goes with the deployment", {
        deployments.get_opt("web").await?.is_none() && pods.list(&of_set).await?.items.is_empty()
    });
    Ok(())
}

async fn pods_wait_for_nodes_that_come_and_go(cluster: &TestCluster, team: &TestNamespace) -> TestResult {
    let pods: Api<Pod> = Api::default_namespaced(team.client());
    let picky: Pod = object(json!({"metadata": {"name": "picky"}, "spec": {
        "nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "i"}]}}))?;
    pods.create(&PostParams::default(), &picky).await?;
    eventually!(cluster, "the scheduler says why the pod waits", {
        let conditions = pods.get("picky").await?.status.and_then(|status| status.conditions);
        conditions.unwrap_or_default().iter().any(|one| one.reason.as_deref() == Some("Unschedulable"))
    });
    let nodes: Api<Node> = Api::all(cluster.client());
    let late: Node = object(json!({"metadata": {"name": "late", "labels": {"disk": "ssd"}}}))?;
    nodes.create(&PostParams::default(), &late).await?;
    eventually!(cluster, "it runs on the node that fits", {
        pods.get("picky").await?.status.and_then(|status| status.phase).as_deref() == Some("Running")
    });
    nodes.delete("late", &DeleteParams::default()).await?;
    eventually!(cluster, "it goes with its node", pods.get_opt("picky").await?.is_none());
    Ok(())
}

async fn owners_go_in_every_way(cluster: &TestCluster, team: &TestNamespace) -> TestResult {
    let maps: Api<ConfigMap> = Api::default_namespaced(team.client());
    let post = PostParams::default();
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground, PropagationPolicy::Orphan] {
        let owner = maps.create(&post, &object(json!({"metadata": {"name": "owner"}}))?).await?;
        maps.create(&post, &owned("child", &owner)?).await?;
        let how = DeleteParams { propagation_policy: Some(policy.clone()), ..DeleteParams::default() };
        maps.delete("owner", &how).await?;
        eventually!(cluster, "the owner goes", maps.get_opt("owner").await?.is_none());
        if policy == PropagationPolicy::Orphan {
            assert_eq!(maps.get("child").await?.metadata.owner_references, None);
        } else {
            eventually!(cluster, "its dependent goes", maps.get_opt("child").await?.is_none());
        }
    }
    Ok(())
}

async fn an_aggregated_role_follows(cluster: &TestCluster) -> TestResult {
    let roles: Api<ClusterRole> = Api::all(cluster.client());
    // A rule that nobody has who puts roles together.
    let part = json!({
        "metadata": {"name": "part", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}],
    });
    roles.create(&PostParams::default(), &object(part)?).await?;
    eventually!(cluster, "the rule is part of the aggregated role", {
        let rules = roles.get("view").await?.rules.unwrap_or_default();
        rules.iter().any(|rule| rule.resources.iter().flatten().any(|resource| resource == "widgets"))
    });
    Ok(())
}

async fn a_namespace_goes_once_the_last_object_has_gone(
    cluster: &TestCluster,
    team: &TestNamespace,
) -> TestResult {
    let maps: Api<ConfigMap> = Api::default_namespaced(team.client());
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    maps.create(&PostParams::default(), &object(held)?).await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.delete(team.name(), &DeleteParams::default()).await?;
    eventually!(cluster, "the namespace says what it waits for", {
        let conditions = namespaces.get(team.name()).await?.status.and_then(|status| status.conditions);
        conditions.unwrap_or_default().iter().any(|one| one.type_ == "NamespaceContentRemaining")
    });
    assert_eq!(
        namespaces.get(team.name()).await?.status.and_then(|status| status.phase).as_deref(),
        Some("Terminating")
    );
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &release).await?;
    eventually!(cluster, "the namespace goes", namespaces.get_opt(team.name()).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn the_clusters_own_parts_get_by_with_their_roles_and_none_is_in_system_masters() -> TestResult {
    let scratch = Scratch::new()?;
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
        rules: [{level: Metadata}]\n";
    let audit = AuditConfig {
        policy_file: scratch.file("policy.yaml", policy)?,
        log_path: scratch.file("audit.log", "")?,
        log_max_size: 0,
        log_max_backup: 0,
    };
    let log = audit.log_path.clone();
    let access = AccessConfig { audit: Some(audit), ..AccessConfig::default() };
    let cluster = TestCluster::with(ClusterConfig { nodes: 2, access, ..ClusterConfig::default() }).await?;
    live_through_everything(&cluster).await?;
    for account in ACCOUNTS {
        let report = cluster.permissions(&format!("system:serviceaccount:kube-system:{account}")).await?;
        assert!(report.used > 0 && report.not_granted.is_empty() && !report.incomplete, "{report}");
    }
    cluster.shutdown().await;

    let mut seen = BTreeSet::new();
    for line in std::fs::read_to_string(&log)?.lines() {
        let event: Value = serde_json::from_str(line)?;
        let user = event["user"]["username"].as_str().unwrap_or_default().to_owned();
        // The test itself.
        if user == "kubernetes-admin" {
            continue;
        }
        assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow", "{line}");
        let groups = event["user"]["groups"].as_array().cloned().unwrap_or_default();
        assert!(!groups.contains(&"system:masters".into()), "{line}");
        seen.insert(user);
    }
    let accounts = ACCOUNTS.map(|account| format!("system:serviceaccount:kube-system:{account}"));
    assert_eq!(seen, USERS.map(str::to_owned).into_iter().chain(accounts).collect());
    Ok(())
}

/// A cluster whose authorizers are these.
async fn authorized_by(
    modes: &[&str],
    webhook: Option<AuthorizationWebhookConfig>,
) -> Result<TestCluster, BoxError> {
    let access = AccessConfig {
        authorization_modes: modes.iter().map(ToString::to_string).collect(),
        authorization_webhook: webhook,
        ..AccessConfig::default()
    };
    Ok(TestCluster::with(ClusterConfig { nodes: 1, access, ..ClusterConfig::default() }).await?)
}

#[tokio::test]
async fn the_clusters_own_parts_work_whichever_authorizers_there_are() -> TestResult {
    for modes in [&["RBAC"][..], &["Node", "RBAC"], &["RBAC", "Node"], &["AlwaysAllow"]] {
        live_through_everything(&authorized_by(modes, None).await?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_webhook_that_knows_the_roles_of_kubernetes_lets_the_clusters_own_parts_work() -> TestResult {
    let scratch = Scratch::new()?;
    let bind = Some(([127, 0, 0, 1], 0).into());
    let central =
        TestCluster::with(ClusterConfig { bind, controllers: false, ..ClusterConfig::default() }).await?;
    let kubeconfig = central.cluster().kubeconfig("c", "edge", &["system:masters"])?;
    let mut kubeconfig = serde_json::to_value(kubeconfig)?;
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    kubeconfig["clusters"][0]["cluster"]["server"] =
        format!("{}{reviews}", central.cluster().url().unwrap_or_default()).into();
    let webhook = AuthorizationWebhookConfig {
        config_file: scratch.file("webhook", &kubeconfig.to_string())?,
        version: "v1".into(),
        cache_authorized_ttl: Duration::from_secs(300),
        cache_unauthorized_ttl: Duration::from_secs(30),
    };
    live_through_everything(&authorized_by(&["Webhook"], Some(webhook)).await?).await
}

#[tokio::test]
async fn a_cluster_that_denies_its_own_parts_everything_starts_and_stops() -> TestResult {
    let cluster = authorized_by(&["AlwaysDeny"], None).await?;
    let nodes = Api::<Node>::all(cluster.client()).list(&ListParams::default()).await?;
    assert_eq!(nodes.items.len(), 1);
    cluster.shutdown().await;
    Ok(())
}
