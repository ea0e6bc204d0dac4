//! Deployments, ReplicaSets, ReplicationControllers and DaemonSets, and what workloads have in common.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use kubewright_machinery::selector::LabelSelector;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, gotypes, metadata, pod};

pub(super) const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");

/// The labels of the template are not selected. The message shows `null` where there are none.
fn unselected(template: &Value, path: &Path<'_>, e: &mut Errors) {
    let metadata = path.child("metadata");
    let labels = template.sub("metadata").sub("labels").clone();
    e.invalid(&metadata.child("labels"), labels, "`selector` does not match template `labels`");
}

/// The labels of the template are selected.
pub(super) fn selected(selector: &LabelSelector, template: &Value, path: &Path<'_>, e: &mut Errors) {
    if !selector.is_empty() && !selector.matches_labels(template.sub("metadata").map("labels")) {
        unselected(template, path, e);
    }
}

/// `spec.selector` of a workload: required, not empty.
pub(super) fn selector(spec: &Value, kind: &str, path: &Path<'_>, e: &mut Errors) {
    let path = &path.child("selector");
    let Some(selector) = spec.some("selector") else { return e.required(path, "") };
    checks::label_selector(Some(selector), false, path, e);
    let empty = |f: &str| match selector.sub(f) {
        Value::Object(m) => m.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => true,
    };
    if empty("matchLabels") && empty("matchExpressions") {
        e.invalid(path, selector.clone(), format!("empty selector is invalid for {kind}"));
    }
}

/// The selector as such; where it cannot be read, that is an error. No selector selects nothing.
pub(super) fn parsed_selector(
    spec: &Value,
    detail: &str,
    path: &Path<'_>,
    e: &mut Errors,
) -> Option<LabelSelector> {
    let parsed = LabelSelector::from_value(spec.some("selector"));
    if parsed.is_err() {
        e.invalid(&path.child("selector"), spec.sub("selector").clone(), detail);
    }
    parsed.ok()
}

/// The template of what keeps a number of pods running: selected, always restarted, without a deadline.
fn replicated_template(
    selector: &LabelSelector,
    template: &Value,
    kind: &str,
    path: &Path<'_>,
    e: &mut Errors,
) {
    selected(selector, template, path, e);
    pod::template(template, path, e);
    lasting(template, kind, path, e);
}

/// The pods of a template run for ever: they are always restarted, and have no deadline.
pub(super) fn lasting(template: &Value, kind: &str, path: &Path<'_>, e: &mut Errors) {
    let (pod, path) = (template.sub("spec"), path.child("spec"));
    let policy = pod.text("restartPolicy");
    if policy != "Always" {
        e.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if pod.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        e.forbidden(&path.child("activeDeadlineSeconds"), detail);
    }
}

/// Numbers of a status that are not negative.
pub(super) fn counts(status: &Value, fields: &[&str], e: &mut Errors) {
    for field in fields {
        checks::opt_non_negative(status, field, &STATUS, e);
    }
}

fn not_more(status: &Value, field: &str, limit: i64, detail: &str, e: &mut Errors) {
    if status.int(field) > limit {
        e.invalid(&STATUS.child(field), status.int(field), detail);
    }
}

/// No more replicas are one thing or another than there are, and none is available that is not ready. `unready` is what
/// is said of those that are, and differs between kinds.
pub(super) fn replicas_within(status: &Value, fields: &[&str], unready: &str, e: &mut Errors) {
    for field in fields {
        not_more(status, field, status.int("replicas"), "cannot be greater than status.replicas", e);
    }
    not_more(status, "availableReplicas", status.int("readyReplicas"), unready, e);
}

/// Counters of name collisions only grow.
pub(super) fn collisions(status: &Value, old: &Value, e: &mut Errors) {
    let (new, old) = (status.opt_int("collisionCount"), old.opt_int("collisionCount"));
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        e.invalid(&STATUS.child("collisionCount"), new.unwrap_or_default(), "cannot be decremented");
    }
}

/// What a Deployment and its ReplicaSets say alike. Messages name the other of the two, as a real server's do.
fn selector_and_template(spec: &Value, e: &mut Errors) {
    selector(spec, "deployment", &SPEC, e);
    if let Some(selector) = parsed_selector(spec, "invalid label selector", &SPEC, e) {
        replicated_template(&selector, spec.sub("template"), "ReplicaSet", &SPEC.child("template"), e);
    }
}

