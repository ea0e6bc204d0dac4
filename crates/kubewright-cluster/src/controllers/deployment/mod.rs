//! Deployments: a ReplicaSet for each template, the newest scaled up and the others down within the bounds of the
//! strategy. How far is decided by pure functions ([`rollout`]); this file reads and writes.

mod conditions;
mod revision;
mod rollout;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource as _};
use kubewright::{Action, Context, Controller, Event, Reconciler, Result};
use serde_json::json;

use super::{labels, status};
use revision::{HASH, REVISION};
use rollout::Replicas;

/// Keeps Deployments.
pub struct Deployments;

impl Deployments {
    /// The controller of all Deployments.
    pub fn controller() -> Controller {
        Controller::new(Deployments).owns::<ReplicaSet>()
    }
}

impl Reconciler for Deployments {
    type Object = Deployment;

    async fn reconcile(&self, deployment: Arc<Deployment>, cx: &Context) -> Result<Action> {
        let Some(spec) = deployment.spec.as_ref() else { return Ok(Action::never()) };
        let namespace = cx.key().namespace().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(cx.client(), namespace);
        let mut sets: Vec<Arc<ReplicaSet>> = cx.list::<ReplicaSet>().owned_by(&*deployment).await?.into_vec();
        if deployment.metadata.deletion_timestamp.is_some() {
            return Ok(Action::done());
        }
        adopt(&api, &deployment, &mut sets, cx).await?;

        let paused = spec.paused == Some(true);
        let mut newest = sets.iter().find(|set| revision::is_of(set, spec)).cloned();
        if newest.is_none() && !paused {
            let set = api.create(&PostParams::default(), &new_set(&deployment, &sets)).await;
            match set {
                Ok(set) => {
                    let note = format!(
                        "Created new replica set \"{}\"",
                        set.metadata.name.as_deref().unwrap_or_default()
                    );
                    cx.event(&deployment, Event::normal("NewReplicaSetCreated", "Create", note));
                    let set = Arc::new(set);
                    sets.push(Arc::clone(&set));
                    newest = Some(set);
                }
                // Of another owner, or of an earlier template with the same hash.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let mut status = deployment.status.clone().unwrap_or_default();
                    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                    report(&deployment, revision::of(&deployment.metadata), status, cx).await?;
                    return Ok(Action::after(std::time::Duration::from_millis(50)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let number = match &newest {
            Some(newest) => number(&api, &deployment, newest, &sets).await?,
            None => revision::of(&deployment.metadata),
        };
        let newest_name = newest.as_ref().and_then(|set| set.metadata.name.clone());
        let is_new = |set: &ReplicaSet| set.metadata.name == newest_name;
        let counts: Vec<Replicas> = sets.iter().map(|set| Replicas::of(set, is_new(set))).collect();
        for (set, wanted) in sets.iter().zip(rollout::next(spec, &counts)) {
            let held = paused && !is_new(set);
            if !held && Replicas::of(set, false).wanted != wanted {
                scale(&api, &deployment, set, wanted, cx).await?;
            }
        }
        let status = status_of(&deployment, &sets, &newest_name);
        let finished = rollout::is_complete(spec, &status);
        report(&deployment, number, status, cx).await?;
        if finished {
            forget_old(&api, &deployment, &sets, &newest_name).await?;
        }
        Ok(Action::done())
    }
}

fn owner(deployment: &Deployment) -> OwnerReference {
    OwnerReference {
        block_owner_deletion: Some(true),
        ..deployment.controller_owner_ref(&()).unwrap_or_default()
    }
}

/// Takes over sets that the selector takes and nobody controls, as after `kubectl delete --cascade=orphan`.
async fn adopt(
    api: &Api<ReplicaSet>,
    deployment: &Deployment,
    sets: &mut Vec<Arc<ReplicaSet>>,
    cx: &Context,
) -> Result {
    let Some(spec) = &deployment.spec else { return Ok(()) };
    for cached in cx.list::<ReplicaSet>().in_namespace(cx.key().namespace().unwrap_or_default()).raw().await?
    {
        let orphan = cached.controller().is_none() && !cached.is_deleting();
        if orphan && labels::selects(&spec.selector, Some(&cached.labels())) {
            let patch = json!({"metadata": {"uid": cached.uid(), "ownerReferences": [owner(deployment)]}});
            let adopted =
                api.patch(cached.key().name(), &PatchParams::default(), &Patch::Strategic(&patch)).await?;
            sets.push(Arc::new(adopted));
        }
    }
    Ok(())
}

/// The set of the deployment's present template, without replicas yet.
fn new_set(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = revision::hash(&spec.template, collisions);
    let mut template = spec.template;
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(HASH.into(), hash.clone());
    let labels = meta.labels.clone();
    let mut selector: LabelSelector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.clone());
    let mut annotations = revision::inherited(deployment);
    annotations.insert(REVISION.into(), (revision::highest(sets) + 1).to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        ..ReplicaSet::default()
    }
}

/// Gives the newest set the highest revision and what else the deployment passes on. The revision is the deployment's too.
async fn number(
    api: &Api<ReplicaSet>,
    deployment: &Deployment,
    newest: &ReplicaSet,
    sets: &[Arc<ReplicaSet>],
) -> Result<i64> {
    let others = sets.iter().filter(|set| set.metadata.name != newest.metadata.name);
    let highest = others.map(|set| revision::of(&set.metadata)).max().unwrap_or(0);
    let mut own = revision::of(&newest.metadata);
    let mut annotations = revision::not_yet_inherited(deployment, newest);
    if own <= highest {
        // A template that was used before is in use again.
        own = highest + 1;
        annotations.insert(REVISION.into(), own.to_string());
    }
    if !annotations.is_empty() {
        let patch = json!({"metadata": {"annotations": annotations}});
        let name = newest.metadata.name.as_deref().unwrap_or_default();
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(own)
}

/// Writes the status, and the revision with it, where the deployment has others.
async fn report(deployment: &Deployment, number: i64, status: DeploymentStatus, cx: &Context) -> Result {
    let same = deployment.status.as_ref().is_some_and(|before| status::same(before, &status));
    if same && revision::of(&deployment.metadata) == number {
        return Ok(());
    }
    let mut next = Deployment { status: Some(status), ..deployment.clone() };
    if number > 0 {
        next.metadata.annotations.get_or_insert_default().insert(REVISION.into(), number.to_string());
    }
    let api: Api<Deployment> = Api::namespaced(cx.client(), cx.key().namespace().unwrap_or_default());
    status::update(&api, &next, cx).await
}

async fn scale(
    api: &Api<ReplicaSet>,
    deployment: &Arc<Deployment>,
    set: &ReplicaSet,
    replicas: i32,
    cx: &Context,
) -> Result {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let before = Replicas::of(set, false).wanted;
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let patch = json!({
        "metadata": {
            "uid": set.metadata.uid,
            "annotations": {"deployment.kubernetes.io/desired-replicas": desired.to_string()},
        },
        "spec": {"replicas": replicas},
    });
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let way = if replicas > before { "up" } else { "down" };
    let note = format!("Scaled {way} replica set {name} from {before} to {replicas}");
    cx.event(deployment, Event::normal("ScalingReplicaSet", "Scale", note));
    Ok(())
}

fn status_of(deployment: &Deployment, sets: &[Arc<ReplicaSet>], newest: &Option<String>) -> DeploymentStatus {
    let before = deployment.status.clone().unwrap_or_default();
    let sum = |which: &dyn Fn(&ReplicaSet) -> i32| sets.iter().map(|set| which(set)).sum::<i32>();
    let of = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let replicas = sum(&|set| of(set).replicas);
    let available = sum(&|set| of(set).available_replicas.unwrap_or(0));
    let desired = sum(&|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0));
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(sum(&|set| if set.metadata.name == *newest { of(set).replicas } else { 0 })),
        ready_replicas: Some(sum(&|set| of(set).ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((desired - available).max(0)),
        collision_count: before.collision_count,
        ..DeploymentStatus::default()
    };
    status.conditions = Some(conditions::of(deployment, &status, newest.as_deref()));
    status
}

/// Deletes old sets without pods beyond the history that is to be kept.
async fn forget_old(
    api: &Api<ReplicaSet>,
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    newest: &Option<String>,
) -> Result {
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let mut old: Vec<&Arc<ReplicaSet>> = sets
        .iter()
        .filter(|set| set.metadata.name != *newest && set.metadata.deletion_timestamp.is_none())
        .filter(|set| {
            let replicas = Replicas::of(set, false);
            replicas.wanted == 0 && replicas.existing == 0
        })
        .collect();
    old.sort_by_key(|set| revision::of(&set.metadata));
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    for set in &old[..surplus] {
        match api.delete(set.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::background()).await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Annotations by name.
type Annotations = BTreeMap<String, String>;
