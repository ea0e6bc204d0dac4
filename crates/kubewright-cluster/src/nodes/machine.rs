//! A simulated machine: reports its node as ready, with capacity.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kubewright::{Action, Context, Controller, Reconciler, Result, Verb};
use serde_json::{Value, json};

use crate::controllers::time;

/// The taint that every node has until its machine has reported.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The node object of simulated machine number `index`, as it registers itself.
pub fn named(index: usize) -> Value {
    let name = format!("node-{index}");
    let labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "type": "simulated",
    });
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        // What admission would add.
        "spec": {"taints": [{"key": NOT_READY, "effect": "NoSchedule"}]},
    })
}

/// Keeps nodes ready.
pub struct Machine;

impl Machine {
    /// The controller of all nodes.
    pub fn controller() -> Controller {
        Controller::new(Machine).named("node").writes::<Node>([Verb::Patch])
    }
}

impl Reconciler for Machine {
    type Object = Node;

    async fn reconcile(&self, node: Arc<Node>, cx: &Context) -> Result<Action> {
        if node.metadata.deletion_timestamp.is_some() {
            return Ok(Action::done());
        }
        cx.patch_status(&node, status(&node, time::now())).await?;
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        if taints.iter().any(|taint| taint.key == NOT_READY) {
            let left: Vec<&Taint> = taints.iter().filter(|taint| taint.key != NOT_READY).collect();
            let patch = json!({
                // Somebody else may taint the node at the same time.
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"taints": if left.is_empty() { json!(null) } else { json!(left) }},
            });
            let api: Api<Node> = Api::all(cx.client());
            api.patch(cx.key().name(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Ok(Action::done())
    }
}

/// The status of a machine that is well.
fn status(node: &Node, now: Time) -> NodeStatus {
    let name = node.metadata.name.clone().unwrap_or_default();
    let before = node.status.clone().unwrap_or_default();
    let resources: BTreeMap<String, Quantity> =
        [("cpu", "32"), ("memory", "256Gi"), ("ephemeral-storage", "1Ti"), ("pods", "1100")]
            .map(|(resource, amount)| (resource.to_owned(), Quantity(amount.to_owned())))
            .into();
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        let old = before.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == status);
        NodeCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: old
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(now.clone())),
            last_heartbeat_time: old
                .and_then(|c| c.last_heartbeat_time.clone())
                .or_else(|| Some(now.clone())),
        }
    };
    NodeStatus {
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".into(), address: address(&name) },
            NodeAddress { type_: "Hostname".into(), address: name },
        ]),
        // What a user has set (extended resources) stays.
        capacity: Some(before.capacity.clone().unwrap_or_else(|| resources.clone())),
        allocatable: Some(before.allocatable.clone().unwrap_or(resources)),
        conditions: Some(vec![
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition(
                "PIDPressure",
                "False",
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ),
            condition("Ready", "True", "KubeletReady", "simulated kubelet is posting ready status"),
        ]),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: 10250 }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: "amd64".into(),
            boot_id: String::new(),
            container_runtime_version: "simulated://1".into(),
            kernel_version: "simulated".into(),
            kube_proxy_version: String::new(),
            kubelet_version: crate::KUBERNETES_VERSION.into(),
            machine_id: String::new(),
            operating_system: "linux".into(),
            os_image: "simulated".into(),
            system_uuid: node.metadata.uid.clone().unwrap_or_default(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// An address that is always the same for a name.
pub(super) fn address(name: &str) -> String {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [_, _, a, b] = hash.to_be_bytes();
    format!("172.18.{a}.{}", b.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_was_reported_is_reported_again_unchanged() {
        let now = time::now();
        let mut node: Node = serde_json::from_value(named(0)).unwrap();
        let first = status(&node, now.clone());
        node.status = Some(first.clone());
        let later = Time(now.0 + std::time::Duration::from_secs(60));
        assert_eq!(status(&node, later), first);
    }

    #[test]
    fn resources_that_a_user_has_set_stay() {
        let mut node: Node = serde_json::from_value(named(0)).unwrap();
        let gpus = BTreeMap::from([("example.com/gpu".to_owned(), Quantity("8".into()))]);
        node.status = Some(NodeStatus { capacity: Some(gpus.clone()), ..NodeStatus::default() });
        assert_eq!(status(&node, time::now()).capacity, Some(gpus));
    }
}
