//! Defaults of batch/v1.

use serde_json::{Map, Value};

use super::pod::pod_spec;
use crate::fields::{absent, at, empty, items_mut, member, object_mut};

pub(crate) fn job(object: &mut Value) {
    let labels = at(object, &["spec", "template", "metadata", "labels"]).clone();
    if let Some(spec) = object_mut(object, &["spec"]) {
        job_template(spec);
        let stated = |spec: &Map<String, Value>, name| spec.get(name).is_some_and(|v| !v.is_null());
        if !stated(spec, "completions") && !stated(spec, "parallelism") {
            absent(spec, "completions", 1);
        }
        absent(spec, "parallelism", 1);
        let per_index = stated(spec, "backoffLimitPerIndex");
        absent(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
        absent(spec, "completionMode", "NonIndexed");
        absent(spec, "suspend", false);
        let policy = if stated(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
        absent(spec, "podReplacementPolicy", policy);
        absent(spec, "manualSelector", false);
    }
    if labels.as_object().is_some_and(|l| !l.is_empty())
        && let Some(meta) = object_mut(object, &["metadata"])
    {
        absent(meta, "labels", labels);
    }
}

pub(crate) fn cron_job(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    empty(spec, "concurrencyPolicy", "Allow");
    absent(spec, "suspend", false);
    absent(spec, "successfulJobsHistoryLimit", 3);
    absent(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = member(spec, "jobTemplate").and_then(|t| member(t, "spec")) {
        job_template(job);
    }
}

/// What is defaulted in a job's spec wherever it is.
fn job_template(spec: &mut Map<String, Value>) {
    if let Some(pod) = member(spec, "template").and_then(|t| member(t, "spec")) {
        pod_spec(pod);
    }
    if let Some(policy) = member(spec, "podFailurePolicy") {
        for rule in items_mut(policy, "rules") {
            for pattern in items_mut(rule, "onPodConditions") {
                empty(pattern, "status", "True");
            }
        }
    }
}
