//! StatefulSets and ControllerRevisions.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::{Value, json};

use super::errors::Errors;
use super::read::{Fields, same};
use super::workloads::{self, SPEC};
use super::{checks, gotypes, metadata, pod};

const RETENTION: [&str; 2] = ["Retain", "Delete"];
const IMMUTABLE_SPEC: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

fn spec(spec: &Value, e: &mut Errors) {
    let policy = spec.text("podManagementPolicy");
    match policy {
        "" => e.required(&SPEC.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        _ => e.invalid(&SPEC.child("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'"),
    }
    update_strategy(spec.sub("updateStrategy"), &SPEC.child("updateStrategy"), e);
    if let Some(policy) = spec.some("persistentVolumeClaimRetentionPolicy") {
        let path = SPEC.child("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let value = policy.text(field);
            if !RETENTION.contains(&value) {
                e.not_supported(&path.child(field), value, &RETENTION);
            }
        }
    }
    checks::non_negative(spec.int("replicas"), &SPEC.child("replicas"), e);
    checks::non_negative(spec.int("minReadySeconds"), &SPEC.child("minReadySeconds"), e);
    if let Some(ordinals) = spec.some("ordinals") {
        checks::non_negative(ordinals.int("start"), &SPEC.child("ordinals").child("start"), e);
    }
    workloads::selector(spec, "statefulset", &SPEC, e);
    let templates = SPEC.child("volumeClaimTemplates");
    for (i, claim) in spec.items("volumeClaimTemplates").iter().enumerate() {
        super::claim::spec(claim.sub("spec"), false, &templates.index(i).child("spec"), e);
    }
    let path = SPEC.child("template");
    let template = spec.sub("template");
    if let Some(selector) = workloads::parsed_selector(spec, "", &SPEC, e) {
        workloads::selected(&selector, template, &path, e);
        pod::template(&with_claims(template, spec.items("volumeClaimTemplates")), &path, e);
    }
    workloads::lasting(template, "StatefulSet", &path, e);
}

/// The template as its pods will be: each claim template is a volume too.
fn with_claims(template: &Value, claims: &[Value]) -> Value {
    let mut template = template.clone();
    let own: Vec<String> =
        template.sub("spec").items("volumes").iter().map(|v| v.text("name").to_string()).collect();
    let claimed = claims.iter().map(metadata::name).filter(|name| !own.iter().any(|own| own == name));
    let claimed: Vec<Value> =
        claimed.map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
    if let Some(spec) =
        template.get_mut("spec").and_then(Value::as_object_mut).filter(|_| !claimed.is_empty())
    {
        match spec.entry("volumes").or_insert_with(|| json!([])) {
            Value::Array(volumes) => volumes.extend(claimed),
            other => *other = claimed.into(),
        }
    }
    template
}

fn update_strategy(strategy: &Value, path: &Path<'_>, e: &mut Errors) {
    let rolling_path = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.some("rollingUpdate")) {
        ("", _) => e.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            e.invalid_go(&rolling_path, &gotypes::STATEFUL_SET_ROLLING_UPDATE, rolling, detail);
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            checks::non_negative(rolling.int("partition"), &rolling_path.child("partition"), e);
            if let Some(unavailable) = rolling.some("maxUnavailable") {
                let path = rolling_path.child("maxUnavailable");
                checks::positive_int_or_percent(unavailable, &path, e);
                if checks::int_or_percent(unavailable) == 0 {
                    e.invalid(&path, unavailable.clone(), "cannot be 0");
                }
                checks::not_over_100_percent(unavailable, &path, e);
            }
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            e.invalid_go(path, &gotypes::STATEFUL_SET_UPDATE_STRATEGY, strategy, detail);
        }
    }
}

pub(super) fn create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    spec(object.sub("spec"), e);
}

pub(super) fn update(object: &Value, old: &Value, e: &mut Errors) {
    const MUTABLE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    metadata::update(object, old, e);
    spec(object.sub("spec"), e);
    let fixed = |object: &Value| {
        let mut spec = object.sub("spec").clone();
        if let Some(spec) = spec.as_object_mut() {
            MUTABLE.iter().for_each(|field| drop(spec.remove(*field)));
        }
        spec
    };
    if !same(&fixed(object), &fixed(old)) {
        e.forbidden(&SPEC, IMMUTABLE_SPEC);
    }
}

pub(super) fn status(object: &Value, old: &Value, e: &mut Errors) {
    let status = object.sub("status");
    let fields = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    workloads::counts(status, &fields, e);
    let bounded = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    workloads::replicas_within(status, &bounded, "cannot be greater than status.readyReplicas", e);
    metadata::update(object, old, e);
    workloads::collisions(status, old.sub("status"), e);
}

pub(super) fn revision_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    checks::non_negative(object.int("revision"), &Path::new("revision"), e);
    if !object.has("data") {
        e.required(&Path::new("data"), "data is mandatory");
    }
}

pub(super) fn revision_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    revision_create(object, e);
    checks::immutable_field(object, old, "data", &Path::ROOT, e);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;

    #[test]
    fn an_unknown_strategy_is_shown_as_go_prints_it() {
        let texts = errors::texts(|e| {
            update_strategy(&json!({"type": "Wrong"}), &Path::new("s"), e);
            update_strategy(
                &json!({"type": "OnDelete", "rollingUpdate": {"partition": -1}}),
                &Path::new("s"),
                e,
            );
        });
        assert_eq!(
            texts,
            [
                r#"s: Invalid value: {"Type":"Wrong","RollingUpdate":null}: must be 'RollingUpdate' or 'OnDelete'"#,
                r#"s.rollingUpdate: Invalid value: {"Partition":-1,"MaxUnavailable":null}: only allowed for updateStrategy 'RollingUpdate'"#,
            ]
        );
    }

    #[test]
    fn data_of_a_revision_is_required_and_fixed() {
        let r = json!({"metadata": {"name": "r", "namespace": "n"}, "revision": -1});
        let texts = errors::texts(|e| revision_create(&r, e));
        assert_eq!(
            texts,
            [
                "revision: Invalid value: -1: must be greater than or equal to 0",
                "data: Required value: data is mandatory"
            ]
        );
    }
}
