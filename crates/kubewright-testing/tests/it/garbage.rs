//! Garbage collection by owner references.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kubewright_testing::{BoxError, TestCluster, eventually};
use serde_json::json;

fn owned(name: &str, owner: &ConfigMap) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid,
        "blockOwnerDeletion": true}]}}))
    .unwrap()
}

fn named(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[tokio::test]
async fn dependents_of_dependents_go_with_their_owner() -> Result<(), BoxError> {
    let cluster = TestCluster::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let post = PostParams::default();
    let owner = maps.create(&post, &named("owner")).await?;
    let child = maps.create(&post, &owned("child", &owner)).await?;
    maps.create(&post, &owned("grandchild", &child)).await?;
    maps.create(&post, &named("stranger")).await?;
    maps.delete("owner", &DeleteParams::default()).await?;
    eventually!(
        cluster,
        "child and grandchild go",
        maps.get_opt("child").await?.is_none() && maps.get_opt("grandchild").await?.is_none()
    );
    assert!(maps.get_opt("stranger").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn an_object_whose_owner_never_existed_is_collected() -> Result<(), BoxError> {
    let cluster = TestCluster::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let mut ghost = named("ghost");
    ghost.metadata.uid = Some("00000000-0000-4000-8000-000000000000".into());
    maps.create(&PostParams::default(), &owned("child", &ghost)).await?;
    eventually!(cluster, "the child of nobody goes", maps.get_opt("child").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn foreground_deletion_takes_the_dependents_first() -> Result<(), BoxError> {
    let cluster = TestCluster::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let owner = maps.create(&PostParams::default(), &named("owner")).await?;
    let mut child = owned("child", &owner);
    child.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    maps.create(&PostParams::default(), &child).await?;
    maps.delete("owner", &DeleteParams::foreground()).await?;
    eventually!(
        cluster,
        "the child is being deleted while the owner waits",
        maps.get("child").await?.metadata.deletion_timestamp.is_some()
    );
    assert!(maps.get_opt("owner").await?.is_some());
    maps.patch("child", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await?;
    eventually!(cluster, "then the owner goes", maps.get_opt("owner").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn orphans_stay_without_their_owner() -> Result<(), BoxError> {
    let cluster = TestCluster::start().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let owner = maps.create(&PostParams::default(), &named("owner")).await?;
    maps.create(&PostParams::default(), &owned("child", &owner)).await?;
    maps.delete("owner", &DeleteParams::orphan()).await?;
    eventually!(cluster, "the owner goes", maps.get_opt("owner").await?.is_none());
    let child = maps.get("child").await?;
    assert_eq!(child.metadata.owner_references.unwrap_or_default(), []);
    assert!(child.metadata.deletion_timestamp.is_none());
    Ok(())
}
