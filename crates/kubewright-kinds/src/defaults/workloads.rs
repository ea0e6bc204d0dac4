//! Defaults of apps/v1 and autoscaling kinds, and of disruption budgets.

use serde_json::{Map, Value, json};

use super::pod::template;
use crate::fields::{absent, empty, items_mut, member, member_made, object_mut};

pub(crate) fn deployment(object: &mut Value) {
    template(object, &["spec", "template"]);
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    absent(spec, "replicas", 1);
    if let Some(strategy) = member_made(spec, "strategy") {
        empty(strategy, "type", "RollingUpdate");
        if is_rolling(strategy)
            && let Some(update) = member_made(strategy, "rollingUpdate")
        {
            absent(update, "maxUnavailable", "25%");
            absent(update, "maxSurge", "25%");
        }
    }
    absent(spec, "revisionHistoryLimit", 10);
    absent(spec, "progressDeadlineSeconds", 600);
}

pub(crate) fn daemon_set(object: &mut Value) {
    template(object, &["spec", "template"]);
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    if let Some(strategy) = member_made(spec, "updateStrategy") {
        empty(strategy, "type", "RollingUpdate");
        if is_rolling(strategy)
            && let Some(update) = member_made(strategy, "rollingUpdate")
        {
            absent(update, "maxUnavailable", 1);
            absent(update, "maxSurge", 0);
        }
    }
    absent(spec, "revisionHistoryLimit", 10);
}

pub(crate) fn stateful_set(object: &mut Value) {
    template(object, &["spec", "template"]);
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    empty(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = member_made(spec, "updateStrategy") {
        if strategy.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
            strategy.insert("type".into(), "RollingUpdate".into());
            absent(strategy, "rollingUpdate", json!({}));
        }
        if is_rolling(strategy)
            && let Some(update) = member(strategy, "rollingUpdate")
        {
            absent(update, "partition", 0);
        }
    }
    if let Some(policy) = member_made(spec, "persistentVolumeClaimRetentionPolicy") {
        empty(policy, "whenDeleted", "Retain");
        empty(policy, "whenScaled", "Retain");
    }
    absent(spec, "replicas", 1);
    absent(spec, "revisionHistoryLimit", 10);
    for claim in items_mut(spec, "volumeClaimTemplates") {
        // Claims inside a template are typed objects.
        claim.insert("kind".into(), "PersistentVolumeClaim".into());
        claim.insert("apiVersion".into(), "v1".into());
        super::storage::claim(claim);
    }
}

pub(crate) fn replica_set(object: &mut Value) {
    template(object, &["spec", "template"]);
    if let Some(spec) = object_mut(object, &["spec"]) {
        absent(spec, "replicas", 1);
    }
}

fn is_rolling(strategy: &Map<String, Value>) -> bool {
    strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
}

/// autoscaling/v2: one replica at least, 80 % of CPU, and full scaling rules where any are stated.
pub(crate) fn autoscaler(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    absent(spec, "minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let metric = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
        spec.insert("metrics".into(), metric);
    }
    let Some(behavior) = member(spec, "behavior") else { return };
    for (name, up) in [("scaleUp", true), ("scaleDown", false)] {
        let Some(rules) = member_made(behavior, name) else { continue };
        absent(rules, "selectPolicy", "Max");
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        if up {
            absent(rules, "stabilizationWindowSeconds", 0);
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            absent(rules, "policies", json!([pods, percent]));
        } else {
            absent(rules, "policies", json!([percent]));
        }
    }
}

/// autoscaling/v1 has the same objects in another form.
pub(crate) fn autoscaler_v1(object: &mut Value) {
    if let Some(spec) = object_mut(object, &["spec"]) {
        absent(spec, "minReplicas", 1);
    }
}