fn deployment_spec(spec: &Value, e: &mut Errors) {
    checks::non_negative(spec.int("replicas"), &SPEC.child("replicas"), e);
    selector_and_template(spec, e);
    strategy(spec.sub("strategy"), &SPEC.child("strategy"), e);
    checks::non_negative(spec.int("minReadySeconds"), &SPEC.child("minReadySeconds"), e);
    checks::opt_non_negative(spec, "revisionHistoryLimit", &SPEC, e);
    if let Some(rollback) = spec.some("rollbackTo") {
        checks::non_negative(rollback.int("revision"), &SPEC.child("rollback").child("version"), e);
    }
    if let Some(seconds) = spec.opt_int("progressDeadlineSeconds") {
        let path = &SPEC.child("progressDeadlineSeconds");
        checks::non_negative(seconds, path, e);
        if seconds <= spec.int("minReadySeconds") {
            e.invalid(path, seconds, "must be greater than minReadySeconds");
        }
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, e: &mut Errors) {
    let rolling_path = &path.child("rollingUpdate");
    match (strategy.text("type"), strategy.some("rollingUpdate")) {
        ("Recreate", Some(_)) => {
            e.forbidden(rolling_path, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => e.required(rolling_path, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (rolling.sub("maxUnavailable"), rolling.sub("maxSurge"));
            let unavailable_path = &rolling_path.child("maxUnavailable");
            checks::positive_int_or_percent(unavailable, unavailable_path, e);
            checks::positive_int_or_percent(surge, &rolling_path.child("maxSurge"), e);
            if checks::int_or_percent(unavailable) == 0 && checks::int_or_percent(surge) == 0 {
                e.invalid(unavailable_path, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            checks::not_over_100_percent(unavailable, unavailable_path, e);
        }
        _ => e.not_supported_go(path, &gotypes::ROLLING_STRATEGY, strategy, &["Recreate", "RollingUpdate"]),
    }
}

pub(super) fn deployment_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    deployment_spec(object.sub("spec"), e);
}

pub(super) fn deployment_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    deployment_spec(object.sub("spec"), e);
    checks::immutable_field(object.sub("spec"), old.sub("spec"), "selector", &SPEC, e);
}

pub(super) fn deployment_status(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    let status = object.sub("status");
    counts(
        status,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        e,
    );
    let bounded = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    replicas_within(status, &bounded, "cannot be greater than readyReplicas", e);
    collisions(status, old.sub("status"), e);
}

fn replica_set_spec(spec: &Value, e: &mut Errors) {
    checks::non_negative(spec.int("replicas"), &SPEC.child("replicas"), e);
    checks::non_negative(spec.int("minReadySeconds"), &SPEC.child("minReadySeconds"), e);
    selector_and_template(spec, e);
}

pub(super) fn replica_set_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    replica_set_spec(object.sub("spec"), e);
}

pub(super) fn replica_set_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    replica_set_spec(object.sub("spec"), e);
    checks::immutable_field(object.sub("spec"), old.sub("spec"), "selector", &SPEC, e);
}

/// Status of ReplicaSets and ReplicationControllers.
pub(super) fn replica_status(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    let status = object.sub("status");
    counts(
        status,
        &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "terminatingReplicas",
            "observedGeneration",
        ],
        e,
    );
    let bounded = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    replicas_within(status, &bounded, "cannot be greater than readyReplicas", e);
}

fn controller_spec(spec: &Value, e: &mut Errors) {
    let labels = || spec.entries("selector").map(|(k, v)| (k, v.as_str().unwrap_or_default()));
    checks::non_negative(spec.int("minReadySeconds"), &SPEC.child("minReadySeconds"), e);
    if labels().next().is_none() {
        e.required(&SPEC.child("selector"), "");
    }
    match spec.opt_int("replicas") {
        None => e.required(&SPEC.child("replicas"), ""),
        Some(replicas) => checks::non_negative(replicas, &SPEC.child("replicas"), e),
    }
    let path = SPEC.child("template");
    let Some(template) = spec.some("template") else { return e.required(&path, "") };
    replicated_template(&LabelSelector::from_labels(labels()), template, "ReplicationController", &path, e);
}

