//! Webhook configurations, and the rules on what admission looks at that policies share with them.

use kubewright_machinery::crd::webhook;
use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::{Fields, same};
use super::{checks, metadata};

pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const REINVOCATION: [&str; 2] = ["IfNeeded", "Never"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const MOST_CONDITIONS: usize = 64;

/// Whether a configuration's webhooks may change requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Webhooks {
    Validating,
    Mutating,
}

/// A configuration; faults that the stored one has already are let through.
pub(super) fn webhooks(configuration: &Value, old: Option<&Value>, of: Webhooks, e: &mut Errors) {
    metadata::create_generic(configuration, false, names::name_is_subdomain, e);
    let hooks = configuration.items("webhooks");
    let stored = old.map(|old| old.items("webhooks")).unwrap_or_default();
    let allowed = Allowed::by(stored);
    let conditions_kept = old.is_some()
        && hooks.len() == stored.len()
        && hooks.iter().zip(stored).all(|(a, b)| same(a.sub("matchConditions"), b.sub("matchConditions")));
    let mut seen: Vec<&str> = Vec::new();
    let list = Path::new("webhooks");
    for (i, hook) in hooks.iter().enumerate() {
        let path = list.index(i);
        self::hook(hook, of, allowed, &path, e);
        if !conditions_kept {
            match_conditions(hook.items("matchConditions"), &path.child("matchConditions"), e);
        }
        review_versions(hook, allowed, &path.child("admissionReviewVersions"), e);
        let name = hook.text("name");
        if !allowed.same_names && !name.is_empty() {
            if seen.contains(&name) {
                e.duplicate(&path.child("name"), name);
            }
            seen.push(name);
        }
    }
}

/// Faults of older times that stored webhooks may keep.
#[derive(Clone, Copy)]
struct Allowed {
    side_effects: bool,
    unknown_versions: bool,
    same_names: bool,
    bad_selectors: bool,
}

impl Allowed {
    fn by(stored: &[Value]) -> Self {
        let known = |hook: &&Value| {
            let versions = hook.strings("admissionReviewVersions");
            versions.is_empty() || versions.iter().any(|v| REVIEW_VERSIONS.contains(v))
        };
        let names: Vec<&str> = stored.iter().map(|hook| hook.text("name")).collect();
        let bad_selector = |hook: &Value| {
            let mut found = Errors::new();
            for field in ["namespaceSelector", "objectSelector"] {
                checks::label_selector(hook.some(field), false, &Path::new(""), &mut found);
            }
            !found.is_empty()
        };
        Self {
            side_effects: stored.iter().any(|hook| !SIDE_EFFECTS[..2].contains(&hook.text("sideEffects"))),
            unknown_versions: !stored.iter().all(|hook| known(&hook)),
            same_names: names.iter().enumerate().any(|(i, name)| names[..i].contains(name)),
            bad_selectors: stored.iter().any(bad_selector),
        }
    }
}

fn hook(hook: &Value, of: Webhooks, allowed: Allowed, path: &Path<'_>, e: &mut Errors) {
    full_name(hook.text("name"), &path.child("name"), e);
    for (i, found) in hook.items("rules").iter().enumerate() {
        rule(found, &path.child("rules").index(i), e);
    }
    one_of(hook, "failurePolicy", &FAILURE_POLICIES, path, e);
    one_of(hook, "matchPolicy", &MATCH_POLICIES, path, e);
    let effects = if allowed.side_effects { &SIDE_EFFECTS[..] } else { &SIDE_EFFECTS[..2] };
    if !hook.has("sideEffects") {
        e.required(&path.child("sideEffects"), format!("must specify one of {}", effects.join(", ")));
    }
    one_of(hook, "sideEffects", effects, path, e);
    if let Some(seconds) = hook.opt_int("timeoutSeconds").filter(|s| !(1..=30).contains(s)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        e.invalid(&path.child("timeoutSeconds"), seconds, detail);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        checks::label_selector(hook.some(field), allowed.bad_selectors, &path.child(field), e);
    }
    if of == Webhooks::Mutating {
        one_of(hook, "reinvocationPolicy", &REINVOCATION, path, e);
    }
    let (client, path) = (hook.sub("clientConfig"), path.child("clientConfig"));
    match (client.opt_text("url"), client.some("service")) {
        (Some(url), None) => e.extend(webhook::url(&path.child("url"), url)),
        (None, Some(service)) => e.extend(webhook::service(&path.child("service"), service, true)),
        _ => e.required(&path, "exactly one of url or service is required"),
    }
}

/// A field that need not be set.
fn one_of(object: &Value, field: &str, supported: &[&str], path: &Path<'_>, e: &mut Errors) {
    if let Some(value) = object.opt_text(field).filter(|v| !supported.contains(v)) {
        e.not_supported(&path.child(field), value, supported);
    }
}

/// A field that must be set.
pub(super) fn needed_one_of(
    object: &Value,
    field: &str,
    supported: &[&str],
    path: &Path<'_>,
    e: &mut Errors,
) {
    match object.opt_text(field) {
        None => e.required(&path.child(field), ""),
        Some(_) => one_of(object, field, supported, path, e),
    }
}

