//! Namespaces: what they start with and how they go.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kubewright_testing::{BoxError, TestCluster, eventually};
use serde_json::json;

#[tokio::test]
async fn a_namespace_gets_its_account_and_the_authoritys_certificate() -> Result<(), BoxError> {
    let cluster = TestCluster::start().await?;
    let namespace = cluster.namespace("team").await?;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(namespace.client());
    eventually!(cluster, "the account appears", accounts.get_opt("default").await?.is_some());
    let maps: Api<ConfigMap> = Api::default_namespaced(namespace.client());
    eventually!(cluster, "the certificate appears", maps.get_opt("kube-root-ca.crt").await?.is_some());
    maps.delete("kube-root-ca.crt", &DeleteParams::default()).await?;
    eventually!(cluster, "and again when it was deleted", maps.get_opt("kube-root-ca.crt").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_deleted_namespace_takes_everything_in_it_along() -> Result<(), BoxError> {
    let cluster = TestCluster::start().await?;
    let namespace = cluster.namespace("team").await?;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(namespace.client());
    eventually!(cluster, "the account appears", accounts.get_opt("default").await?.is_some());
    let pods: Api<Pod> = Api::default_namespaced(namespace.client());
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
    )?;
    pods.create(&PostParams::default(), &pod).await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.delete(namespace.name(), &DeleteParams::default()).await?;
    eventually!(cluster, "the namespace goes", namespaces.get_opt(namespace.name()).await?.is_none());
    assert!(pods.get_opt("p").await?.is_none());
    Ok(())
}
