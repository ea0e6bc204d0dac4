//! Subresources that do something: binding and eviction.
//!
//! What they change, they change by compare-and-swap on the stored object; tried again when somebody else was faster.

use std::sync::Arc;

use jiff::SignedDuration;
use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::resources::{Action, Answer, Storage, Virtual, WriteContext, splice};
use kubewright_machinery::selector::LabelSelector;
use kubewright_machinery::status::{Cause, Details, Status};
use kubewright_machinery::{meta, time};
use kubewright_storage::{Entry, Expect, StoreError};
use serde_json::{Value, json};

use crate::fields::{at, int, items, object_mut, text};
use crate::strategies::pods::POD;

fn pod_key(namespace: &str, name: &str) -> String {
    format!("{}{namespace}/{name}", Storage::prefix_of("", "pods"))
}

async fn pod(cx: &WriteContext<'_>, key: &str, name: &str) -> Result<(Entry, Value), Status> {
    let entry = cx.core.store().get(key, None).await.map_err(Status::internal)?;
    let entry = entry.ok_or_else(|| Status::not_found("", "pods", name))?;
    let object = splice::decode(&entry.value, entry.revision).map_err(Status::internal)?;
    Ok((entry, object))
}

fn success(code: u16) -> Answer {
    let body =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code});
    Answer { code, body }
}

/// `pods/binding` and `bindings`: puts a pod on a node.
pub struct Binding;

impl Binding {
    async fn bind(&self, cx: &WriteContext<'_>, name: &str, binding: &Value) -> Result<(), Status> {
        let kind = text(binding, &["target", "kind"]);
        if !matches!(kind, "" | "Node") {
            let why = format!(
                "target.kind: Unsupported value: \"{kind}\": supported values: \"Node\", \"<empty>\""
            );
            return Err(Status::failure(500, "", why));
        }
        let node = text(binding, &["target", "name"]);
        if node.is_empty() {
            return Err(Status::failure(500, "", "target.name: Required value"));
        }
        let key = pod_key(cx.namespace, name);
        loop {
            let (entry, mut pod) = pod(cx, &key, name).await?;
            let refuse = |why: String| Err(Status::conflict("", "pods/binding", name, why));
            let uid = text(binding, &["metadata", "uid"]);
            if !uid.is_empty() && uid != meta::uid(&pod) {
                let have = meta::uid(&pod);
                return refuse(format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {have}"
                ));
            }
            if meta::is_deleting(&pod) {
                return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
            }
            let assigned = text(&pod, &["spec", "nodeName"]);
            if !assigned.is_empty() {
                return refuse(format!("pod {name} is already assigned to node \"{assigned}\""));
            }
            if !items(&pod, &["spec", "schedulingGates"]).is_empty() {
                return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
            }
            assign(&mut pod, node, binding, &time::format(cx.now));
            if cx.dry_run {
                return Ok(());
            }
            match cx.core.store().put(&key, splice::at_rest(&pod), Expect::Revision(entry.revision)).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(Status::internal(error)),
            }
        }
    }
}

/// The pod as the scheduler's decision makes it.
fn assign(pod: &mut Value, node: &str, binding: &Value, now: &str) {
    if let Some(spec) = object_mut(pod, &["spec"]) {
        spec.insert("nodeName".into(), node.into());
    }
    for (key, value) in crate::fields::entries(binding, &["metadata", "annotations"]) {
        meta::set_annotation(pod, key, value.as_str().unwrap_or_default());
    }
    for (key, value) in crate::fields::entries(binding, &["metadata", "labels"]) {
        meta::set_label(pod, key, value.as_str().unwrap_or_default());
    }
    let Some(status) = object_mut(pod, &["status"]) else { return };
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        match list.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(known) => *known = condition,
            None => list.push(condition),
        }
    }
}

impl Action for Binding {
    fn run<'a>(&'a self, cx: &'a WriteContext<'a>, body: Value) -> BoxFuture<'a, Result<Answer, Status>> {
        Box::pin(async move {
            self.bind(cx, cx.name, &body).await?;
            Ok(success(201))
        })
    }
}

impl Virtual for Binding {
    fn create<'a>(&'a self, cx: &'a WriteContext<'a>, object: Value) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            let name = meta::name(&object).to_string();
            self.bind(cx, &name, &object).await?;
            Ok(success(201).body)
        })
    }
}

