//! The scheduler: binds pods to nodes that take them. Filters first, then the node with the fewest pods; no preemption.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodCondition, PodSpec, PodStatus, Taint, Toleration,
};
use kube::Api;
use kube::api::PostParams;
use kubewright::cache::{Cached, Index};
use kubewright::{Action, Context, Controller, Event, Key, Permit, Reconciler, Result, Verb};
use parking_lot::Mutex;
use serde_json::json;

use super::{pods, time};

/// The scheduler that pods name unless they name another.
const NAME: &str = "default-scheduler";

/// Binds pods.
#[derive(Default)]
pub struct Scheduler {
    /// Pods bound a moment ago that the cache does not show as bound yet, by uid.
    assumed: Mutex<HashMap<String, String>>,
}

impl Scheduler {
    /// The controller of all pods that wait for a node. One at a time: each choice sees the ones before.
    pub fn controller() -> Controller {
        Controller::new(Scheduler::default())
            .named(NAME)
            .permits(Permit::on_sub::<Pod>("binding", [Verb::Create]))
            .index(Index::path::<Pod>(pods::NODE_NAME))
            .watches::<Node>(|_, view| view.indexed_keys::<Pod>(pods::NODE_NAME, ""))
            .concurrency(1)
    }
}

impl Reconciler for Scheduler {
    type Object = Pod;

    async fn deleted(&self, _: &Key, cx: &Context) -> Result<Action> {
        // A pod that went before it was seen as bound must not be counted for ever.
        let assumed: Vec<String> = self.assumed.lock().keys().cloned().collect();
        if !assumed.is_empty() {
            let there = cx.list::<Pod>().raw().await?;
            self.assumed
                .lock()
                .retain(|uid, _| !assumed.contains(uid) || there.iter().any(|pod| pod.uid() == uid));
        }
        Ok(Action::done())
    }

    async fn reconcile(&self, pod: Arc<Pod>, cx: &Context) -> Result<Action> {
        let Some(spec) = pod.spec.as_ref().filter(|_| is_waiting(&pod)) else { return Ok(Action::never()) };
        let nodes = cx.list::<Node>().await?;
        let mut refusals = Refusals::default();
        let mut best: Option<(usize, &str)> = None;
        for node in nodes.iter() {
            if let Err(why) = fits(spec, node) {
                refusals.add(why);
                continue;
            }
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let load = self.load(name, &cx.list::<Pod>().indexed(pods::NODE_NAME, name).raw().await?);
            if best.is_none_or(|found| (load, name) < found) {
                best = Some((load, name));
            }
        }
        match best {
            Some((_, node)) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                self.assumed.lock().insert(uid.clone(), node.to_owned());
                let bound = bind(&pod, node, cx).await;
                if bound.is_err() {
                    self.assumed.lock().remove(&uid);
                }
                bound
            }
            None => {
                let message = refusals.message(nodes.len());
                if unschedulable(&pod).as_deref() != Some(&message) {
                    cx.patch_status(&pod, waiting(&pod, &message)).await?;
                    cx.event(&pod, Event::warning("FailedScheduling", "Scheduling", message));
                }
                // A node that changes triggers the next try.
                Ok(Action::done())
            }
        }
    }
}

impl Scheduler {
    /// How many pods a node has, with those that were bound to it a moment ago.
    fn load(&self, node: &str, shown: &[Arc<Cached>]) -> usize {
        let mut assumed = self.assumed.lock();
        for pod in shown {
            assumed.remove(pod.uid());
        }
        shown.len() + assumed.values().filter(|of| *of == node).count()
    }
}

/// Whether a pod waits for this scheduler.
fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    pods::node_of(pod).is_none()
        && pods::is_active(pod)
        && spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
}

async fn bind(pod: &Arc<Pod>, node: &str, cx: &Context) -> Result<Action> {
    let (namespace, name) = (cx.key().namespace().unwrap_or_default(), cx.key().name());
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let api: Api<Pod> = Api::namespaced(cx.client(), namespace);
    let answer: kube::Result<serde_json::Value> =
        api.create_subresource("binding", name, &PostParams::default(), &binding).await;
    match answer {
        Ok(_) => {
            let note = format!("Successfully assigned {} to {node}", cx.key());
            cx.event(pod, Event::normal("Scheduled", "Binding", note));
            Ok(Action::done())
        }
        // Gone or bound by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Action::done()),
        Err(error) => Err(error.into()),
    }
}

/// The message of an earlier attempt.
fn unschedulable(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?.message.clone()
}

