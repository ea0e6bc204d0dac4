//! Existing kube-rs code runs against a test cluster as it is.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kubewright_testing::{BoxError, ClusterConfig, TestCluster};
use serde_json::json;

use crate::mapper::definition;

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": "x"}}, "data": {"k": "v"}}))
        .unwrap()
}

#[tokio::test]
async fn a_config_map_is_created_listed_patched_watched_and_deleted() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let namespace = cluster.namespace("plain").await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(namespace.client());
    let created = maps.create(&PostParams::default(), &map("a")).await?;
    let version = created.metadata.resource_version.clone().unwrap_or_default();

    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "w"}}))).await?;
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"other": "1"}});
    let after = maps.patch("a", &PatchParams::apply("me"), &Patch::Apply(&applied)).await?;
    assert_eq!(after.data.unwrap_or_default().len(), 2);
    assert_eq!(maps.list(&ListParams::default().labels("app=x")).await?.items.len(), 1);
    assert_eq!(maps.list(&ListParams::default().labels("app=y")).await?.items.len(), 0);
    maps.delete("a", &DeleteParams::default()).await?;

    let events: Vec<&str> = maps
        .watch(&WatchParams::default(), &version)
        .await?
        .take(3)
        .map_ok(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => "other",
        })
        .try_collect()
        .await?;
    assert_eq!(events, ["modified", "modified", "deleted"]);
    Ok(())
}

#[tokio::test]
async fn an_update_of_a_stale_object_is_a_conflict() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let stale = maps.create(&PostParams::default(), &map("a")).await?;
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "w"}}))).await?;
    let refused = maps.replace("a", &PostParams::default(), &stale).await;
    assert!(
        matches!(refused, Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "Conflict")
    );
    Ok(())
}

#[tokio::test]
async fn every_test_gets_a_namespace_of_its_own() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let (one, two) = (cluster.namespace("mine").await?, cluster.namespace("mine").await?);
    assert_ne!(one.name(), two.name());
    let maps: Api<ConfigMap> = Api::default_namespaced(one.client());
    maps.create(&PostParams::default(), &map("a")).await?;
    let others: Api<ConfigMap> = Api::default_namespaced(two.client());
    assert!(others.get_opt("a").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_dump_names_the_objects_and_not_what_every_cluster_has() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    Api::<ConfigMap>::default_namespaced(cluster.client())
        .create(&PostParams::default(), &map("telling"))
        .await?;
    let dump = cluster.dump().await;
    assert!(dump.contains("ConfigMap default/telling"), "{dump}");
    assert!(!dump.contains("Namespace kube-system"), "{dump}");
    Ok(())
}

#[tokio::test]
async fn objects_of_files_are_applied_with_their_definitions_first() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let folder = std::env::temp_dir().join(format!("kubewright-objects-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let kinds = serde_json::to_value(definition("widgets", "Widget", &["v1"]))?;
    let mut kinds = kinds.as_object().cloned().ok_or("an object")?;
    kinds.insert("apiVersion".into(), json!("apiextensions.k8s.io/v1"));
    kinds.insert("kind".into(), json!("CustomResourceDefinition"));
    let widget = "# a comment\n---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n";
    std::fs::write(folder.join("a.yaml"), widget)?;
    std::fs::write(folder.join("b.json"), json!(kinds).to_string())?;
    std::fs::write(folder.join("notes.txt"), "no objects")?;
    let applied = cluster.apply_files(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    applied?;
    let mapper = kubewright::client::Mapper::new(cluster.client());
    let widgets = mapper.kind("example.com", "Widget").await?.kind;
    assert!(mapper.api(&cluster.client(), &widgets, Some("default")).get_opt("w").await?.is_some());
    let gone = cluster.apply_files(&folder).await.unwrap_err();
    assert_eq!(gone.to_string(), format!("cannot read {}", folder.display()));
    assert!(cluster.apply("{").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_kubeconfig_reaches_a_cluster_with_a_port_as_its_user() -> Result<(), BoxError> {
    let bind = Some(([127, 0, 0, 1], 0).into());
    let config = ClusterConfig { bind, controllers: false, ..ClusterConfig::default() };
    let cluster = TestCluster::with(config).await?;
    let kubeconfig = cluster.cluster().kubeconfig("test", "jane", &["devs"])?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    let client = kubewright::client::Connect::client_of(config)?;
    let reviews: Api<SelfSubjectReview> = Api::all(client);
    let review = reviews.create(&PostParams::default(), &Default::default()).await?;
    let user = review.status.and_then(|status| status.user_info).ok_or("who one is")?;
    assert_eq!(user.username.as_deref(), Some("jane"));
    assert_eq!(user.groups.unwrap_or_default(), ["devs", "system:authenticated"]);
    Ok(())
}
