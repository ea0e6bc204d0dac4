//! Deployments and ReplicaSets do what they do in Kubernetes.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kubewright_testing::{BoxError, ClusterConfig, TestCluster, eventually};
use serde_json::json;

fn deployment(replicas: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}},
    }))
    .unwrap()
}

async fn three_nodes() -> Result<TestCluster, BoxError> {
    Ok(TestCluster::with(ClusterConfig { nodes: 3, ..ClusterConfig::default() }).await?)
}

#[tokio::test]
async fn a_deployment_gets_its_pods_and_reports_them_available() -> Result<(), BoxError> {
    let cluster = three_nodes().await?;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    deployments.create(&PostParams::default(), &deployment(3)).await?;
    eventually!(
        cluster,
        "all replicas are available",
        deployments.get("web").await?.status.and_then(|status| status.available_replicas) == Some(3)
    );
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let mut nodes: Vec<String> = pods
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|pod| pod.spec?.node_name)
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["node-0", "node-1", "node-2"], "pods are spread");
    Ok(())
}

#[tokio::test]
async fn a_new_template_is_rolled_out_and_the_old_set_kept_for_an_undo() -> Result<(), BoxError> {
    let cluster = three_nodes().await?;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    deployments.create(&PostParams::default(), &deployment(4)).await?;
    eventually!(cluster, "the first pods run", pods.list(&ListParams::default()).await?.items.len() == 4);
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await?;
    eventually!(cluster, "all pods have the new image and none is left", {
        let all = pods.list(&ListParams::default()).await?.items;
        let new = |pod: &Pod| {
            pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some("nginx:2"))
        };
        all.len() == 4 && all.iter().all(new)
    });
    let sets: Api<ReplicaSet> = Api::default_namespaced(cluster.client());
    let mut replicas: Vec<i32> = sets
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|set| set.spec?.replicas)
        .collect();
    replicas.sort_unstable();
    assert_eq!(replicas, [0, 4]);
    eventually!(cluster, "the deployment has a second revision", {
        let annotations = deployments.get("web").await?.metadata.annotations.unwrap_or_default();
        annotations.get("deployment.kubernetes.io/revision").map(String::as_str) == Some("2")
    });
    Ok(())
}

#[tokio::test]
async fn a_pod_that_is_deleted_is_replaced_and_one_that_is_relabelled_is_let_go() -> Result<(), BoxError> {
    let cluster = three_nodes().await?;
    Api::<Deployment>::default_namespaced(cluster.client())
        .create(&PostParams::default(), &deployment(2))
        .await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let of_set = ListParams::default().labels("app=web");
    eventually!(cluster, "two pods are there", pods.list(&of_set).await?.items.len() == 2);
    let first = pods.list(&of_set).await?.items.swap_remove(0).metadata.name.unwrap_or_default();
    pods.delete(&first, &DeleteParams::default()).await?;
    eventually!(
        cluster,
        "another pod has taken its place",
        pods.get_opt(&first).await?.is_none() && pods.list(&of_set).await?.items.len() == 2
    );
    let second = pods.list(&of_set).await?.items.swap_remove(0).metadata.name.unwrap_or_default();
    pods.patch(
        &second,
        &PatchParams::default(),
        &Patch::Merge(json!({"metadata": {"labels": {"app": "debug"}}})),
    )
    .await?;
    eventually!(cluster, "the pod is free and the set is full again", {
        let freed = pods.get(&second).await?.metadata.owner_references.unwrap_or_default().is_empty();
        freed && pods.list(&of_set).await?.items.len() == 2
    });
    Ok(())
}

#[tokio::test]
async fn scaling_to_nothing_and_back_leaves_nothing_behind() -> Result<(), BoxError> {
    let cluster = three_nodes().await?;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    deployments.create(&PostParams::default(), &deployment(3)).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    for replicas in [0, 5, 1] {
        let scale = json!({"spec": {"replicas": replicas}});
        deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(scale)).await?;
        eventually!(
            cluster,
            "there are as many pods as replicas",
            pods.list(&ListParams::default()).await?.items.len() == usize::try_from(replicas)?
        );
    }
    Ok(())
}
