//! ReplicaSets: as many pods of a template as are wanted. Adopts pods that its selector takes and nobody controls, lets
//! go of those it no longer takes.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource as _};
use kubewright::{Action, Context, Controller, Event, Key, Reconciler, Result};
use serde_json::json;

use super::{labels, pods, status, time};

/// Pods created or deleted at a time, and in one go.
const AT_ONCE: usize = 8;
const BURST: usize = 500;

/// Keeps ReplicaSets.
pub struct ReplicaSets;

impl ReplicaSets {
    /// The controller of all ReplicaSets.
    pub fn controller() -> Controller {
        Controller::new(ReplicaSets)
            .owns::<Pod>()
            // An orphan concerns every set that might adopt it.
            .watches::<Pod>(|pod, view| {
                if pods_controller(pod).is_some() {
                    return Ok(Vec::new());
                }
                let sets = view.list::<ReplicaSet>()?;
                Ok(sets.iter().filter(|set| takes(set, pod)).map(|set| Key::of(&**set)).collect())
            })
    }
}

impl Reconciler for ReplicaSets {
    type Object = ReplicaSet;

    async fn reconcile(&self, set: Arc<ReplicaSet>, cx: &Context) -> Result<Action> {
        let namespace = cx.key().namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(cx.client(), namespace);
        let going = set.metadata.deletion_timestamp.is_some();
        let mut own = Vec::new();
        for cached in cx.list::<Pod>().in_namespace(namespace).raw().await? {
            let is_own = match cached.controller() {
                Some(owner) if Some(&*owner.uid) == set.metadata.uid.as_deref() => true,
                Some(_) => continue,
                None => false,
            };
            let pod: Arc<Pod> = cached.typed()?;
            match (is_own, takes(&set, &pod)) {
                (true, true) => own.push(pod),
                (true, false) if !going => release(&api, &set, &pod).await?,
                (false, true) if !going && pods::is_active(&pod) => {
                    adopt(&api, &set, &pod).await?;
                    own.push(pod);
                }
                _ => {}
            }
        }
        let mut active: Vec<Arc<Pod>> = own.into_iter().filter(|pod| pods::is_active(pod)).collect();
        if !going {
            active = scale(&api, &set, active, cx).await?;
        }
        let status = status_of(&set, &active);
        let next = unready_until(&set, &active);
        if !set.status.as_ref().is_some_and(|before| status::same(before, &status)) {
            let api: Api<ReplicaSet> = Api::namespaced(cx.client(), namespace);
            let next = ReplicaSet { status: Some(status), ..ReplicaSet::clone(&set) };
            status::update(&api, &next, cx).await?;
        }
        Ok(next.map_or_else(Action::done, Action::after))
    }
}

