//! The operator on a cluster, under the identity of the role its own manifests print.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, CustomResourceExt, discovery};
use kubewright_testing::{BoxError, ClusterConfig, TestCluster, eventually};
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;

type TestResult = std::result::Result<(), BoxError>;

const NAMESPACE: &str = "mydaemonset-system";

/// A cluster with the operator's manifests applied.
async fn cluster(nodes: usize) -> std::result::Result<TestCluster, BoxError> {
    let cluster = TestCluster::with(ClusterConfig { nodes, ..ClusterConfig::default() }).await?;
    for document in operator().manifests(NAMESPACE, None)?.split("---\n").filter(|part| !part.is_empty()) {
        let object: DynamicObject = serde_saphyr::from_str(document)?;
        let types = object.types.clone().unwrap_or_default();
        let (resource, _) =
            discovery::pinned_kind(&cluster.client(), &GroupVersionKind::try_from(types)?).await?;
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &resource),
            None => Api::all_with(cluster.client(), &resource),
        };
        api.patch(&object.name_any(), &PatchParams::apply("test"), &Patch::Apply(&object)).await?;
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    eventually!(cluster, "the definition is established", {
        let definition = definitions.get(MyDaemonSet::crd_name()).await?;
        let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
    });
    Ok(cluster)
}

/// Runs the operator as its service account. Aborting the task is as sudden as kill -9.
fn run(cluster: &TestCluster) -> JoinHandle<Result> {
    let user = format!("system:serviceaccount:{NAMESPACE}:mydaemonset");
    let client = cluster.client_as(&user, &["system:serviceaccounts", "system:authenticated"]);
    tokio::spawn(operator().run(client, std::future::pending()))
}

async fn create(client: Client, image: &str) -> std::result::Result<MyDaemonSet, kube::Error> {
    let set = MyDaemonSet::new("web", MyDaemonSetSpec { image: image.into() });
    Api::<MyDaemonSet>::default_namespaced(client).create(&PostParams::default(), &set).await
}

