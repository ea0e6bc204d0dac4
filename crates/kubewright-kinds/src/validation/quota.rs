//! ResourceQuotas and LimitRanges.

use std::collections::BTreeSet;

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use kubewright_machinery::quantity::{Format, Quantity};
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, gotypes, metadata, resources};

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const MUST_EXIST: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

/// Amounts of a quota: names that quotas know, amounts that exist.
fn amounts(owner: &Value, field: &str, path: &Path<'_>, e: &mut Errors) {
    let path = path.child(field);
    for (name, amount) in owner.entries(field) {
        resources::quota_name(name, &path.key(name), e);
        resources::amount(name, amount, &path.key(name), e);
    }
}

/// Whether a scope can limit a resource.
fn applies(scope: &str, resource: &str) -> bool {
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => resources::is_of_pods(resource),
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn spec(spec: &Value, e: &mut Errors) {
    amounts(spec, "hard", &SPEC, e);
    let hard: Vec<&str> = spec
        .entries("hard")
        .map(|(name, _)| name)
        .filter(|name| resources::is_standard_quota(name))
        .collect();
    let scopes = spec.strings("scopes");
    let path = SPEC.child("scopes");
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            e.invalid(&path, scopes.clone(), "unsupported scope");
        }
        for _ in hard.iter().filter(|resource| !applies(scope, resource)) {
            e.invalid(&path, scopes.clone(), "unsupported scope applied to resource");
        }
    }
    for [a, b] in CONFLICTS {
        if scopes.contains(&a) && scopes.contains(&b) {
            e.invalid(&path, scopes.clone(), "conflicting scopes");
        }
    }
    if let Some(selector) = spec.some("scopeSelector") {
        scope_selector(selector, spec, &hard, e);
    }
}

