//! How many replicas each ReplicaSet of a Deployment should have next. Pure: counts in, counts out.

use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The counts of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// What its spec says.
    pub wanted: i32,
    /// What its status says.
    pub existing: i32,
    /// How many of these are available.
    pub available: i32,
    /// Whether it is of the present template.
    pub newest: bool,
}

impl Replicas {
    /// The counts of a set.
    pub fn of(set: &ReplicaSet, newest: bool) -> Self {
        let status = set.status.clone().unwrap_or_default();
        Self {
            wanted: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            existing: status.replicas,
            available: status.available_replicas.unwrap_or(0),
            newest,
        }
    }
}

/// What each set should have next, in the order given.
pub fn next(spec: &DeploymentSpec, sets: &[Replicas]) -> Vec<i32> {
    let desired = spec.replicas.unwrap_or(1).max(0);
    let strategy = spec.strategy.clone().unwrap_or_default();
    let mut wanted: Vec<i32> = sets.iter().map(|set| set.wanted).collect();
    let Some(newest) = sets.iter().position(|set| set.newest) else { return wanted };
    if strategy.type_.as_deref() == Some("Recreate") {
        let mut old_left = false;
        for (i, set) in sets.iter().enumerate().filter(|(_, set)| !set.newest) {
            wanted[i] = 0;
            old_left |= set.existing > 0;
        }
        if !old_left {
            wanted[newest] = desired;
        }
        return wanted;
    }
    let bounds = strategy.rolling_update.unwrap_or_default();
    let mut surge = count(bounds.max_surge.as_ref(), desired, true);
    let mut unavailable = count(bounds.max_unavailable.as_ref(), desired, false).min(desired);
    if bounds.max_surge.is_none() && bounds.max_unavailable.is_none() {
        (surge, unavailable) =
            (count(Some(&quarter()), desired, true), count(Some(&quarter()), desired, false));
    }
    if surge == 0 && unavailable == 0 {
        // Nothing could ever move.
        unavailable = 1;
    }

    let total: i32 = wanted.iter().sum();
    if wanted[newest] > desired {
        wanted[newest] = desired;
    } else {
        let room = (desired + surge - total).max(0);
        wanted[newest] += room.min(desired - wanted[newest]);
    }

    // Old pods that are not available serve nobody: they go first and cost nothing.
    let least = desired - unavailable;
    let new_unavailable = wanted[newest] - sets[newest].available;
    let total: i32 = wanted.iter().sum();
    let mut may_go = total - least - new_unavailable.max(0);
    for (i, set) in sets.iter().enumerate().filter(|(_, set)| !set.newest) {
        let idle = (set.wanted - set.available).clamp(0, may_go.max(0));
        wanted[i] -= idle;
        may_go -= idle;
    }
    let available: i32 = sets.iter().map(|set| set.available).sum();
    let mut may_go = available - least;
    for (i, set) in sets.iter().enumerate().filter(|(_, set)| !set.newest) {
        let gone = wanted[i].min(set.available).clamp(0, may_go.max(0));
        wanted[i] -= gone;
        may_go -= gone;
    }
    wanted
}

/// Whether the rollout has come to its end.
pub fn is_complete(spec: &DeploymentSpec, status: &DeploymentStatus) -> bool {
    let desired = spec.replicas.unwrap_or(1);
    [status.updated_replicas, status.replicas, status.available_replicas]
        .iter()
        .all(|n| n.unwrap_or(0) == desired)
}

fn quarter() -> IntOrString {
    IntOrString::String("25%".into())
}

/// A number, or a share of `of` rounded up or down.
fn count(value: Option<&IntOrString>, of: i32, up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(n)) => (*n).max(0),
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let share = i64::from(of) * percent.max(0);
            i32::try_from(if up { (share + 99) / 100 } else { share / 100 }).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(replicas: i32, strategy: serde_json::Value) -> DeploymentSpec {
        serde_json::from_value(json!({
            "replicas": replicas, "strategy": strategy, "selector": {}, "template": {},
        }))
        .unwrap()
    }

    fn set(wanted: i32, available: i32, newest: bool) -> Replicas {
        Replicas { wanted, existing: wanted, available, newest }
    }

    #[test]
    fn the_first_set_gets_all_replicas_at_once() {
        assert_eq!(next(&spec(3, json!({})), &[set(0, 0, true)]), [3]);
    }

    #[test]
    fn a_rolling_update_surges_by_a_quarter_and_waits_for_availability() {
        let rolling = spec(4, json!({}));
        assert_eq!(next(&rolling, &[set(4, 4, false), set(0, 0, true)]), [3, 1]);
        assert_eq!(next(&rolling, &[set(3, 3, false), set(1, 0, true)]), [3, 2]);
        assert_eq!(next(&rolling, &[set(3, 3, false), set(2, 2, true)]), [1, 2]);
    }

    #[test]
    fn a_rollout_always_ends() {
        let rolling = spec(10, json!({}));
        let mut sets = [set(10, 10, false), set(0, 0, true)];
        for _ in 0..20 {
            let wanted = next(&rolling, &sets);
            assert!(wanted.iter().sum::<i32>() <= 13);
            sets = [set(wanted[0], wanted[0], false), set(wanted[1], wanted[1], true)];
            assert!(sets[0].available + sets[1].available >= 8);
        }
        assert_eq!((sets[0].wanted, sets[1].wanted), (0, 10));
    }

    #[test]
    fn recreate_waits_until_the_old_pods_are_gone() {
        let recreate = spec(2, json!({"type": "Recreate"}));
        assert_eq!(next(&recreate, &[set(2, 2, false), set(0, 0, true)]), [0, 0]);
        let gone = Replicas { wanted: 0, existing: 0, available: 0, newest: false };
        assert_eq!(next(&recreate, &[gone, set(0, 0, true)]), [0, 2]);
    }

    #[test]
    fn scaling_down_takes_from_the_newest_set() {
        assert_eq!(next(&spec(1, json!({})), &[set(3, 3, true)]), [1]);
    }
}
