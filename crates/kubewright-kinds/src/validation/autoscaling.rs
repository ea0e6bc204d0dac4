//! HorizontalPodAutoscalers, as `autoscaling/v2` has them.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::workloads::SPEC;
use super::{checks, metadata, resources};

const METRIC_TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The fields of a metric that hold its source, in the order in which they are looked at.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const SELECT_POLICIES: [&str; 3] = ["Disabled", "Max", "Min"];
const POLICY_TYPES: [&str; 2] = ["Percent", "Pods"];
const LONGEST_STABILIZATION: i64 = 3600;
const LONGEST_PERIOD: i64 = 1800;

pub(super) fn create(autoscaler: &Value, e: &mut Errors) {
    metadata::create(autoscaler, true, names::name_is_subdomain, e);
    spec(autoscaler.sub("spec"), 1, None, e);
}

pub(super) fn update(autoscaler: &Value, old: &Value, e: &mut Errors) {
    metadata::update(autoscaler, old, e);
    let old = old.sub("spec");
    let lowest = if old.opt_int("minReplicas") == Some(0) { 0 } else { 1 };
    spec(autoscaler.sub("spec"), lowest, old.sub("scaleTargetRef").opt_text("apiVersion"), e);
}

pub(super) fn status(autoscaler: &Value, old: &Value, e: &mut Errors) {
    metadata::update(autoscaler, old, e);
    let path = Path::new("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        checks::non_negative(autoscaler.sub("status").int(field), &path.child(field), e);
    }
}

/// `old_version` is the target's API version that is stored already: it may stay as it is.
fn spec(spec: &Value, lowest: i64, old_version: Option<&str>, e: &mut Errors) {
    let min = spec.opt_int("minReplicas");
    if let Some(min) = min.filter(|min| *min < lowest) {
        e.invalid(&SPEC.child("minReplicas"), min, format!("must be greater than or equal to {lowest}"));
    }
    let (max, max_path) = (spec.int("maxReplicas"), SPEC.child("maxReplicas"));
    match max {
        0 => e.required(&max_path, "must be set and greater than 0"),
        ..0 => e.invalid(&max_path, max, "must be greater than 0"),
        _ => {}
    }
    if min.is_some_and(|min| max < min) {
        e.invalid(&max_path, max, "must be greater than or equal to `minReplicas`");
    }
    let (target, path) = (spec.sub("scaleTargetRef"), SPEC.child("scaleTargetRef"));
    reference(target, &path, e);
    if old_version != Some(target.text("apiVersion")) {
        target_version(target, &path.child("apiVersion"), e);
    }
    let metrics = spec.items("metrics");
    for (i, item) in metrics.iter().enumerate() {
        metric(item, &SPEC.child("metrics").index(i), e);
    }
    if min == Some(0) && !metrics.iter().any(|m| matches!(m.text("type"), "Object" | "External")) {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        e.forbidden(&SPEC.child("metrics"), detail);
    }
    if let Some(behavior) = spec.some("behavior") {
        let path = SPEC.child("behavior");
        for field in ["scaleUp", "scaleDown"] {
            if let Some(rules) = behavior.some(field) {
                scaling_rules(rules, &path.child(field), e);
            }
        }
    }
}

fn reference(reference: &Value, path: &Path<'_>, e: &mut Errors) {
    for field in ["kind", "name"] {
        match reference.text(field) {
            "" => e.required(&path.child(field), ""),
            value => e.each(&path.child(field), value, names::is_path_segment_name(value)),
        }
    }
}

/// The target names its group, unless it is of the core group's only scalable kind.
fn target_version(target: &Value, path: &Path<'_>, e: &mut Errors) {
    let version = target.text("apiVersion");
    match version.split('/').count() {
        1 if target.text("kind") == "ReplicationController" && matches!(version, "v1" | "") => {}
        1 => e.invalid(path, version, "apiVersion must specify API group"),
        2 => {}
        _ => e.invalid(path, version, format!("unexpected GroupVersion string: {version}")),
    }
}

fn scaling_rules(rules: &Value, path: &Path<'_>, e: &mut Errors) {
    if let Some(window) = rules.opt_int("stabilizationWindowSeconds") {
        let path = path.child("stabilizationWindowSeconds");
        if window < 0 {
            e.invalid(&path, window, "must be greater than or equal to zero");
        }
        if window > LONGEST_STABILIZATION {
            e.invalid(&path, window, format!("must be less than or equal to {LONGEST_STABILIZATION}"));
        }
    }
    if let Some(policy) = rules.opt_text("selectPolicy").filter(|p| !SELECT_POLICIES.contains(p)) {
        e.not_supported(&path.child("selectPolicy"), policy, &SELECT_POLICIES);
    }
    if let Some(tolerance) = rules.some("tolerance") {
        checks::non_negative_quantity(tolerance, &path.child("tolerance"), e);
    }
    let list = path.child("policies");
    if rules.items("policies").is_empty() {
        e.required(&list, "must specify at least one Policy");
    }
    for (i, policy) in rules.items("policies").iter().enumerate() {
        let path = list.index(i);
        if !POLICY_TYPES.contains(&policy.text("type")) {
            e.not_supported(&path.child("type"), policy.text("type"), &POLICY_TYPES);
        }
        for field in ["value", "periodSeconds"] {
            if policy.int(field) <= 0 {
                e.invalid(&path.child(field), policy.int(field), checks::NOT_POSITIVE);
            }
        }
        let period = policy.int("periodSeconds");
        if period > LONGEST_PERIOD {
            let detail = format!("must be less than or equal to {LONGEST_PERIOD}");
            e.invalid(&path.child("periodSeconds"), period, detail);
        }
    }
}