fn full_name(name: &str, path: &Path<'_>, e: &mut Errors) {
    if name.is_empty() {
        return e.required(path, "");
    }
    let faults = names::is_dns1123_subdomain(name);
    if !faults.is_empty() {
        e.invalid(path, name, faults.join(","));
    } else if name.split('.').count() < 3 {
        e.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

fn review_versions(hook: &Value, allowed: Allowed, path: &Path<'_>, e: &mut Errors) {
    let versions = hook.strings("admissionReviewVersions");
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return e.required(path, format!("must specify one of {known}"));
    }
    for (i, version) in versions.iter().enumerate() {
        if versions[..i].contains(version) {
            e.invalid(&path.index(i), *version, "duplicate version");
            continue;
        }
        e.each(&path.index(i), version, names::is_dns1035_label(version));
    }
    if !allowed.unknown_versions && !versions.iter().any(|v| REVIEW_VERSIONS.contains(v)) {
        e.invalid(path, versions, format!("must include at least one of {known}"));
    }
}

/// What a webhook or policy is about: operations on resources.
pub(super) fn rule(rule: &Value, path: &Path<'_>, e: &mut Errors) {
    wildcard(rule, "operations", "operations", path, e);
    for (i, operation) in rule.strings("operations").into_iter().enumerate() {
        if !OPERATIONS.contains(&operation) {
            e.not_supported(&path.child("operations").index(i), operation, &OPERATIONS);
        }
    }
    wildcard(rule, "apiGroups", "API groups", path, e);
    wildcard(rule, "apiVersions", "API versions", path, e);
    for (i, version) in rule.strings("apiVersions").into_iter().enumerate() {
        if version.is_empty() {
            e.required(&path.child("apiVersions").index(i), "");
        }
    }
    resources(&rule.strings("resources"), &path.child("resources"), e);
    one_of(rule, "scope", &SCOPES, path, e);
}

fn wildcard(rule: &Value, field: &str, what: &str, path: &Path<'_>, e: &mut Errors) {
    let (values, path) = (rule.strings(field), path.child(field));
    if values.is_empty() {
        e.required(&path, "");
    }
    if values.len() > 1 && values.contains(&"*") {
        e.invalid(&path, values, format!("if '*' is present, must not specify other {what}"));
    }
}

fn resources(resources: &[&str], path: &Path<'_>, e: &mut Errors) {
    if resources.is_empty() {
        e.required(path, "");
    }
    let (mut whole, mut everywhere): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut without_subresource = false;
    for (i, resource) in resources.iter().enumerate() {
        let item = path.index(i);
        if resource.is_empty() {
            e.required(&item, "");
            continue;
        }
        let Some((name, subresource)) = resource.split_once('/') else {
            without_subresource = *resource != "*";
            continue;
        };
        if whole.contains(&name) {
            let detail = format!("if '{name}/*' is present, must not specify {resource}");
            e.invalid(&item, *resource, detail);
        }
        if everywhere.contains(&subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {resource}");
            e.invalid(&item, *resource, detail);
        }
        if subresource == "*" {
            whole.push(name);
        }
        if name == "*" {
            everywhere.push(subresource);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        e.invalid(path, resources.to_vec(), "if '*/*' is present, must not specify other resources");
    }
    if resources.contains(&"*") && without_subresource {
        let detail = "if '*' is present, must not specify other resources without subresources";
        e.invalid(path, resources.to_vec(), detail);
    }
}

/// `matchConditions`. That their expressions compile is checked where there is a compiler.
pub(super) fn match_conditions(conditions: &[Value], path: &Path<'_>, e: &mut Errors) {
    if conditions.len() > MOST_CONDITIONS {
        e.too_many(path, conditions.len(), MOST_CONDITIONS);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let item = path.index(i);
        if condition.text("expression").trim().is_empty() {
            e.required(&item.child("expression"), "");
        }
        let (name, path) = (condition.text("name"), item.child("name"));
        if name.is_empty() {
            e.required(&path, "");
            continue;
        }
        checks::qualified_name(name, &path, e);
        if seen.contains(&name) {
            e.duplicate(&path, name);
        }
        seen.push(name);
    }
}

/// `matchConstraints` of policies and `matchResources` of their bindings.
pub(super) fn match_resources(found: &Value, path: &Path<'_>, e: &mut Errors) {
    needed_one_of(found, "matchPolicy", &MATCH_POLICIES, path, e);
    for field in ["namespaceSelector", "objectSelector"] {
        match found.some(field) {
            None => e.required(&path.child(field), ""),
            selector => checks::label_selector(selector, false, &path.child(field), e),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        let list = path.child(field);
        for (i, rule) in found.items(field).iter().enumerate() {
            let item = list.index(i);
            named_resources(&rule.strings("resourceNames"), &item.child("resourceNames"), e);
            self::rule(rule, &item, e);
        }
    }
}

fn named_resources(found: &[&str], path: &Path<'_>, e: &mut Errors) {
    for (i, name) in found.iter().enumerate() {
        e.each(&path.index(i), name, names::is_path_segment_name(name));
        if found[..i].contains(name) {
            e.duplicate(&path.index(i), *name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn texts(configuration: &Value, old: Option<&Value>) -> Vec<String> {
        errors::texts(|e| webhooks(configuration, old, Webhooks::Mutating, e))
    }

    #[test]
    fn a_webhook_is_named_reachable_and_without_side_effects() {
        let configuration = json!({"metadata": {"name": "c"}, "webhooks": [{
            "name": "a.b", "clientConfig": {}, "sideEffects": "Some", "rules": [{"operations": ["*", "CREATE"],
            "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*", "pods"]}], "admissionReviewVersions": ["v7"]}]});
        assert_eq!(
            texts(&configuration, None),
            [
                r#"webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots"#,
                r#"webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if '*' is present, must not specify other operations"#,
                r#"webhooks[0].rules[0].resources: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources without subresources"#,
                r#"webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun""#,
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                r#"webhooks[0].admissionReviewVersions: Invalid value: ["v7"]: must include at least one of v1, v1beta1"#,
            ]
        );
        let kept = texts(&configuration, Some(&configuration));
        assert!(
            !kept.iter().any(|text| text.contains("sideEffects") || text.contains("Versions")),
            "{kept:?}"
        );
    }
}
