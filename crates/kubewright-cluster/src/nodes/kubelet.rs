//! The simulated kubelet: bound pods start at once and run for ever, pods that are deleted go at once, pods of a node
//! that is gone are collected. What a pod's status says is a function of the pod.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, HostIP,
    Node, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use kubewright::cache::Index;
use kubewright::{Action, Context, Controller, Key, Reconciler, Result, Verb};

use super::machine::address;
use crate::controllers::{pods, time};

/// Runs the pods of all nodes.
#[derive(Default)]
pub struct Kubelet {
    addresses: AtomicU32,
}

impl Kubelet {
    /// The controller of all bound pods.
    pub fn controller() -> Controller {
        Controller::new(Kubelet::default())
            .named("kubelet")
            .writes::<Pod>([Verb::Delete])
            .index(Index::path::<Pod>(pods::NODE_NAME))
            .watches::<Node>(|node, view| {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                view.indexed_keys::<Pod>(pods::NODE_NAME, name)
            })
            .concurrency(8)
    }

    /// 10.244.0.0/16, one after the other: as many pods as there are addresses can be told apart.
    fn next_address(&self) -> String {
        let [_, _, a, b] = (self.addresses.fetch_add(1, Ordering::Relaxed) % 65_534 + 1).to_be_bytes();
        format!("10.244.{a}.{b}")
    }
}

impl Reconciler for Kubelet {
    type Object = Pod;

    async fn reconcile(&self, pod: Arc<Pod>, cx: &Context) -> Result<Action> {
        let Some(node) = pods::node_of(&pod) else { return Ok(Action::never()) };
        let deleting = pod.metadata.deletion_timestamp.is_some();
        if deleting || cx.get::<Node>(Key::new("", node)).await?.is_none() {
            return remove(&pod, cx).await;
        }
        if pods::is_finished(&pod) {
            return Ok(Action::done());
        }
        let ip = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.clone())
            .unwrap_or_else(|| self.next_address());
        cx.patch_status(&pod, running(&pod, &ip, time::now())).await?;
        Ok(Action::done())
    }
}

/// Nothing has to be stopped: the pod goes at once.
async fn remove(pod: &Pod, cx: &Context) -> Result<Action> {
    let api: Api<Pod> = Api::namespaced(cx.client(), cx.key().namespace().unwrap_or_default());
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    match api.delete(cx.key().name(), &now).await {
        Ok(_) => Ok(Action::done()),
        // Gone, or another pod of that name by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Action::done()),
        Err(error) => Err(error.into()),
    }
}

/// The status of a pod whose containers all run.
fn running(pod: &Pod, ip: &str, now: Time) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let before = pod.status.clone().unwrap_or_default();
    let gates_open = spec.readiness_gates.iter().flatten().all(|gate| {
        before.conditions.iter().flatten().any(|c| c.type_ == gate.condition_type && c.status == "True")
    });
    let ready = if gates_open { "True" } else { "False" };
    let host = address(spec.node_name.as_deref().unwrap_or_default());
    let ip = if spec.host_network == Some(true) { host.clone() } else { ip.to_owned() };
    let condition = |type_: &str, status: &str, reason: Option<&str>| PodCondition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.map(str::to_owned),
        last_transition_time: before
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == type_ && c.status == status)
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(now.clone())),
        ..PodCondition::default()
    };
    PodStatus {
        phase: Some("Running".into()),
        conditions: Some(vec![
            condition("PodReadyToStartContainers", "True", None),
            condition("Initialized", "True", None),
            condition("Ready", ready, (!gates_open).then_some("ReadinessGatesNotReady")),
            condition("ContainersReady", "True", None),
            condition("PodScheduled", "True", None),
        ]),
        host_ip: Some(host.clone()),
        host_ips: Some(vec![HostIP { ip: host }]),
        pod_ip: Some(ip.clone()),
        pod_ips: Some(vec![PodIP { ip }]),
        start_time: before.start_time.clone().or_else(|| Some(now.clone())),
        observed_generation: pod.metadata.generation,
        container_statuses: Some(containers(pod, &spec, &before, &now)),
        ephemeral_container_statuses: ephemeral_containers(pod, &spec, &before, &now),
        init_container_statuses: spec
            .init_containers
            .as_ref()
            .filter(|containers| !containers.is_empty())
            .map(|containers| init_containers(pod, containers, &before, &now)),
        ..PodStatus::default()
    }
}

fn containers(pod: &Pod, spec: &PodSpec, before: &PodStatus, now: &Time) -> Vec<ContainerStatus> {
    let known = before.container_statuses.as_deref().unwrap_or_default();
    spec.containers.iter().map(|container| runs(pod, container, known, now)).collect()
}

