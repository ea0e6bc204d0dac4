//! Status updates of Jobs: what a finished job may say, and that it stays finished.

use kubewright_machinery::field::Path;
use serde_json::Value;

use super::errors::Errors;
use super::read::{Fields, same};
use super::{checks, job_indexes, metadata};

const STATUS: Path<'static> = Path::new("status");

fn is_true(job: &Value, kind: &str) -> bool {
    let conditions = job.sub("status").items("conditions");
    conditions.iter().any(|c| c.text("type") == kind && c.text("status") == "True")
}

/// What changed in a status update: checks apply to changes, so that old faults can stay.
struct Changes<'a> {
    job: &'a Value,
    old: &'a Value,
}

impl Changes<'_> {
    fn field(&self, name: &str) -> bool {
        !same(self.job.sub("status").sub(name), self.old.sub("status").sub(name))
    }

    fn finished(&self) -> bool {
        let finished = |job| is_true(job, "Complete") || is_true(job, "Failed");
        finished(self.job) != finished(self.old)
    }

    fn condition(&self, kind: &str) -> bool {
        is_true(self.job, kind) != is_true(self.old, kind)
    }
}

pub(super) fn update(job: &Value, old: &Value, e: &mut Errors) {
    metadata::update(job, old, e);
    let (status, old_status) = (job.sub("status"), old.sub("status"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        checks::opt_non_negative(status, field, &STATUS, e);
    }
    uncounted(status.sub("uncountedTerminatedPods"), e);
    let changes = Changes { job, old };
    finished(&changes, e);
    indexes(&changes, e);
    conditions_together(&changes, e);
    let conditions = STATUS.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is_true(old, kind) && !is_true(job, kind) {
            e.invalid_unshown(&conditions, format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    for (field, what) in [("failed", "failed"), ("succeeded", "succeeded")] {
        if status.int(field) < old_status.int(field) {
            e.invalid(&STATUS.child(field), status.int(field), format!("cannot decrease the {what} counter"));
        }
    }
    if let (Some(new), Some(old)) = (status.some("completionTime"), old_status.some("completionTime"))
        && new != old
    {
        e.invalid(&STATUS.child("completionTime"), new.clone(), "completionTime cannot be mutated");
    }
    let started = old_status.some("startTime").is_some_and(|t| status.some("startTime") != Some(t));
    if started && !job.sub("spec").flag("suspend") {
        e.required(&STATUS.child("startTime"), "startTime cannot be removed for unsuspended job");
    }
    if is_true(old, "SuccessCriteriaMet") && !is_true(job, "SuccessCriteriaMet") {
        e.invalid_unshown(&conditions, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if is_true(old, "Complete") && !is_true(old, "SuccessCriteriaMet") && is_true(job, "SuccessCriteriaMet") {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        e.invalid_unshown(&conditions, detail);
    }
}

fn uncounted(pods: &Value, e: &mut Errors) {
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = Vec::new();
    for field in ["succeeded", "failed"] {
        let list = path.child(field);
        for (i, uid) in pods.strings(field).into_iter().enumerate() {
            if uid.is_empty() {
                e.invalid(&list.index(i), uid, "must not be empty");
            } else if seen.contains(&uid) {
                e.duplicate(&list.index(i), uid);
            } else {
                seen.push(uid);
            }
        }
    }
}

fn finished(changes: &Changes<'_>, e: &mut Errors) {
    let job = changes.job;
    let status = job.sub("status");
    let (complete, failed) = (is_true(job, "Complete"), is_true(job, "Failed"));
    let (conditions, completion) = (STATUS.child("conditions"), STATUS.child("completionTime"));
    if complete && failed && (changes.condition("Complete") || changes.condition("Failed")) {
        e.invalid_unshown(&conditions, "cannot set Complete=True and Failed=true conditions");
    }
    if complete
        && is_true(job, "FailureTarget")
        && (changes.condition("Complete") || changes.condition("FailureTarget"))
    {
        e.invalid_unshown(&conditions, "cannot set Complete=True and FailureTarget=true conditions");
    }
    let time = status.some("completionTime");
    let time_matters = changes.condition("Complete") || changes.field("completionTime");
    if let Some(time) = time.filter(|_| !complete && time_matters) {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        e.invalid(&completion, time.clone(), detail);
    }
    if time.is_none() && complete && time_matters {
        e.required(&completion, "completionTime is required for Complete jobs");
    }
    if let (Some(start), Some(end)) = (status.opt_text("startTime"), status.opt_text("completionTime"))
        && end < start
        && (changes.field("startTime") || changes.field("completionTime"))
    {
        e.invalid(&completion, end, "completionTime cannot be set before startTime");
    }
    if failed && !is_true(job, "FailureTarget") && changes.condition("Failed") {
        e.invalid_unshown(
            &conditions,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
    }
    if complete && !is_true(job, "SuccessCriteriaMet") && changes.condition("Complete") {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        e.invalid_unshown(&conditions, detail);
    }
    if !complete && !failed {
        return;
    }
    let just = changes.finished();
    if status.int("active") > 0 && (just || changes.field("active")) {
        e.invalid(&STATUS.child("active"), status.int("active"), "active>0 is invalid for finished job");
    }
    if !status.has("startTime") && (just || changes.field("startTime")) {
        e.required(&STATUS.child("startTime"), "startTime is required for finished job");
    }
    let pods = status.sub("uncountedTerminatedPods");
    let counted = pods.items("succeeded").is_empty() && pods.items("failed").is_empty();
    if !counted && (just || changes.field("uncountedTerminatedPods")) {
        let detail = "uncountedTerminatedPods needs to be empty for finished job";
        e.invalid_go(&STATUS.child("uncountedTerminatedPods"), &super::gotypes::UNCOUNTED_PODS, pods, detail);
    }
}

fn indexes(changes: &Changes<'_>, e: &mut Errors) {
    let (job, status) = (changes.job, changes.job.sub("status"));
    let spec = job.sub("spec");
    let (completed, failed) = (status.text("completedIndexes"), status.opt_text("failedIndexes"));
    let (completed_path, failed_path) = (STATUS.child("completedIndexes"), STATUS.child("failedIndexes"));
    let completions = spec.opt_int("completions");
    if let Some(n) = completions {
        if changes.field("completedIndexes")
            && let Err(error) = job_indexes::total(completed, n)
        {
            e.invalid(&completed_path, completed, format!("error parsing completedIndexes: {error}"));
        }
        if let Some(failed) =
            failed.filter(|_| spec.has("backoffLimitPerIndex") && changes.field("failedIndexes"))
            && let Err(error) = job_indexes::total(failed, n)
        {
            e.invalid(&failed_path, failed, format!("error parsing failedIndexes: {error}"));
        }
    }
    if !completed.is_empty() && spec.text("completionMode") != "Indexed" && changes.field("completedIndexes")
    {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        e.invalid(&completed_path, completed, detail);
    }
    let Some(failed) = failed else { return };
    if !spec.has("backoffLimitPerIndex") && changes.field("failedIndexes") {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        e.invalid(&failed_path, failed, detail);
    }
    let changed = changes.field("failedIndexes") || changes.field("completedIndexes");
    if let Some(index) =
        completions.filter(|_| changed).and_then(|n| job_indexes::overlap(completed, failed, n))
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        e.invalid(&failed_path, failed, detail);
    }
}

fn conditions_together(changes: &Changes<'_>, e: &mut Errors) {
    let (job, status) = (changes.job, changes.job.sub("status"));
    let (complete, failed) = (is_true(job, "Complete"), is_true(job, "Failed"));
    let conditions = STATUS.child("conditions");
    let terminating = status.int("terminating");
    if terminating > 0 && (complete || failed) && (changes.finished() || changes.field("terminating")) {
        e.invalid(&STATUS.child("terminating"), terminating, "terminating>0 is invalid for finished job");
    }
    let ready = status.int("ready");
    if ready > status.int("active") && (changes.field("ready") || changes.field("active")) {
        e.invalid(&STATUS.child("ready"), ready, "cannot set more ready pods than active");
    }
    let met = is_true(job, "SuccessCriteriaMet");
    if met && failed {
        e.invalid_unshown(&conditions, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if met && is_true(job, "FailureTarget") {
        e.invalid_unshown(
            &conditions,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        );
    }
    if job.sub("spec").has("successPolicy") && !met && complete {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        e.invalid_unshown(&conditions, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn a_job_completes_with_its_criteria_met_and_nothing_active() {
        let job = |status: Value| json!({"metadata": {"name": "j", "resourceVersion": "1"}, "spec": {}, "status": status});
        let old = job(json!({"active": 1, "startTime": "2026-01-01T00:00:00Z"}));
        let new = job(
            json!({"active": 1, "startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Complete", "status": "True"}]}),
        );
        let texts = errors::texts(|e| update(&new, &old, e));
        assert_eq!(
            texts,
            [
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
            ]
        );
    }
}