/// `pods/eviction`: a deletion that disruption budgets may refuse.
pub struct Eviction;

/// Seconds after which a refused eviction may be tried again, where the server knows better than the client.
const PROCESSING_RETRY: u32 = 10;

impl Eviction {
    async fn evict(&self, cx: &WriteContext<'_>, eviction: &Value) -> Result<(), Status> {
        let key = pod_key(cx.namespace, cx.name);
        let options = at(eviction, &["deleteOptions"]);
        let dry_run = cx.dry_run || items(options, &["dryRun"]).iter().any(|d| d == "All");
        let mut allowed = false;
        loop {
            let (entry, pod) = pod(cx, &key, cx.name).await?;
            let uid = text(options, &["preconditions", "uid"]);
            if !uid.is_empty() && uid != meta::uid(&pod) {
                let why = format!(
                    "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                    meta::uid(&pod)
                );
                return Err(Status::conflict("", "pods", cx.name, why));
            }
            // Pods that serve nobody are no disruption.
            let harmless = matches!(text(&pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending")
                || meta::is_deleting(&pod);
            if !harmless && !allowed {
                self.spend(cx, &pod, dry_run).await?;
                allowed = true;
            }
            if dry_run {
                return Ok(());
            }
            match delete(cx, &key, &entry, pod, int(options, &["gracePeriodSeconds"])).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(StoreError::NotFound) => return Err(Status::not_found("", "pods", cx.name)),
                Err(error) => return Err(Status::internal(error)),
            }
        }
    }

    /// Takes one disruption from the budget of the pod, if it has one.
    async fn spend(&self, cx: &WriteContext<'_>, pod: &Value, dry_run: bool) -> Result<(), Status> {
        loop {
            let budgets = cx.core.reader().list("policy", "poddisruptionbudgets", cx.namespace).await;
            let budgets = budgets.map_err(Status::internal)?;
            let covers = |budget: &&Arc<Value>| {
                let selector = LabelSelector::from_value(budget["spec"].get("selector"));
                selector.is_ok_and(|s| s.matches_object(pod))
            };
            let mut matching = budgets.iter().filter(covers);
            let Some(budget) = matching.next() else { return Ok(()) };
            if matching.next().is_some() {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
            let budget_name = meta::name(budget);
            if !is_ready(pod) {
                let spare = text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
                    || (int(budget, &["status", "currentHealthy"]).unwrap_or_default()
                        >= int(budget, &["status", "desiredHealthy"]).unwrap_or_default()
                        && int(budget, &["status", "desiredHealthy"]).unwrap_or_default() > 0);
                if spare {
                    return Ok(());
                }
            }
            let mut changed = Value::clone(budget);
            decrement(&mut changed, budget_name, cx.name, &time::format(cx.now))?;
            if dry_run {
                return Ok(());
            }
            let key = format!(
                "{}{}/{budget_name}",
                Storage::prefix_of("policy", "poddisruptionbudgets"),
                cx.namespace
            );
            let revision = meta::resource_version(budget).parse().unwrap_or_default();
            match cx.core.store().put(&key, splice::at_rest(&changed), Expect::Revision(revision)).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. } | StoreError::NotFound) => {}
                Err(error) => return Err(Status::internal(error)),
            }
        }
    }
}