fn waiting(pod: &Pod, message: &str) -> PodStatus {
    let since = pod
        .status
        .as_ref()
        .and_then(|status| {
            status.conditions.as_ref()?.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")
        })
        .and_then(|condition| condition.last_transition_time.clone());
    PodStatus {
        conditions: Some(vec![PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(message.into()),
            last_transition_time: since.or_else(|| Some(time::now())),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    }
}

/// Why nodes refused a pod, counted.
#[derive(Default)]
struct Refusals(Vec<(String, usize)>);

impl Refusals {
    fn add(&mut self, why: String) {
        match self.0.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => self.0.push((why, 1)),
        }
    }

    fn message(mut self, nodes: usize) -> String {
        self.0.sort();
        let reasons: Vec<String> = self.0.iter().map(|(why, count)| format!("{count} {why}")).collect();
        if reasons.is_empty() {
            "no nodes available to schedule pods".into()
        } else {
            format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
        }
    }
}

/// Whether a node takes a pod, or why not, in the scheduler's words.
fn fits(pod: &PodSpec, node: &Node) -> Result<(), String> {
    let spec = node.spec.clone().unwrap_or_default();
    let tolerations = pod.tolerations.as_deref().unwrap_or_default();
    if spec.unschedulable == Some(true) {
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        if !tolerated(&cordon, tolerations) {
            return Err("node(s) were unschedulable".into());
        }
    }
    if !is_ready(node) {
        return Err("node(s) were not ready".into());
    }
    let keeps_out = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if let Some(taint) =
        spec.taints.iter().flatten().filter(keeps_out).find(|taint| !tolerated(taint, tolerations))
    {
        let value = taint.value.as_deref().unwrap_or_default();
        return Err(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
    }
    if !selected(pod, node) {
        return Err("node(s) didn't match Pod's node affinity/selector".into());
    }
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Whether one of the tolerations is for the taint.
fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let same_value = match toleration.operator.as_deref() {
            Some("Exists") => true,
            _ => value == taint.value.as_deref().unwrap_or_default(),
        };
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || key.is_empty() && toleration.operator.as_deref() == Some("Exists"))
            && same_value
    })
}

/// nodeSelector and the required part of node affinity.
fn selected(pod: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let wanted = pod.node_selector.iter().flatten();
    if !wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let required = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// A term without requirements matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let by_label = term.match_expressions.iter().flatten().map(|requirement| {
        let labels = node.metadata.labels.as_ref();
        holds(requirement, labels.and_then(|labels| labels.get(&requirement.key)).map(String::as_str))
    });
    let by_field = term.match_fields.iter().flatten().map(|requirement| {
        holds(requirement, node.metadata.name.as_deref().filter(|_| requirement.key == "metadata.name"))
    });
    let mut any = false;
    by_label.chain(by_field).inspect(|_| any = true).all(|held| held) && any
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = || value.is_some_and(|value| values.iter().any(|v| v == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = |larger: bool| {
        let (Some(found), Some(limit)) = (value.and_then(number), values.first().and_then(|v| number(v)))
        else {
            return false;
        };
        if larger { found > limit } else { found < limit }
    };
    match requirement.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(true),
        "Lt" => compared(false),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(extra: serde_json::Value) -> Node {
        let mut node = json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd", "size": "5"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        node["spec"] = extra;
        serde_json::from_value(node).unwrap()
    }

    fn pod(spec: serde_json::Value) -> PodSpec {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_tainted_node_takes_only_pods_that_tolerate_it() {
        let node = node(json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}));
        assert_eq!(fits(&pod(json!({})), &node).unwrap_err(), "node(s) had untolerated taint {gpu: yes}");
        assert!(fits(&pod(json!({"tolerations": [{"key": "gpu", "value": "yes"}]})), &node).is_ok());
        assert!(fits(&pod(json!({"tolerations": [{"operator": "Exists"}]})), &node).is_ok());
        assert!(fits(&pod(json!({"tolerations": [{"key": "gpu", "value": "no"}]})), &node).is_err());
    }

    #[test]
    fn a_cordoned_node_takes_nothing() {
        assert!(fits(&pod(json!({})), &node(json!({"unschedulable": true}))).is_err());
    }

    #[test]
    fn selectors_and_affinity_must_hold() {
        let affinity = |operator: &str, value: &str| {
            pod(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": "size", "operator": operator, "values": [value]}]}]}}}}))
        };
        let node = node(json!({}));
        assert!(fits(&pod(json!({"nodeSelector": {"disk": "ssd"}})), &node).is_ok());
        assert!(fits(&pod(json!({"nodeSelector": {"disk": "hdd"}})), &node).is_err());
        assert!(fits(&affinity("Gt", "4"), &node).is_ok());
        assert!(fits(&affinity("Lt", "4"), &node).is_err());
        assert!(fits(&affinity("NotIn", "5"), &node).is_err());
    }

    #[test]
    fn reasons_are_counted() {
        let mut refusals = Refusals::default();
        refusals.add("b".into());
        refusals.add("a".into());
        refusals.add("b".into());
        assert_eq!(refusals.message(3), "0/3 nodes are available: 1 a, 2 b.");
        assert_eq!(Refusals::default().message(0), "no nodes available to schedule pods");
    }
}
