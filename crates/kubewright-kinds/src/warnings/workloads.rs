//! Warnings about kinds that make pods from templates.

use serde_json::Value;

use super::pods::spec_and_metadata;
use super::{name_is_a_hostname, storage};
use crate::fields::{at, int, items, text};

/// The template at `path`, when the object is new or its generation changed. `shown` is the path that is printed.
fn template(object: &Value, old: Option<&Value>, path: &[&str], shown: &str, out: &mut Vec<String>) {
    let generation = |o: &Value| int(o, &["metadata", "generation"]);
    if old.is_none_or(|old| generation(old) != generation(object)) {
        spec_and_metadata(at(object, path), &format!("{shown}."), out);
    }
}

/// Deployments and replica sets: their names are the beginnings of the names of pods.
pub(crate) fn named_template(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() {
        name_is_a_hostname(object, "Pod names and hostnames", &mut out);
    }
    template(object, old, &["spec", "template"], "spec.template", &mut out);
    out
}

/// Replication controllers: what is said of the template is said of another path.
pub(crate) fn controller(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() {
        name_is_a_hostname(object, "Pod names and hostnames", &mut out);
    }
    template(object, old, &["spec", "template"], "template", &mut out);
    out
}

/// Daemon sets.
pub(crate) fn daemon_set(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let path = ["spec", "template"];
    if old.is_none_or(|old| at(old, &path) != at(object, &path)) {
        spec_and_metadata(at(object, &path), "spec.template.", &mut out);
    }
    out
}

/// Pod templates: only new ones.
pub(crate) fn pod_template(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() {
        spec_and_metadata(at(object, &["template"]), "template.", &mut out);
    }
    out
}

/// Stateful sets: their template, their claims, and how much of the past they keep.
pub(crate) fn stateful_set(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    template(object, old, &["spec", "template"], "spec.template", &mut out);
    // Updates say it of a path with a capital.
    let below = if old.is_some() { ".Spec" } else { "" };
    for (i, claim) in items(object, &["spec", "volumeClaimTemplates"]).iter().enumerate() {
        let path = format!("spec.volumeClaimTemplates[{i}]{below}");
        storage::claim_spec(at(claim, &["spec"]), &path, &mut out);
    }
    if int(object, &["spec", "revisionHistoryLimit"]).is_some_and(|limit| limit < 0) {
        out.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
             recommended"
                .into(),
        );
    }
    out
}

/// The spec of a job, also inside a cron job.
fn job_spec(object: &Value, old: Option<&Value>, path: &[&str], out: &mut Vec<String>) {
    let generation = |o: &Value| int(o, &["metadata", "generation"]);
    if old.is_some_and(|old| generation(old) == generation(object)) {
        return;
    }
    let spec = at(object, path);
    let many = |field: &str, limit: i64| int(spec, &[field]).is_some_and(|n| n > limit);
    if text(spec, &["completionMode"]) == "Indexed"
        && many("completions", 100_000)
        && many("parallelism", 10_000)
    {
        out.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            path.join(".")
        ));
    }
    spec_and_metadata(at(spec, &["template"]), &format!("{}.template.", path.join(".")), out);
}

pub(crate) fn job(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() {
        name_is_a_hostname(object, "Pod names and hostnames", &mut out);
    }
    job_spec(object, old, &["spec"], &mut out);
    out
}

pub(crate) fn cron_job(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() {
        name_is_a_hostname(object, "Pod names and hostnames", &mut out);
    }
    job_spec(object, old, &["spec", "jobTemplate", "spec"], &mut out);
    // New ones with a zone in the schedule are refused.
    if old.is_some() && text(object, &["spec", "schedule"]).contains("TZ") {
        out.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .into(),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(generation: i64) -> Value {
        json!({"metadata": {"name": "d", "generation": generation}, "spec": {"template": {"spec":
            {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}}}})
    }

    #[test]
    fn a_template_is_warned_about_again_when_the_generation_changes() {
        assert_eq!(named_template(&deployment(1), None).len(), 1);
        assert!(named_template(&deployment(1), Some(&deployment(1))).is_empty());
        assert_eq!(
            named_template(&deployment(2), Some(&deployment(1))),
            [
                r#"spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#
            ]
        );
    }

    #[test]
    fn a_set_that_keeps_all_of_its_past_is_warned_about() {
        let set = json!({"spec": {"revisionHistoryLimit": -1, "volumeClaimTemplates": [
            {"spec": {"resources": {"requests": {"storage": "1m"}}}}]}});
        assert_eq!(
            stateful_set(&set, None),
            [
                r#"spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value "1m" is invalid, must be an integer"#,
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
            ]
        );
    }

    #[test]
    fn many_indexes_are_hard_to_track() {
        let job_of = json!({"metadata": {"name": "j"},
            "spec": {"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001}});
        assert!(
            job(&job_of, None)[0].starts_with("spec: In Indexed Jobs with a number of completions higher")
        );
    }
}