fn metric(metric: &Value, path: &Path<'_>, e: &mut Errors) {
    let kind = metric.text("type");
    if kind.is_empty() {
        e.required(&path.child("type"), "must specify a metric source type");
    }
    if !METRIC_TYPES.contains(&kind) {
        e.not_supported(&path.child("type"), kind, &METRIC_TYPES);
    }
    let present: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|f| metric.has(f)).collect();
    if let Some(first) = present.first() {
        source(first, metric.sub(first), &path.child(first), e);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    match expected {
        Some(field) if !metric.has(field) => {
            e.required(&path.child(field), "must populate information for the given metric source");
        }
        Some(_) => {}
        None => e.not_supported(&path.child("type"), kind, &METRIC_TYPES),
    }
    if present.len() != 1 {
        for field in present.into_iter().filter(|field| Some(*field) != expected) {
            e.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn source(kind: &str, source: &Value, path: &Path<'_>, e: &mut Errors) {
    match kind {
        "resource" | "containerResource" => {
            match source.text("name") {
                "" => e.required(&path.child("name"), "must specify a resource name"),
                name if kind == "containerResource" => {
                    resources::container_name(name, &path.child("name"), e);
                }
                _ => {}
            }
            if kind == "containerResource" {
                match source.text("container") {
                    "" => e.required(&path.child("container"), "must specify a container"),
                    name => checks::label(name, &path.child("container"), e),
                }
            }
        }
        _ => {
            if kind == "object" {
                reference(source.sub("describedObject"), &path.child("describedObject"), e);
            }
            let (metric, path) = (source.sub("metric"), path.child("metric"));
            match metric.text("name") {
                "" => e.required(&path.child("name"), "must specify a metric name"),
                name => e.each(&path.child("name"), name, names::is_path_segment_name(name)),
            }
        }
    }
    let (target, path) = (source.sub("target"), path.child("target"));
    metric_target(target, &path, e);
    let (value, average) = (target.has("value"), target.has("averageValue"));
    let utilization = target.has("averageUtilization");
    match kind {
        "object" if !value && !average => {
            e.required(&path.child("averageValue"), "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            let detail = "must set either a target value for metric or a per-pod target";
            e.required(&path.child("averageValue"), detail);
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            e.forbidden(&path.child("value"), detail);
        }
        "pods" if !average => {
            e.required(&path.child("averageValue"), "must specify a positive target averageValue");
        }
        "resource" | "containerResource" if !utilization && !average => {
            let detail = "must set either a target raw value or a target utilization";
            e.required(&path.child("averageUtilization"), detail);
        }
        "resource" | "containerResource" if utilization && average => {
            let detail = "may not set both a target raw value and a target utilization";
            e.forbidden(&path.child("averageValue"), detail);
        }
        _ => {}
    }
}

fn metric_target(target: &Value, path: &Path<'_>, e: &mut Errors) {
    let kind = target.text("type");
    if kind.is_empty() {
        e.required(&path.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        e.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if let Some(quantity) = target.some(field).map(checks::quantity).filter(|q| q.signum() <= 0) {
            e.invalid(&path.child(field), quantity.to_string(), "must be positive");
        }
    }
    if let Some(utilization) = target.opt_int("averageUtilization").filter(|u| *u < 1) {
        e.invalid(&path.child("averageUtilization"), utilization, "must be greater than 0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn texts(spec: Value) -> Vec<String> {
        errors::texts(|e| create(&json!({"metadata": {"name": "h", "namespace": "n"}, "spec": spec}), e))
    }

    #[test]
    fn an_empty_target_lacks_kind_name_and_group() {
        assert_eq!(
            texts(json!({"minReplicas": 0, "maxReplicas": 0})),
            [
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.maxReplicas: Required value: must be set and greater than 0",
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Required value",
                "spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ]
        );
    }

    #[test]
    fn a_metric_has_the_source_that_its_type_names() {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
        let average =
            json!({"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}});
        let of_cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}});
        let metrics = json!([
            {"type": "Resource", "pods": average},
            {"type": "Resource", "pods": average, "resource": of_cpu},
        ]);
        assert_eq!(
            texts(json!({"maxReplicas": 1, "scaleTargetRef": target, "metrics": metrics})),
            [
                "spec.metrics[0].resource: Required value: must populate information for the given metric source",
                "spec.metrics[1].pods: Forbidden: must populate the given metric source only",
            ]
        );
    }
}
