//! From kinds to resources and back, on a server whose kinds come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kubewright::cache::Cache;
use kubewright::client::{Mapper, MapperError};
use kubewright_testing::{BoxError, TestCluster, eventually};
use serde_json::json;

type TestResult = Result<(), BoxError>;

pub fn definition(plural: &str, kind: &str, versions: &[&str]) -> CustomResourceDefinition {
    let versions: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(index, name)| {
            json!({"name": name, "served": true, "storage": index == 0,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
        })
        .collect();
    serde_json::from_value(json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {
        "group": "example.com", "scope": "Namespaced", "versions": versions,
        "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
            "shortNames": [&kind.to_lowercase()[..2]]}}}))
    .unwrap()
}

/// A Widget in its first version.
pub fn widget() -> DynamicObject {
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    serde_json::from_value(object).unwrap()
}

/// A client that counts the answers to discovery by status.
fn counting(client: kube::Client) -> (kube::Client, Arc<[AtomicUsize; 2]>) {
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let counter = Arc::clone(&counts);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (client, counter) = (client.clone(), Arc::clone(&counter));
        async move {
            let response = client.send(request).await?;
            let unchanged = usize::from(response.status() == http::StatusCode::NOT_MODIFIED);
            counter[unchanged].fetch_add(1, Ordering::SeqCst);
            Ok::<_, kube::Error>(response)
        }
    });
    (kube::Client::new(service, "default"), counts)
}

#[tokio::test]
async fn built_in_kinds_and_resources_are_found_both_ways() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let mapper = Mapper::new(cluster.client());
    let deployment = mapper.kind("apps", "Deployment").await?;
    assert_eq!(deployment.kind, kubewright::Kind::of::<k8s_openapi::api::apps::v1::Deployment>());
    for name in ["deploy", "deployments.apps", "deployments.v1.apps", "Deployment"] {
        assert_eq!(mapper.resource(name).await?, deployment, "{name}");
    }
    assert!(deployment.subresources.contains(&"scale".to_owned()));
    assert!(!mapper.resource("no").await?.kind.namespaced, "nodes are the cluster's");
    assert_eq!(mapper.exactly("v1", "Pod").await?.kind.plural, "pods");
    let error = mapper.kind("example.com", "Widget").await.unwrap_err();
    assert!(matches!(error, MapperError::NotServed(_)));
    assert!(error.to_string().contains("Widget in group \"example.com\" is not served"), "{error}");
    let error = mapper.exactly("apps/v1beta1", "Deployment").await.unwrap_err();
    assert!(error.to_string().contains("has no version v1beta1, but v1"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_kind_that_was_missing_is_looked_for_again_and_nonsense_is_not_for_ever() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let (client, answers) = counting(cluster.client());
    let mapper = Mapper::new(client.clone());
    mapper.kind("apps", "Deployment").await?;
    assert!(mapper.kind("example.com", "Widget").await.is_err());
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    definitions.create(&PostParams::default(), &definition("widgets", "Widget", &["v1", "v2"])).await?;
    // Definitions are established at once here; a real server takes a moment.
    eventually!(cluster, "the kind is found", mapper.kind("example.com", "Widget").await.is_ok());
    let widget = mapper.resource("wi").await?;
    assert_eq!((widget.kind.version.as_str(), widget.kind.namespaced), ("v2", true));
    let first = mapper.exactly("example.com/v1", "Widget").await?;
    mapper.api(&client, &first.kind, Some("default")).create(&PostParams::default(), &self::widget()).await?;
    for _ in 0..50 {
        assert!(mapper.kind("example.com", "Gizmo").await.is_err());
    }
    let [whole, unchanged] = [0, 1].map(|index| answers[index].load(Ordering::SeqCst));
    // Two documents each time; what did not change was not sent again.
    assert!(whole + unchanged <= 2 * 7, "{whole} + {unchanged}");
    assert!(unchanged > whole / 2, "{whole} + {unchanged}");
    Ok(())
}

#[tokio::test]
async fn with_definitions_followed_what_goes_is_forgotten_and_versions_change() -> TestResult {
    let cluster = TestCluster::api_server_only().await?;
    let cache = Cache::new(cluster.client());
    let followed = cache.follow_definitions();
    for informer in &followed {
        informer.synced().await;
    }
    let mapper = cache.mapper();
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    definitions.create(&PostParams::default(), &definition("widgets", "Widget", &["v1"])).await?;
    eventually!(cluster, "the kind is found", mapper.kind("example.com", "Widget").await.is_ok());
    let mut more = definitions.get("widgets.example.com").await?;
    more.spec.versions = definition("widgets", "Widget", &["v1", "v2"]).spec.versions;
    definitions.replace("widgets.example.com", &PostParams::default(), &more).await?;
    eventually!(
        cluster,
        "the preferred version is the new one",
        mapper.kind("example.com", "Widget").await?.kind.version == "v2"
    );
    definitions.delete("widgets.example.com", &DeleteParams::default()).await?;
    eventually!(cluster, "the kind is gone", mapper.resource("widgets").await.is_err());
    Ok(())
}