fn scope_selector(selector: &Value, spec: &Value, hard: &[&str], e: &mut Errors) {
    let selector_path = SPEC.child("scopeSelector");
    let path = selector_path.child("matchExpressions");
    let mut seen = BTreeSet::new();
    for requirement in selector.items("matchExpressions") {
        let (scope, operator) = (requirement.text("scopeName"), requirement.text("operator"));
        let values = requirement.strings("values");
        if !SCOPES.contains(&scope) {
            e.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in hard.iter().filter(|resource| !applies(scope, resource)) {
            let detail = "unsupported scope applied to resource";
            e.invalid_go(&path, &gotypes::SCOPE_SELECTOR, selector, detail);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail =
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                e.required(&path.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail =
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                e.invalid(&path.child("values"), values, detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => e.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        let exists_only =
            SCOPES.contains(&scope) && !matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if exists_only && operator != "Exists" {
            e.invalid(&path.child("operator"), operator, MUST_EXIST);
        }
        seen.insert(scope);
    }
    for [a, b] in CONFLICTS {
        if seen.contains(a) && seen.contains(b) {
            e.invalid(&path, spec.sub("scopes").clone(), "conflicting scopes");
        }
    }
}

fn status(quota: &Value, e: &mut Errors) {
    for field in ["hard", "used"] {
        amounts(quota.sub("status"), field, &STATUS, e);
    }
}

pub(super) fn quota_create(quota: &Value, e: &mut Errors) {
    metadata::create(quota, true, names::name_is_subdomain, e);
    spec(quota.sub("spec"), e);
    status(quota, e);
}

pub(super) fn quota_update(quota: &Value, old: &Value, e: &mut Errors) {
    metadata::update(quota, old, e);
    spec(quota.sub("spec"), e);
    let scopes = |quota: &Value| -> BTreeSet<String> {
        quota.sub("spec").strings("scopes").into_iter().map(str::to_string).collect()
    };
    if scopes(quota) != scopes(old) {
        e.invalid(&SPEC.child("scopes"), quota.sub("spec").sub("scopes").clone(), checks::IMMUTABLE);
    }
}

pub(super) fn quota_status(quota: &Value, old: &Value, e: &mut Errors) {
    metadata::update(quota, old, e);
    if quota.sub("metadata").text("resourceVersion").is_empty() {
        e.required(&Path::new("resourceVersion"), "");
    }
    status(quota, e);
}

fn limit_name(kind: &str, name: &str, path: &Path<'_>, e: &mut Errors) {
    match kind {
        "Pod" | "Container" => resources::container_name(name, path, e),
        _ => resources::name(name, path, e),
    }
}

pub(super) fn limit_range(range: &Value, e: &mut Errors) {
    metadata::create(range, true, names::name_is_subdomain, e);
    let list = SPEC.child("limits");
    let mut kinds = BTreeSet::new();
    for (i, limit) in range.sub("spec").items("limits").iter().enumerate() {
        let item = list.index(i);
        let kind = limit.text("type");
        let messages = names::is_qualified_name(kind);
        if !messages.is_empty() {
            e.each(&item.child("type"), kind, messages);
        } else if !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
            e.invalid(&item.child("type"), kind, "must be a standard limit type or fully qualified");
        }
        if !kinds.insert(kind) {
            e.duplicate(&item.child("type"), kind);
        }
        one_limit(limit, kind, &item, e);
    }
}

fn one_limit(limit: &Value, kind: &str, path: &Path<'_>, e: &mut Errors) {
    let mut keys = BTreeSet::new();
    let mut names_of = |field: &str, e: &mut Errors| {
        let path = path.child(field);
        for (name, _) in limit.entries(field) {
            limit_name(kind, name, &path.key(name), e);
            keys.insert(name.to_string());
        }
    };
    names_of("max", e);
    names_of("min", e);
    let of_pod = kind == "Pod";
    for field in ["default", "defaultRequest"] {
        if !of_pod {
            names_of(field, e);
        } else if limit.entries(field).next().is_some() {
            e.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
        }
    }
    let storage = |field: &str| limit.sub(field).has("storage");
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        e.required(&path.child("limits"), detail);
    }
    names_of("maxLimitRequestRatio", e);
    for key in &keys {
        amounts_of(limit, key, of_pod, path, e);
    }
}

/// The amounts for one resource fit together.
fn amounts_of(limit: &Value, key: &str, of_pod: bool, path: &Path<'_>, e: &mut Errors) {
    let amount = |field: &str| limit.sub(field).some(key).map(checks::quantity);
    let default_of = |field: &str| if of_pod { None } else { amount(field) };
    let (min, max, ratio) = (amount("min"), amount("max"), amount("maxLimitRequestRatio"));
    let (default, request) = (default_of("default"), default_of("defaultRequest"));
    // Each pair in the order of the checks: the field that is named, the value that is shown, the smaller and
    // the greater amount with their names.
    let mut ordered = |field: &str,
                       shown: &Option<Quantity>,
                       a: (&str, &Option<Quantity>),
                       b: (&str, &Option<Quantity>)| {
        if let (Some(low), Some(high), Some(shown)) = (a.1, b.1, shown)
            && low > high
        {
            let detail = format!("{} value {low} is greater than {} value {high}", a.0, b.0);
            e.invalid(&path.child(field).key(key), shown.to_string(), detail);
        }
    };
    ordered("min", &min, ("min", &min), ("max", &max));
    ordered("defaultRequest", &request, ("min", &min), ("default request", &request));
    ordered("defaultRequest", &request, ("default request", &request), ("max", &max));
    ordered("defaultRequest", &request, ("default request", &request), ("default limit", &default));
    ordered("default", &min, ("min", &min), ("default", &default));
    ordered("default", &max, ("default", &default), ("max", &max));
    if let Some(ratio) = &ratio {
        let item = path.child("maxLimitRequestRatio");
        if *ratio < Quantity::new(1, Format::DecimalSi) {
            e.invalid(&item.key(key), ratio.to_string(), format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (&min, &max) {
            let most = max.as_f64() / min.as_f64();
            if ratio.as_f64() > most {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                e.invalid(&item.key(key), ratio.to_string(), detail);
            }
        }
    }
    if let (Some(default), Some(request)) = (&default, &request)
        && !resources::is_overcommit_allowed(key)
        && default != request
    {
        let detail = format!("default value {default} must equal to defaultRequest value {request} in {key}");
        e.invalid(&path.child("defaultRequest").key(key), request.to_string(), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;
    use serde_json::json;

    #[test]
    fn scopes_fit_the_resources_and_each_other() {
        let q = |spec: Value| json!({"metadata": {"name": "q", "namespace": "n"}, "spec": spec});
        assert_eq!(
            texts(|e| quota_create(
                &q(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]})),
                e
            )),
            [r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes"#]
        );
        assert_eq!(
            texts(|e| quota_create(&q(json!({"hard": {"foo": "1"}})), e)),
            [
                r#"spec.hard[foo]: Invalid value: "foo": must be a standard resource type or fully qualified"#,
                r#"spec.hard[foo]: Invalid value: "foo": must be a standard resource for quota"#,
            ]
        );
    }

    #[test]
    fn a_limit_has_its_minimum_below_its_maximum() {
        let l = json!({"metadata": {"name": "l", "namespace": "n"}, "spec": {"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}});
        assert_eq!(
            texts(|e| limit_range(&l, e)),
            [r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#]
        );
    }
}