/// Containers for debugging: they run, and nothing waits for them.
fn ephemeral_containers(
    pod: &Pod,
    spec: &PodSpec,
    before: &PodStatus,
    now: &Time,
) -> Option<Vec<ContainerStatus>> {
    let known = before.ephemeral_container_statuses.as_deref().unwrap_or_default();
    let statuses = spec.ephemeral_containers.as_ref().filter(|containers| !containers.is_empty())?.iter();
    let plain = |name: &str, image: &Option<String>| Container {
        name: name.into(),
        image: image.clone(),
        ..Container::default()
    };
    Some(
        statuses
            .map(|container| ContainerStatus {
                ready: false,
                started: None,
                ..runs(pod, &plain(&container.name, &container.image), known, now)
            })
            .collect(),
    )
}

fn init_containers(
    pod: &Pod,
    containers: &[Container],
    before: &PodStatus,
    now: &Time,
) -> Vec<ContainerStatus> {
    let known = before.init_container_statuses.as_deref().unwrap_or_default();
    containers
        .iter()
        .map(|container| {
            let mut status = runs(pod, container, known, now);
            // A sidecar goes on; any other has done its work.
            if container.restart_policy.as_deref() != Some("Always") {
                let at = status.state.as_ref().and_then(started).unwrap_or_else(|| now.clone());
                let terminated = ContainerStateTerminated {
                    exit_code: 0,
                    reason: Some("Completed".into()),
                    started_at: Some(at.clone()),
                    finished_at: Some(at),
                    container_id: status.container_id.clone(),
                    ..ContainerStateTerminated::default()
                };
                status.state =
                    Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
                status.started = Some(false);
            }
            status
        })
        .collect()
}

fn runs(pod: &Pod, container: &Container, known: &[ContainerStatus], now: &Time) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    // Another image means another container.
    let before = known.iter().find(|status| status.name == container.name && status.image == image);
    let started_at =
        before.and_then(|status| status.state.as_ref()).and_then(started).unwrap_or_else(|| now.clone());
    ContainerStatus {
        name: container.name.clone(),
        image_id: format!("simulated://{image}"),
        image,
        container_id: Some(format!(
            "simulated://{}/{}",
            pod.metadata.uid.as_deref().unwrap_or_default(),
            container.name
        )),
        ready: true,
        restart_count: 0,
        started: Some(true),
        state: Some(ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(started_at) }),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

fn started(state: &ContainerState) -> Option<Time> {
    let running = state.running.as_ref().and_then(|running| running.started_at.clone());
    running.or_else(|| state.terminated.as_ref().and_then(|terminated| terminated.started_at.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "1", "generation": 1}, "spec": spec}))
            .unwrap()
    }

    fn condition<'a>(status: &'a PodStatus, type_: &str) -> &'a PodCondition {
        status.conditions.iter().flatten().find(|c| c.type_ == type_).unwrap()
    }

    #[test]
    fn a_running_pod_that_was_reported_is_reported_again_unchanged() {
        let mut pod = pod(json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}],
            "initContainers": [{"name": "i", "image": "i"}]}));
        let first = running(&pod, "10.244.0.1", time::now());
        pod.status = Some(first.clone());
        let later = Time(time::now().0 + std::time::Duration::from_secs(60));
        assert_eq!(running(&pod, "10.244.0.1", later), first);
    }

    #[test]
    fn a_pod_is_not_ready_before_its_gates_are_open() {
        let mut pod =
            pod(json!({"nodeName": "n", "containers": [], "readinessGates": [{"conditionType": "g"}]}));
        assert_eq!(condition(&running(&pod, "1", time::now()), "Ready").status, "False");
        let open = PodCondition { type_: "g".into(), status: "True".into(), ..PodCondition::default() };
        pod.status = Some(PodStatus { conditions: Some(vec![open]), ..PodStatus::default() });
        assert_eq!(condition(&running(&pod, "1", time::now()), "Ready").status, "True");
    }

    #[test]
    fn init_containers_have_completed_and_sidecars_run() {
        let pod = pod(json!({"nodeName": "n", "containers": [], "initContainers": [
            {"name": "a", "image": "i"}, {"name": "b", "image": "i", "restartPolicy": "Always"}]}));
        let statuses = running(&pod, "1", time::now()).init_container_statuses.unwrap();
        assert!(statuses[0].state.as_ref().unwrap().terminated.is_some());
        assert!(statuses[1].state.as_ref().unwrap().running.is_some());
    }

    #[test]
    fn containers_for_debugging_run() {
        let mut pod = pod(json!({"nodeName": "n", "containers": [],
            "ephemeralContainers": [{"name": "debugger", "image": "i"}]}));
        let first = running(&pod, "1", time::now());
        let debugger = &first.ephemeral_container_statuses.as_ref().unwrap()[0];
        assert!(debugger.name == "debugger" && debugger.state.as_ref().unwrap().running.is_some());
        pod.status = Some(first.clone());
        assert_eq!(
            running(&pod, "1", time::now()).ephemeral_container_statuses,
            first.ephemeral_container_statuses
        );
    }

    #[test]
    fn addresses_of_pods_differ() {
        let kubelet = Kubelet::default();
        assert_ne!(kubelet.next_address(), kubelet.next_address());
    }
}
