//! The webhook on a cluster, asked by the API server as it is in production.

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kubewright_testing::{BoxError, TestCluster, TestOperator, eventually};
use serde_json::json;

use super::*;

type TestResult = std::result::Result<(), BoxError>;

fn pod(name: &str, image: &str) -> Pod {
    let spec = json!({"containers": [{"name": "main", "image": image}]});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a pod")
}

/// A cluster in which images of `registry.k8s.io` and of `ghcr.io/acme` are allowed.
async fn restricted() -> std::result::Result<(TestCluster, TestOperator), BoxError> {
    let cluster = TestCluster::start().await?;
    let operator = cluster.run(operator()).await?;
    let registries = vec!["registry.k8s.io".into(), "ghcr.io/acme".into()];
    let list = ImageAllowList::new("trusted", ImageAllowListSpec { registries });
    Api::<ImageAllowList>::all(cluster.client()).create(&PostParams::default(), &list).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    eventually!(cluster, "the list is known", pods.create(&trial, &pod("trial", "nginx")).await.is_err());
    Ok((cluster, operator))
}

#[tokio::test]
async fn only_images_of_allowed_registries_run() -> TestResult {
    let (cluster, _operator) = restricted().await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod("a", "registry.k8s.io/pause:3.10")).await?;
    pods.create(&PostParams::default(), &pod("b", "ghcr.io/acme/web@sha256:00")).await?;
    for image in ["nginx", "ghcr.io/acme-evil/web", "registry.k8s.io.evil.com/pause"] {
        let error = pods.create(&PostParams::default(), &pod("c", image)).await.expect_err(image);
        let kube::Error::Api(status) = error else { panic!("{error}") };
        let why = format!(
            "admission webhook \"pods.images.example.com\" denied the request: \
             spec.containers[0].image: image \"{image}\" is of no registry that trusted allows"
        );
        assert_eq!((status.code, status.message), (422, why));
    }
    Ok(())
}

#[tokio::test]
async fn a_running_pod_keeps_its_image_and_gets_no_other() -> TestResult {
    let (cluster, _operator) = restricted().await?;
    let lists: Api<ImageAllowList> = Api::all(cluster.client());
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod("a", "registry.k8s.io/pause:3.10")).await?;
    let only = json!({"spec": {"registries": ["ghcr.io/acme"]}});
    lists.patch("trusted", &PatchParams::default(), &Patch::Merge(only)).await?;
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    eventually!(cluster, "the list is shorter", {
        pods.create(&trial, &pod("trial", "registry.k8s.io/pause")).await.is_err()
    });
    let label = json!({"metadata": {"labels": {"still": "fine"}}});
    pods.patch("a", &PatchParams::default(), &Patch::Merge(label)).await?;
    let image = json!({"spec": {"containers": [{"name": "main", "image": "nginx"}]}});
    pods.patch("a", &PatchParams::default(), &Patch::Strategic(image)).await.expect_err("another image");
    Ok(())
}

#[tokio::test]
async fn without_a_list_everything_runs_with_a_warning() -> TestResult {
    let (cluster, operator) = restricted().await?;
    let lists: Api<ImageAllowList> = Api::all(cluster.client());
    lists.delete("trusted", &DeleteParams::default()).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    eventually!(cluster, "nginx runs", {
        pods.create(&PostParams::default(), &pod("web", "nginx")).await.is_ok()
    });
    operator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn pods_are_refused_while_nobody_answers() -> TestResult {
    let (cluster, operator) = restricted().await?;
    operator.stop().await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let error = pods.create(&PostParams::default(), &pod("a", "registry.k8s.io/pause")).await.unwrap_err();
    assert!(error.to_string().contains("failed calling webhook \"pods.images.example.com\""), "{error}");
    // Its own namespace is exempt: its pods can start again.
    let own: Api<Pod> = Api::namespaced(cluster.client(), "image-allow-list-system");
    own.create(&PostParams::default(), &pod("operator", "nginx")).await?;
    Ok(())
}

#[test]
fn registries_are_compared_by_whole_path_segments() {
    for (image, registry, from) in [
        ("nginx", "docker.io/library", true),
        ("nginx:1.29", "docker.io", true),
        ("acme/web", "docker.io/acme", true),
        ("acme/web", "docker.io/library", false),
        ("localhost/web", "localhost", true),
        ("localhost:5000/web", "localhost:5000/", true),
        ("ghcr.io/acme/web:1", "ghcr.io/acme/web", true),
        ("ghcr.io/acmes/web", "ghcr.io/acme", false),
    ] {
        assert_eq!(is_from(image, registry), from, "{image} from {registry}");
    }
}