/// Creates what is missing, deletes what is too much; the pods there are after that.
async fn scale(
    api: &Api<Pod>,
    set: &Arc<ReplicaSet>,
    active: Vec<Arc<Pod>>,
    cx: &Context,
) -> Result<Vec<Arc<Pod>>> {
    let wanted = wanted(set);
    if active.len() < wanted {
        let missing = (wanted - active.len()).min(BURST);
        let created: Vec<Arc<Pod>> = stream::iter(0..missing)
            .map(|_| async {
                match api.create(&PostParams::default(), &pod_of(set)).await {
                    Ok(pod) => {
                        let name = pod.metadata.name.clone().unwrap_or_default();
                        cx.event(
                            set,
                            Event::normal("SuccessfulCreate", "Create", format!("Created pod: {name}")),
                        );
                        Ok(Arc::new(pod))
                    }
                    Err(error) => {
                        cx.event(
                            set,
                            Event::warning("FailedCreate", "Create", format!("Error creating: {error}")),
                        );
                        Err(kubewright::Error::from(error))
                    }
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        return Ok(active.into_iter().chain(created).collect());
    }
    let mut ranked = active;
    ranked.sort_by_cached_key(|pod| keep_rank(pod));
    let surplus: Vec<Arc<Pod>> = ranked.drain(..ranked.len() - wanted).take(BURST).collect();
    stream::iter(surplus)
        .map(|pod| async move {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match api.delete(&name, &params).await {
                Ok(_) => {
                    cx.event(
                        set,
                        Event::normal("SuccessfulDelete", "Delete", format!("Deleted pod: {name}")),
                    );
                    Ok(())
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                Err(error) => Err(kubewright::Error::from(error)),
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(ranked)
}

fn wanted(set: &ReplicaSet) -> usize {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

/// The pods that go first sort first: unbound, pending, not ready, then the younger ones.
fn keep_rank(pod: &Pod) -> (bool, bool, bool, std::cmp::Reverse<String>) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    (
        pods::node_of(pod).is_some(),
        pods::phase(pod) == "Running",
        pods::is_ready(pod),
        std::cmp::Reverse(created),
    )
}

fn pods_controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn takes(set: &ReplicaSet, pod: &Pod) -> bool {
    set.metadata.namespace == pod.metadata.namespace
        && set.spec.as_ref().is_some_and(|spec| labels::selects(&spec.selector, pod.metadata.labels.as_ref()))
}

fn owner(set: &ReplicaSet) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(true), ..set.controller_owner_ref(&()).unwrap_or_default() }
}

fn pod_of(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.metadata.name.as_deref().unwrap_or_default())),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        ..Pod::default()
    }
}

async fn adopt(api: &Api<Pod>, set: &ReplicaSet, pod: &Pod) -> Result {
    let patch = json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": [owner(set)]}});
    change(api, pod, &patch).await
}

async fn release(api: &Api<Pod>, set: &ReplicaSet, pod: &Pod) -> Result {
    let patch = json!({"metadata": {
        "uid": pod.metadata.uid,
        "ownerReferences": [{"$patch": "delete", "uid": set.metadata.uid}],
    }});
    change(api, pod, &patch).await
}

async fn change(api: &Api<Pod>, pod: &Pod, patch: &serde_json::Value) -> Result {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(()),
        // Gone, or another pod of that name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn min_ready(set: &ReplicaSet) -> Duration {
    let seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// How long until a ready pod counts as available; zero when it does.
fn available_in(pod: &Pod, min_ready: Duration) -> Option<Duration> {
    let since = pods::ready(pod).filter(|condition| condition.status == "True")?.last_transition_time.clone();
    let for_now = since.map_or(min_ready, |since| {
        Duration::try_from(time::now().0.duration_since(since.0)).unwrap_or_default()
    });
    Some(min_ready.saturating_sub(for_now))
}

fn unready_until(set: &ReplicaSet, active: &[Arc<Pod>]) -> Option<Duration> {
    active.iter().filter_map(|pod| available_in(pod, min_ready(set))).filter(|wait| !wait.is_zero()).min()
}

fn status_of(set: &ReplicaSet, active: &[Arc<Pod>]) -> ReplicaSetStatus {
    let template =
        set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.as_ref());
    let count = |which: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| which(pod)).count()).unwrap_or(i32::MAX)
    };
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&|pod| {
            template.into_iter().flatten().all(|(key, value)| {
                pod.metadata.labels.as_ref().is_some_and(|labels| labels.get(key) == Some(value))
            })
        })),
        ready_replicas: Some(count(&pods::is_ready)),
        available_replicas: Some(count(&|pod| {
            available_in(pod, min_ready(set)).is_some_and(|wait| wait.is_zero())
        })),
        observed_generation: set.metadata.generation,
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        ..ReplicaSetStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
        }))
        .unwrap()
    }

    fn pod(labels: serde_json::Value, node: &str, ready: bool) -> Pod {
        let ready = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": labels},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_of_a_set_has_its_labels_and_its_owner() {
        let pod = pod_of(&set());
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
        assert!(takes(
            &set(),
            &Pod {
                metadata: ObjectMeta { namespace: Some("n".into()), ..pod.metadata.clone() },
                ..pod.clone()
            }
        ));
        assert_eq!(pods_controller(&pod).map(|owner| owner.uid.as_str()), Some("u"));
    }

    #[test]
    fn pods_that_do_least_go_first() {
        let labels = json!({"app": "web"});
        let mut all =
            [pod(labels.clone(), "a", true), pod(labels.clone(), "", true), pod(labels, "a", false)];
        all.sort_by_cached_key(keep_rank);
        assert_eq!(pods::node_of(&all[0]), None);
        assert!(!pods::is_ready(&all[1]) && pods::is_ready(&all[2]));
    }

    #[test]
    fn the_status_counts_ready_pods() {
        let pods =
            [pod(json!({"app": "web"}), "a", true), pod(json!({"app": "web"}), "a", false)].map(Arc::new);
        let status = status_of(&set(), &pods);
        assert_eq!(
            (status.replicas, status.ready_replicas, status.available_replicas),
            (2, Some(1), Some(1))
        );
    }
}