/// Node and image of each pod, sorted.
async fn pods(client: Client) -> std::result::Result<Vec<(String, String)>, kube::Error> {
    let pods = Api::<Pod>::default_namespaced(client).list(&ListParams::default()).await?;
    let mut found: Vec<(String, String)> = pods
        .items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| pod.spec)
        .map(|spec| {
            (spec.node_name.unwrap_or_default(), spec.containers[0].image.clone().unwrap_or_default())
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Whether there is exactly one pod of this image on every node.
async fn one_a_node(client: Client, image: &str) -> std::result::Result<bool, kube::Error> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let mut wanted: Vec<(String, String)> =
        nodes.items.iter().map(|node| (node.name_any(), image.to_owned())).collect();
    wanted.sort();
    Ok(pods(client).await? == wanted)
}

#[tokio::test]
async fn every_node_gets_its_pod_and_the_status_counts_them() -> TestResult {
    let cluster = cluster(3).await?;
    let _operator = run(&cluster);
    let client = cluster.client();
    create(client.clone(), "nginx").await?;
    eventually!(cluster, "one pod a node", one_a_node(client.clone(), "nginx").await?);
    let sets: Api<MyDaemonSet> = Api::default_namespaced(client.clone());
    eventually!(cluster, "all are available", {
        sets.get_status("web").await?.status.is_some_and(|status| status.available_replicas == 3)
    });
    sets.delete("web", &DeleteParams::default()).await?;
    eventually!(cluster, "the pods go with their set", pods(client.clone()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_new_image_and_nodes_that_come_and_go_are_followed() -> TestResult {
    let cluster = cluster(2).await?;
    let _operator = run(&cluster);
    let client = cluster.client();
    create(client.clone(), "one").await?;
    eventually!(cluster, "one pod a node", one_a_node(client.clone(), "one").await?);
    let sets: Api<MyDaemonSet> = Api::default_namespaced(client.clone());
    let image = Patch::Merge(json!({"spec": {"image": "two"}}));
    sets.patch("web", &PatchParams::default(), &image).await?;
    eventually!(cluster, "the new image is rolled out", one_a_node(client.clone(), "two").await?);
    let nodes: Api<Node> = Api::all(client.clone());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "late"}}))?;
    nodes.create(&PostParams::default(), &node).await?;
    eventually!(
        cluster,
        "the new node gets its pod",
        pods(client.clone()).await?.iter().any(|(node, _)| node == "late")
    );
    nodes.delete("late", &DeleteParams::default()).await?;
    eventually!(cluster, "the pod of a node that is gone is removed", {
        !pods(client.clone()).await?.iter().any(|(node, _)| node == "late")
    });
    Ok(())
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_comes_back() -> TestResult {
    let cluster = cluster(1).await?;
    let _operator = run(&cluster);
    let client = cluster.client();
    create(client.clone(), "nginx").await?;
    eventually!(cluster, "one pod a node", one_a_node(client.clone(), "nginx").await?);
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = api.list(&ListParams::default()).await?.items.remove(0);
    api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    eventually!(cluster, "another pod takes its place", {
        api.get_opt(&pod.name_any()).await?.is_some_and(|new| new.metadata.uid != pod.metadata.uid)
    });
    Ok(())
}

#[tokio::test]
async fn an_operator_killed_while_it_creates_pods_leaves_exactly_one_a_node() -> TestResult {
    let cluster = cluster(0).await?;
    let client = cluster.client();
    let nodes: Api<Node> = Api::all(client.clone());
    for number in 0..200 {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": format!("n{number}")}}))?;
        nodes.create(&PostParams::default(), &node).await?;
    }
    create(client.clone(), "nginx").await?;
    for at_least in [1, 50, 120] {
        let operator = run(&cluster);
        eventually!(cluster, "some pods are there", pods(client.clone()).await?.len() >= at_least);
        operator.abort();
    }
    let _operator = run(&cluster);
    eventually!(cluster, "one pod a node", one_a_node(client.clone(), "nginx").await?);
    Ok(())
}

#[tokio::test]
async fn the_operator_uses_nothing_beyond_the_role_its_manifests_print() -> TestResult {
    let cluster = TestCluster::with(ClusterConfig { nodes: 2, ..ClusterConfig::default() }).await?;
    let operator = cluster.run(operator()).await?;
    let client = cluster.client();
    create(client.clone(), "one").await?;
    eventually!(cluster, "one pod a node", one_a_node(client.clone(), "one").await?);
    let sets: Api<MyDaemonSet> = Api::default_namespaced(client.clone());
    let image = Patch::Merge(json!({"spec": {"image": "two"}}));
    sets.patch("web", &PatchParams::default(), &image).await?;
    eventually!(cluster, "the new image is rolled out", one_a_node(client.clone(), "two").await?);
    eventually!(cluster, "all are available", {
        sets.get_status("web").await?.status.is_some_and(|status| status.available_replicas == 2)
    });
    sets.delete("web", &DeleteParams::default()).await?;
    eventually!(cluster, "the pods go with their set", pods(client.clone()).await?.is_empty());
    let report = cluster.permissions(operator.user()).await?;
    assert!(report.used > 0 && report.not_granted.is_empty() && report.wide.is_empty(), "{report}");
    Ok(())
}

#[tokio::test]
async fn an_empty_image_is_refused_with_the_reason() -> TestResult {
    let cluster = cluster(0).await?;
    let error = create(cluster.client(), "").await.expect_err("the image is empty");
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!(status.code, 422);
    assert!(
        status.message.contains("spec.image in body should be at least 1 chars long"),
        "{}",
        status.message
    );
    Ok(())
}

#[test]
fn manifests_hold_the_definition_and_the_role() -> Result {
    let text = operator().manifests(NAMESPACE, None)?;
    for part in ["name: mydaemonsets.apps.zhongmingmao.io", "minLength: 1", "- myds", "- mydaemonsets/status"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    Ok(())
}
