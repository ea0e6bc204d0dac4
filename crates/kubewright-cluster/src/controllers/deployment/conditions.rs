//! The conditions of a Deployment: Available and Progressing.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::rollout;
use crate::controllers::time;

/// The conditions that go with a new status; those that somebody else keeps stay.
pub fn of(
    deployment: &Deployment,
    status: &DeploymentStatus,
    newest: Option<&str>,
) -> Vec<DeploymentCondition> {
    let spec = deployment.spec.clone().unwrap_or_default();
    let desired = spec.replicas.unwrap_or(1);
    let available = status.available_replicas.unwrap_or(0) >= desired - may_miss(&spec, desired);
    let availability = if available {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.".to_owned())
    };
    let set = newest.map_or_else(String::new, |name| format!("ReplicaSet \"{name}\""));
    let progress = if spec.paused == Some(true) {
        ("Unknown", "DeploymentPaused", "Deployment is paused".to_owned())
    } else if rollout::is_complete(&spec, status) {
        ("True", "NewReplicaSetAvailable", format!("{set} has successfully progressed."))
    } else {
        ("True", "ReplicaSetUpdated", format!("{set} is progressing."))
    };
    let own =
        [condition(deployment, "Available", availability), condition(deployment, "Progressing", progress)];
    let before = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let others = before.filter(|condition| own.iter().all(|own| own.type_ != condition.type_)).cloned();
    let others: Vec<DeploymentCondition> = others.collect();
    own.into_iter().chain(others).collect()
}

fn condition(deployment: &Deployment, type_: &str, now: (&str, &str, String)) -> DeploymentCondition {
    let (status, reason, message) = now;
    let before = deployment
        .status
        .as_ref()
        .and_then(|old| old.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_));
    let same_status = before.filter(|old| old.status == status);
    let same = same_status
        .filter(|old| old.reason.as_deref() == Some(reason) && old.message.as_deref() == Some(&message));
    DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: same_status
            .and_then(|old| old.last_transition_time.clone())
            .or_else(|| Some(time::now())),
        last_update_time: same.and_then(|old| old.last_update_time.clone()).or_else(|| Some(time::now())),
    }
}

/// How many pods may be missing while the deployment counts as available.
fn may_miss(spec: &DeploymentSpec, desired: i32) -> i32 {
    let strategy = spec.strategy.clone().unwrap_or_default();
    if strategy.type_.as_deref() == Some("Recreate") {
        return 0;
    }
    match strategy.rolling_update.and_then(|rolling| rolling.max_unavailable) {
        Some(IntOrString::Int(n)) => n.min(desired),
        Some(IntOrString::String(text)) => {
            let percent: i32 = text.trim_end_matches('%').parse().unwrap_or(0);
            (desired.saturating_mul(percent) / 100).min(desired)
        }
        None => desired / 4,
    }
}
