//! The webhook on a cluster, asked by the API server as it is in production.

use kube::Api;
use kube::api::PostParams;
use kubewright_testing::{BoxError, TestCluster};
use serde_json::{Value, json};

use super::*;

type TestResult = std::result::Result<(), BoxError>;

fn pod(name: &str, annotations: Value) -> Pod {
    let spec = json!({"containers": [{"name": "main", "image": "nginx"}]});
    let metadata = json!({"name": name, "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod")
}

#[tokio::test]
async fn pods_say_who_created_them_whatever_they_claim() -> TestResult {
    let cluster = TestCluster::start().await?;
    let _operator = cluster.run(operator()).await?;
    let pods: Api<Pod> =
        Api::default_namespaced(cluster.client_as("jane", &["system:masters", "system:authenticated"]));
    let plain = pods.create(&PostParams::default(), &pod("plain", json!({"a": "b"}))).await?;
    assert_eq!(plain.annotations()[CREATED_BY], "jane");
    assert_eq!(plain.annotations()["a"], "b");
    let liar = pods.create(&PostParams::default(), &pod("liar", json!({CREATED_BY: "root"}))).await?;
    assert_eq!(liar.annotations()[CREATED_BY], "jane");
    Ok(())
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_and_stores_nothing() -> TestResult {
    let cluster = TestCluster::start().await?;
    let _operator = cluster.run(operator()).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    let shown = pods.create(&trial, &pod("trial", json!({}))).await?;
    assert_eq!(shown.annotations()[CREATED_BY], "kubernetes-admin");
    assert!(pods.get_opt("trial").await?.is_none());
    Ok(())
}
