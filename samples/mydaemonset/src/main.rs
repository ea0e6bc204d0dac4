//! MyDaemonSet: runs one pod of an image on every node. Nodes come and go, images change, pods that
//! nobody wants any more are removed.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, Toleration};
use kube::{CustomResource, ResourceExt};
use kubewright::{Action, Context, Controller, Key, Operator, Reconciler, Result, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Runs one pod of `image` on every node.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug)]
#[kube(group = "apps.zhongmingmao.io", version = "v1beta1", kind = "MyDaemonSet", namespaced)]
#[kube(status = "MyDaemonSetStatus", shortname = "myds")]
#[kube(printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"))]
#[kube(printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableReplicas"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase")]
pub struct MyDaemonSetSpec {
    /// The image that every node runs.
    #[schemars(length(min = 1))]
    pub image: String,
}

/// What has become of it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct MyDaemonSetStatus {
    /// How many nodes have a pod that is ready.
    pub available_replicas: i32,
}

struct OnePodPerNode;

impl Reconciler for OnePodPerNode {
    type Object = MyDaemonSet;

    async fn reconcile(&self, set: Arc<MyDaemonSet>, cx: &Context) -> Result<Action> {
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Action::done()); // the pods go with their owner
        }
        let nodes = cx.list::<Node>().await?;
        let pods = nodes.iter().filter(|node| node.metadata.deletion_timestamp.is_none());
        let children = cx.apply_children(&set, pods.map(|node| pod_on(node, &set))).await?;
        cx.patch_status(&set, MyDaemonSetStatus { available_replicas: children.ready() }).await?;
        Ok(Action::done())
    }
}

/// The pod's name follows from the set's and the node's, so that there is never a second one.
fn pod_on(node: &Node, set: &MyDaemonSet) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(format!("{}-{}", set.name_any(), node.name_any()));
    pod.metadata.labels = Some([("app".to_owned(), set.name_any())].into());
    let container =
        Container { name: "main".into(), image: Some(set.spec.image.clone()), ..Container::default() };
    let stay = Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    };
    pod.spec = Some(PodSpec {
        node_name: Some(node.name_any()),
        containers: vec![container],
        tolerations: Some(vec![stay]),
        ..PodSpec::default()
    });
    pod
}

/// A node that comes, goes or changes concerns every set.
fn every_set(_: &Node, view: &View) -> Result<Vec<Key>> {
    view.keys::<MyDaemonSet>()
}

fn operator() -> Operator {
    Operator::new("mydaemonset")
        .version(env!("CARGO_PKG_VERSION"))
        .controller(Controller::new(OnePodPerNode).owns::<Pod>().watches::<Node>(every_set))
}

#[tokio::main]
async fn main() -> Result {
    operator().main().await
}

#[cfg(test)]
mod tests;