fn is_ready(pod: &Value) -> bool {
    items(pod, &["status", "conditions"]).iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// 429 with the cause that names the budget.
fn too_many(message: &str, cause: String, retry: u32) -> Status {
    Status::failure(429, "TooManyRequests", message).with_details(Details {
        causes: vec![Cause { reason: "DisruptionBudget".into(), message: cause, field: String::new() }],
        retry_after_seconds: retry,
        ..Details::default()
    })
}

/// One disruption less in the budget's status, with the pod noted.
fn decrement(budget: &mut Value, name: &str, pod: &str, now: &str) -> Result<(), Status> {
    let status = |field: &str| int(budget, &["status", field]).unwrap_or_default();
    if status("observedGeneration") < int(budget, &["metadata", "generation"]).unwrap_or_default() {
        return Err(too_many(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            format!("The disruption budget {name} is still being processed by the server."),
            PROCESSING_RETRY,
        ));
    }
    let allowed = status("disruptionsAllowed");
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(Status::forbidden("policy", "poddisruptionbudgets", name, why));
    }
    if at(budget, &["status", "disruptedPods"]).as_object().is_some_and(|m| m.len() > 2000) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden("policy", "poddisruptionbudgets", name, why));
    }
    if allowed == 0 {
        let (wanted, healthy) = (status("desiredHealthy"), status("currentHealthy"));
        return Err(too_many(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"),
            0,
        ));
    }
    if let Some(status) = object_mut(budget, &["status"]) {
        let left = allowed - 1;
        status.insert("disruptionsAllowed".into(), left.into());
        if left == 0
            && let Some(list) = status.get_mut("conditions").and_then(Value::as_array_mut)
            && let Some(known) = list.iter_mut().find(|c| c["type"] == "DisruptionAllowed")
        {
            known["status"] = "False".into();
            known["reason"] = "InsufficientPods".into();
            known["lastTransitionTime"] = now.into();
        }
        let pods = status.entry("disruptedPods").or_insert_with(|| json!({}));
        pods[pod] = now.into();
    }
    Ok(())
}

/// Marks the pod as being deleted, and removes it where nothing is to be waited for.
async fn delete(
    cx: &WriteContext<'_>,
    key: &str,
    entry: &Entry,
    mut pod: Value,
    requested: Option<i64>,
) -> Result<(), StoreError> {
    let store = cx.core.store();
    let mut revision = entry.revision;
    let pending = meta::finalizers(&pod).next().is_some();
    let grace = (POD.grace_period)(&pod, requested).unwrap_or_default();
    if !meta::is_deleting(&pod) {
        let at = cx.now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(cx.now);
        meta::set(&mut pod, "deletionTimestamp", time::format(at));
        meta::set(&mut pod, "deletionGracePeriodSeconds", grace);
        let generation = meta::generation(&pod);
        meta::set(&mut pod, "generation", generation + 1);
        disrupted(&mut pod, &time::format(cx.now));
        revision = store.put(key, splice::at_rest(&pod), Expect::Revision(revision)).await?;
    }
    if grace == 0 && !pending {
        store.delete(key, Expect::Revision(revision)).await?;
    }
    Ok(())
}

/// The condition that says why the pod goes (KEP-3329).
fn disrupted(pod: &mut Value, now: &str) {
    let Some(status) = object_mut(pod, &["status"]) else { return };
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
    });
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|c| c["type"] != "DisruptionTarget");
        list.push(condition);
    }
}

impl Action for Eviction {
    fn run<'a>(&'a self, cx: &'a WriteContext<'a>, body: Value) -> BoxFuture<'a, Result<Answer, Status>> {
        Box::pin(async move {
            if meta::name(&body) != cx.name {
                return Err(Status::bad_request("name in URL does not match name in Eviction object"));
            }
            self.evict(cx, &body).await?;
            Ok(success(201))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_without_disruptions_refuses_with_429() {
        let mut budget = json!({"metadata": {"generation": 1},
            "status": {"observedGeneration": 1, "disruptionsAllowed": 0, "desiredHealthy": 2, "currentHealthy": 2}});
        let refused = decrement(&mut budget, "b", "p", "now").expect_err("no disruption left");
        assert_eq!(refused.code, 429);
        let details = refused.details.expect("details");
        assert_eq!(
            details.causes[0].message,
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        budget["status"]["disruptionsAllowed"] = 1.into();
        decrement(&mut budget, "b", "p", "now").expect("one is left");
        assert_eq!(budget["status"]["disruptionsAllowed"], 0);
        assert_eq!(budget["status"]["disruptedPods"], json!({"p": "now"}));
    }

    #[test]
    fn a_budget_not_yet_observed_asks_to_try_later() {
        let mut budget = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1}});
        let refused = decrement(&mut budget, "b", "p", "now").expect_err("stale");
        assert_eq!(refused.details.expect("details").retry_after_seconds, PROCESSING_RETRY);
    }

    #[test]
    fn binding_sets_node_annotations_and_condition() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}});
        assign(
            &mut pod,
            "n1",
            &json!({"metadata": {"annotations": {"a": "b"}, "labels": {"zone": "z"}}}),
            "now",
        );
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(pod["metadata"]["labels"], json!({"zone": "z"}));
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
    }
}
