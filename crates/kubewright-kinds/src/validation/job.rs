//! Jobs: the spec and its updates.

use std::collections::BTreeSet;

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use kubewright_machinery::selector::LabelSelector;
use serde_json::{Value, json};

use super::errors::Errors;
use super::read::{Fields, same};
use super::{checks, job_indexes, metadata, names_of, pod};

const SPEC: Path<'static> = Path::new("spec");
const INDEXED: &str = "requires indexed completion mode";

fn is_indexed(spec: &Value) -> bool {
    spec.text("completionMode") == "Indexed"
}

/// What holds for the specs of jobs and of job templates.
pub(super) fn template_spec(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in numbers {
        checks::opt_non_negative(spec, field, path, e);
    }
    let indexed = is_indexed(spec);
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        e.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.opt_text("managedBy") {
        names_of::domain_prefixed_path(manager, &path.child("managedBy"), e);
        if manager.len() > 63 {
            e.too_long(&path.child("managedBy"), 63);
        }
    }
    completion_mode(spec, indexed, path, e);
    if let Some(policy) = spec.some("podFailurePolicy") {
        failure_policy(policy, spec, &path.child("podFailurePolicy"), e);
    }
    if let Some(policy) = spec.some("successPolicy") {
        let path = path.child("successPolicy");
        if indexed {
            success_policy(policy, spec.int("completions"), &path, e);
        } else {
            e.invalid_go(&path, &super::gotypes::SUCCESS_POLICY, policy, INDEXED);
        }
    }
    if let Some(policy) = spec.opt_text("podReplacementPolicy") {
        let both = ["Failed", "TerminatingOrFailed"];
        let supported = if spec.has("podFailurePolicy") { &both[..1] } else { &both[..] };
        if !supported.contains(&policy) {
            e.not_supported(&path.child("podReplacementPolicy"), policy, supported);
        }
    }
    let template_path = path.child("template");
    pod::template(spec.sub("template"), &template_path, e);
    let pod_path = template_path.child("spec");
    let restart_path = pod_path.child("restartPolicy");
    match spec.sub("template").sub("spec").text("restartPolicy") {
        "Always" | "" => e.required(&restart_path, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if spec.has("podFailurePolicy") => {
            e.invalid(
                &restart_path,
                "OnFailure",
                "only \"Never\" is supported when podFailurePolicy is specified",
            );
        }
        "OnFailure" => {}
        other => e.not_supported(&restart_path, other, &["OnFailure", "Never"]),
    }
}

fn completion_mode(spec: &Value, indexed: bool, path: &Path<'_>, e: &mut Errors) {
    let mode = spec.opt_text("completionMode");
    if let Some(mode) = mode.filter(|m| !matches!(*m, "NonIndexed" | "Indexed")) {
        e.not_supported(&path.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    let (failed, failed_path) = (spec.opt_int("maxFailedIndexes"), path.child("maxFailedIndexes"));
    if indexed {
        let (completions, parallelism) = (spec.opt_int("completions"), spec.opt_int("parallelism"));
        let parallelism_path = path.child("parallelism");
        if completions.is_none() {
            e.required(&path.child("completions"), "when completion mode is Indexed");
        }
        if let Some(n) = parallelism.filter(|n| *n > 100_000) {
            e.invalid(
                &parallelism_path,
                n,
                "must be less than or equal to 100000 when completion mode is Indexed",
            );
        }
        if let Some(failed) = failed.filter(|n| completions.is_some_and(|c| *n > c)) {
            e.invalid(&failed_path, failed, "must be less than or equal to completions");
        }
        if let Some(failed) = failed.filter(|n| *n > 100_000) {
            e.invalid(&failed_path, failed, "must be less than or equal to 100000");
        }
        if completions.is_some_and(|c| c > 100_000) && spec.has("backoffLimitPerIndex") {
            let detail = "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index";
            if failed.is_none() {
                e.required(&failed_path, "must be specified when completions is above 100000");
            }
            if let Some(n) = parallelism.filter(|n| *n > 10_000) {
                e.invalid(&parallelism_path, n, detail);
            }
            if let Some(n) = failed.filter(|n| *n > 10_000) {
                e.invalid(&failed_path, n, detail);
            }
        }
    }
    if matches!(mode, None | Some("NonIndexed")) {
        if let Some(limit) = spec.opt_int("backoffLimitPerIndex") {
            e.invalid(&path.child("backoffLimitPerIndex"), limit, INDEXED);
        }
        if let Some(failed) = failed {
            e.invalid(&failed_path, failed, INDEXED);
        }
    }
}

fn failure_policy(policy: &Value, spec: &Value, path: &Path<'_>, e: &mut Errors) {
    const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
    let rules_path = path.child("rules");
    let rules = policy.items("rules");
    if rules.len() > 20 {
        e.too_many(&rules_path, rules.len(), 20);
    }
    let pod = spec.sub("template").sub("spec");
    let containers: BTreeSet<&str> =
        pod.items("containers").iter().chain(pod.items("initContainers")).map(|c| c.text("name")).collect();
    for (i, rule) in rules.iter().enumerate() {
        let item = rules_path.index(i);
        let action = rule.text("action");
        let action_path = item.child("action");
        match action {
            "" => e.required(&action_path, "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                e.invalid(&action_path, action, "requires the backoffLimitPerIndex to be set");
            }
            _ if ACTIONS.contains(&action) => {}
            _ => e.not_supported(&action_path, action, &ACTIONS),
        }
        let conditions = rule.items("onPodConditions");
        if let Some(codes) = rule.some("onExitCodes") {
            exit_codes(codes, &containers, &item.child("onExitCodes"), e);
        }
        pod_conditions(conditions, &item.child("onPodConditions"), e);
        match (rule.has("onExitCodes"), conditions.is_empty()) {
            (true, false) => {
                e.invalid_unshown(&item, "specifying both OnExitCodes and OnPodConditions is not supported");
            }
            (false, true) => {
                e.invalid_unshown(&item, "specifying one of OnExitCodes and OnPodConditions is required");
            }
            _ => {}
        }
    }
}

fn pod_conditions(patterns: &[Value], path: &Path<'_>, e: &mut Errors) {
    const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
    if patterns.len() > 20 {
        e.too_many(path, patterns.len(), 20);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let item = path.index(i);
        checks::qualified_name(pattern.text("type"), &item.child("type"), e);
        let status = pattern.text("status");
        if status.is_empty() {
            e.required(&item.child("status"), "valid values: [\"False\" \"True\" \"Unknown\"]");
        } else if !STATUSES.contains(&status) {
            e.not_supported(&item.child("status"), status, &STATUSES);
        }
    }
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, path: &Path<'_>, e: &mut Errors) {
    let operator = codes.text("operator");
    match operator {
        "" => e.required(&path.child("operator"), "valid values: [\"In\" \"NotIn\"]"),
        "In" | "NotIn" => {}
        _ => e.not_supported(&path.child("operator"), operator, &["In", "NotIn"]),
    }
    if let Some(name) = codes.opt_text("containerName").filter(|n| !containers.contains(n)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        e.invalid(&path.child("containerName"), name, detail);
    }
    let values_path = path.child("values");
    let values: Vec<i64> = codes.items("values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        e.invalid(&values_path, codes.sub("values").clone(), "at least one value is required");
    } else if values.len() > 255 {
        e.too_many(&values_path, values.len(), 255);
    }
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            e.invalid(&values_path.index(i), 0, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            e.duplicate(&values_path.index(i), *value);
        }
    }
    if !values.is_sorted() {
        e.invalid(&values_path, values, "must be ordered");
    }
}

fn success_policy(policy: &Value, completions: i64, path: &Path<'_>, e: &mut Errors) {
    let rules_path = path.child("rules");
    let rules = policy.items("rules");
    if rules.is_empty() {
        e.required(&rules_path, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > 20 {
        e.too_many(&rules_path, rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        let item = rules_path.index(i);
        let (count, indexes) = (rule.opt_int("succeededCount"), rule.opt_text("succeededIndexes"));
        if count.is_none() && indexes.is_none() {
            e.required(&item, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = 0;
        if let Some(indexes) = indexes {
            let path = item.child("succeededIndexes");
            if indexes.len() > 64 * 1024 {
                e.too_long(&path, 64 * 1024);
            }
            match job_indexes::total(indexes, completions) {
                Ok(n) => total = n,
                Err(error) => e.invalid(&path, indexes, format!("error parsing succeededIndexes: {error}")),
            }
        }
        let Some(count) = count else { continue };
        let path = item.child("succeededCount");
        checks::non_negative(count, &path, e);
        if count > completions {
            let detail =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            e.invalid(&path, count, detail);
        }
        if indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            e.invalid(&path, count, detail);
        }
    }
}

/// The labels that the server gives to the pods of a job.
fn generated_selector(job: &Value, e: &mut Errors) {
    let spec = job.sub("spec");
    if spec.flag("manualSelector") || !spec.has("selector") {
        return;
    }
    let meta = job.sub("metadata");
    let (uid, name) = (meta.text("uid"), meta.text("name"));
    if uid.is_empty() {
        e.required(&Path::new("metadata").child("uid"), "");
    }
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let template = SPEC.child("template");
    let metadata_path = template.child("metadata");
    let labels_path = metadata_path.child("labels");
    let template_meta = spec.sub("template").sub("metadata");
    for (key, value) in expected {
        match template_meta.entry("labels", key) {
            None => e.required(&labels_path.key(key), format!("must be '{value}'")),
            Some(found) if found != value => {
                e.invalid(
                    &labels_path.key(key),
                    template_meta.sub("labels").clone(),
                    format!("must be '{value}'"),
                );
            }
            Some(_) => {}
        }
    }
    let lookup = |key: &str| expected.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
    if LabelSelector::from_value(spec.some("selector")).is_ok_and(|s| !s.matches(lookup)) {
        e.invalid(&SPEC.child("selector"), spec.sub("selector").clone(), "`selector` not auto-generated");
    }
}

fn job_spec(spec: &Value, e: &mut Errors) {
    template_spec(spec, &SPEC, e);
    match spec.some("selector") {
        None => e.required(&SPEC.child("selector"), ""),
        selector => checks::label_selector(selector, false, &SPEC.child("selector"), e),
    }
    let template_meta = spec.sub("template").sub("metadata");
    let selector = LabelSelector::from_value(spec.some("selector"));
    if selector.is_ok_and(|s| !s.matches_labels(template_meta.map("labels"))) {
        let template = SPEC.child("template");
        let metadata = template.child("metadata");
        let detail = "`selector` does not match template `labels`";
        e.invalid(&metadata.child("labels"), template_meta.sub("labels").clone(), detail);
    }
}

pub(super) fn create(job: &Value, e: &mut Errors) {
    metadata::create(job, true, names::name_is_subdomain, e);
    generated_selector(job, e);
    let spec = job.sub("spec");
    job_spec(spec, e);
    let completions = spec.int("completions");
    if is_indexed(spec) && completions > 0 {
        let name = metadata::name(job);
        let host = format!("{name}-{}", completions - 1);
        if !names::is_dns1123_label(&host).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            e.invalid(&Path::new("metadata").child("name"), name, detail);
        }
    }
}

pub(super) fn update(job: &Value, old: &Value, e: &mut Errors) {
    create(job, e);
    metadata::update(job, old, e);
    let (spec, old_spec) = (job.sub("spec"), old.sub("spec"));
    job_spec(spec, e);
    if is_indexed(spec) {
        let path = SPEC.child("completions");
        let completions = spec.opt_int("completions");
        if completions != old_spec.opt_int("completions")
            && completions.is_some_and(|c| c != spec.int("parallelism"))
        {
            let detail = "can only be modified in tandem with spec.parallelism";
            e.invalid(&path, completions, detail);
        }
    } else {
        checks::immutable_field(spec, old_spec, "completions", &SPEC, e);
    }
    checks::immutable_field(spec, old_spec, "selector", &SPEC, e);
    let template = spec.sub("template");
    if !same(template, &allowed_template(template, old)) {
        e.invalid(&SPEC.child("template"), template.clone(), checks::IMMUTABLE);
    }
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        checks::immutable_field(spec, old_spec, field, &SPEC, e);
    }
}

/// The stored template, with what a job that was never started may still change taken from the new one.
fn allowed_template(new: &Value, old: &Value) -> Value {
    let mut allowed = old.sub("spec").sub("template").clone();
    let never_started = old.sub("spec").flag("suspend") && !old.sub("status").has("startTime");
    if !never_started {
        return allowed;
    }
    let new_spec = new.sub("spec");
    let put = |object: &mut Value, part: &str, field: &str, value: Value| {
        if object.sub(part).is_null() {
            object[part] = json!({});
        }
        if let Some(map) = object.get_mut(part).and_then(Value::as_object_mut) {
            if value.is_null() {
                map.remove(field);
            } else {
                map.insert(field.to_string(), value);
            }
        }
    };
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        put(&mut allowed, "spec", field, new_spec.sub(field).clone());
    }
    for field in ["labels", "annotations"] {
        put(&mut allowed, "metadata", field, new.sub("metadata").sub(field).clone());
    }
    let mut affinity = allowed.sub("spec").sub("affinity").clone();
    let node = new_spec.sub("affinity").sub("nodeAffinity").clone();
    if !affinity.is_object() && !node.is_null() {
        affinity = json!({});
    }
    if let Some(map) = affinity.as_object_mut() {
        map.remove("nodeAffinity");
        if !node.is_null() {
            map.insert("nodeAffinity".to_string(), node);
        }
        if map.is_empty() && !new_spec.has("affinity") {
            affinity = Value::Null;
        }
    }
    put(&mut allowed, "spec", "affinity", affinity);
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;

    fn texts(spec: Value) -> Vec<String> {
        errors::texts(|e| {
            let mut full = json!({"template": {"spec": {"restartPolicy": "Never", "dnsPolicy": "ClusterFirst",
            "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i",
            "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]}}});
            for (key, value) in spec.as_object().expect("an object") {
                full[key] = value.clone();
            }
            template_spec(&full, &SPEC, e);
        })
    }

    #[test]
    fn limits_per_index_need_indexes() {
        assert_eq!(
            texts(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 2, "completionMode": "NonIndexed"})),
            [
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "spec.maxFailedIndexes: Invalid value: 2: requires indexed completion mode",
            ]
        );
    }

    #[test]
    fn a_rule_of_a_failure_policy_looks_at_codes_or_conditions() {
        assert_eq!(
            texts(json!({"podFailurePolicy": {"rules": [{"action": "Wrong"}]}})),
            [
                r#"spec.podFailurePolicy.rules[0].action: Unsupported value: "Wrong": supported values: "Count", "FailIndex", "FailJob", "Ignore""#,
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ]
        );
    }
}