pub(super) fn controller_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    controller_spec(object.sub("spec"), e);
}

pub(super) fn controller_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    controller_spec(object.sub("spec"), e);
}

fn daemon_set_spec(spec: &Value, e: &mut Errors) {
    let template = spec.sub("template");
    let path = SPEC.child("template");
    checks::label_selector(spec.some("selector"), false, &SPEC.child("selector"), e);
    if let Ok(selector) = LabelSelector::from_value(spec.some("selector"))
        && !selector.matches_labels(template.sub("metadata").map("labels"))
    {
        unselected(template, &path, e);
    }
    let selector = spec.sub("selector");
    let empty = |f: &str| selector.map(f).is_none_or(serde_json::Map::is_empty);
    if spec.has("selector") && empty("matchLabels") && selector.items("matchExpressions").is_empty() {
        e.invalid(&SPEC.child("selector"), selector.clone(), "empty selector is invalid for daemonset");
    }
    pod::template(template, &path, e);
    lasting(template, "DaemonSet", &path, e);
    checks::non_negative(spec.int("minReadySeconds"), &SPEC.child("minReadySeconds"), e);
    daemon_set_strategy(spec.sub("updateStrategy"), &SPEC.child("updateStrategy"), e);
    checks::opt_non_negative(spec, "revisionHistoryLimit", &SPEC, e);
}

fn daemon_set_strategy(strategy: &Value, path: &Path<'_>, e: &mut Errors) {
    let rolling_path = &path.child("rollingUpdate");
    match (strategy.text("type"), strategy.some("rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => e.required(rolling_path, ""),
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (rolling.sub("maxUnavailable"), rolling.sub("maxSurge"));
            let (unavailable_path, surge_path) =
                (&rolling_path.child("maxUnavailable"), &rolling_path.child("maxSurge"));
            checks::positive_int_or_percent(unavailable, unavailable_path, e);
            checks::positive_int_or_percent(surge, surge_path, e);
            checks::not_over_100_percent(unavailable, unavailable_path, e);
            checks::not_over_100_percent(surge, surge_path, e);
            match (checks::int_or_percent(unavailable) != 0, checks::int_or_percent(surge) != 0) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    e.invalid(surge_path, surge.clone(), detail);
                }
                (false, false) => e.required(unavailable_path, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => {
            let supported = ["RollingUpdate", "OnDelete"];
            e.not_supported_go(&path.child("type"), &gotypes::ROLLING_STRATEGY, strategy, &supported);
        }
    }
}

pub(super) fn daemon_set_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    daemon_set_spec(object.sub("spec"), e);
}

pub(super) fn daemon_set_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    let (spec, old_spec) = (object.sub("spec"), old.sub("spec"));
    daemon_set_spec(spec, e);
    checks::immutable_field(spec, old_spec, "selector", &SPEC, e);
}

pub(super) fn daemon_set_status(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    let status = object.sub("status");
    counts(
        status,
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        e,
    );
    collisions(status, old.sub("status"), e);
}

/// `scale` of any workload.
pub(super) fn scale(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    checks::non_negative(object.sub("spec").int("replicas"), &SPEC.child("replicas"), e);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn deployment(spec: Value) -> Value {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always",
            "terminationMessagePolicy": "File"}]}});
        let mut d = json!({"metadata": {"name": "d", "namespace": "n", "resourceVersion": "1"}, "spec": {"replicas": 1,
            "selector": {"matchLabels": {"a": "b"}}, "template": template,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}});
        for (key, value) in spec.as_object().expect("an object") {
            d["spec"][key] = value.clone();
        }
        d
    }

    fn texts(spec: Value) -> Vec<String> {
        errors::texts(|e| deployment_update(&deployment(spec), &deployment(json!({})), e))
    }

    #[test]
    fn a_deployment_without_a_selector_says_so_three_times() {
        assert_eq!(
            texts(json!({"selector": null})),
            [
                "spec.selector: Required value",
                r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#,
                "spec.selector: Invalid value: null: field is immutable",
            ]
        );
    }

    #[test]
    fn recreate_has_no_rolling_parameters() {
        assert_eq!(
            texts(json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}})),
            [
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
            ]
        );
    }

    #[test]
    fn a_rollout_moves() {
        assert_eq!(
            texts(
                json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}})
            ),
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
            ]
        );
    }
}
