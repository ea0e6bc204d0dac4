//! Simulated nodes, the scheduler and the kubelet.

use k8s_openapi::api::core::v1::{ComponentStatus, Node, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kubewright_testing::{BoxError, ClusterConfig, TestCluster, eventually};
use serde_json::{Value, json};

fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    spec["containers"] = json!([{"name": "c", "image": "i"}]);
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

/// Makes a pod once its account is there: on a busy machine that takes longer than the API server waits for it.
async fn create(cluster: &TestCluster, pod: &Pod) -> Result<(), BoxError> {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    eventually!(cluster, "the account of pods is there", accounts.get_opt("default").await?.is_some());
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), pod).await?;
    Ok(())
}

async fn runs(pods: &Api<Pod>, name: &str) -> Result<bool, BoxError> {
    Ok(pods.get(name).await?.status.and_then(|status| status.phase).as_deref() == Some("Running"))
}

#[tokio::test]
async fn a_pod_waits_until_a_node_takes_it() -> Result<(), BoxError> {
    let cluster = TestCluster::with(ClusterConfig { nodes: 1, ..ClusterConfig::default() }).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let nodes: Api<Node> = Api::all(cluster.client());
    create(&cluster, &pod("picky", json!({"nodeSelector": {"disk": "ssd"}}))).await?;
    eventually!(cluster, "the pod says why it waits", {
        let conditions =
            pods.get("picky").await?.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("Unschedulable"))
    });
    let label = json!({"metadata": {"labels": {"disk": "ssd"}}});
    nodes.patch("node-0", &PatchParams::default(), &Patch::Merge(label)).await?;
    eventually!(cluster, "the pod runs", runs(&pods, "picky").await?);
    Ok(())
}

#[tokio::test]
async fn a_node_that_a_user_creates_becomes_ready_and_its_pods_go_with_it() -> Result<(), BoxError> {
    let cluster = TestCluster::with(ClusterConfig::default()).await?;
    let nodes: Api<Node> = Api::all(cluster.client());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "mine"}}))?;
    nodes.create(&PostParams::default(), &node).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    create(&cluster, &pod("p", json!({}))).await?;
    eventually!(cluster, "the pod runs on it", runs(&pods, "p").await?);
    nodes.delete("mine", &DeleteParams::default()).await?;
    eventually!(cluster, "the pod goes", pods.get_opt("p").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_deleted_pod_goes_at_once_whatever_its_grace_period() -> Result<(), BoxError> {
    let cluster = TestCluster::start().await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    create(&cluster, &pod("p", json!({"terminationGracePeriodSeconds": 3600}))).await?;
    eventually!(cluster, "the pod runs", runs(&pods, "p").await?);
    pods.delete("p", &DeleteParams::default()).await?;
    eventually!(cluster, "the pod goes", pods.get_opt("p").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn the_components_of_a_cluster_are_healthy() -> Result<(), BoxError> {
    let cluster = TestCluster::with(ClusterConfig::default()).await?;
    let components: Api<ComponentStatus> = Api::all(cluster.client());
    let listed = components.list(&ListParams::default()).await?;
    let names: Vec<_> = listed.items.iter().filter_map(|found| found.metadata.name.as_deref()).collect();
    assert_eq!(names, ["etcd-0", "controller-manager", "scheduler"]);
    let scheduler = components.get("scheduler").await?;
    let conditions = scheduler.conditions.unwrap_or_default();
    assert_eq!((conditions[0].type_.as_str(), conditions[0].status.as_str()), ("Healthy", "True"));
    assert!(components.get_opt("cloud-controller-manager").await?.is_none());
    Ok(())
}
