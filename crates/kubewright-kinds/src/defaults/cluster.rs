//! Defaults of kinds that configure the cluster: RBAC, scheduling, flow control, certificates, webhooks, policies.

use serde_json::{Map, Value, json};

use super::pod::round;
use crate::fields::{absent, empty, items_mut, member, object_mut, zero};

const RBAC: &str = "rbac.authorization.k8s.io";

/// RoleBindings and ClusterRoleBindings.
pub(crate) fn binding(object: &mut Value) {
    let Some(binding) = object.as_object_mut() else { return };
    if let Some(reference) = member(binding, "roleRef") {
        empty(reference, "apiGroup", RBAC);
    }
    for subject in items_mut(binding, "subjects") {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            empty(subject, "apiGroup", RBAC);
        }
    }
}

pub(crate) fn priority_class(object: &mut Value) {
    if let Some(class) = object.as_object_mut() {
        absent(class, "preemptionPolicy", "PreemptLowerPriority");
    }
}

pub(crate) fn runtime_class(object: &mut Value) {
    if let Some(amounts) = object_mut(object, &["overhead", "podFixed"]) {
        round(amounts);
    }
}

pub(crate) fn flow_schema(object: &mut Value) {
    if let Some(spec) = object_mut(object, &["spec"]) {
        zero(spec, "matchingPrecedence", 1000);
    }
}

pub(crate) fn priority_level(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    if let Some(exempt) = member(spec, "exempt") {
        absent(exempt, "nominalConcurrencyShares", 0);
        absent(exempt, "lendablePercent", 0);
    }
    if let Some(limited) = member(spec, "limited") {
        absent(limited, "nominalConcurrencyShares", 30);
        absent(limited, "lendablePercent", 0);
        if let Some(queuing) = member(limited, "limitResponse").and_then(|r| member(r, "queuing")) {
            zero(queuing, "handSize", 8);
            zero(queuing, "queues", 64);
            zero(queuing, "queueLengthLimit", 50);
        }
    }
}

/// Webhook configurations of both sorts.
pub(crate) fn webhooks(object: &mut Value) {
    let mutating = object.get("kind").and_then(Value::as_str) == Some("MutatingWebhookConfiguration");
    let Some(configuration) = object.as_object_mut() else { return };
    for webhook in items_mut(configuration, "webhooks") {
        absent(webhook, "failurePolicy", "Fail");
        absent(webhook, "matchPolicy", "Equivalent");
        absent(webhook, "namespaceSelector", json!({}));
        absent(webhook, "objectSelector", json!({}));
        absent(webhook, "timeoutSeconds", 10);
        if mutating {
            absent(webhook, "reinvocationPolicy", "Never");
        }
        for rule in items_mut(webhook, "rules") {
            absent(rule, "scope", "*");
        }
        if let Some(service) = member(webhook, "clientConfig").and_then(|c| member(c, "service")) {
            absent(service, "port", 443);
        }
    }
}

/// Validating and mutating admission policies.
pub(crate) fn policy(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    absent(spec, "failurePolicy", "Fail");
    if let Some(constraints) = member(spec, "matchConstraints") {
        match_resources(constraints);
    }
}

/// Bindings of admission policies.
pub(crate) fn policy_binding(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    if let Some(resources) = member(spec, "matchResources") {
        match_resources(resources);
    }
}

fn match_resources(resources: &mut Map<String, Value>) {
    absent(resources, "matchPolicy", "Equivalent");
    absent(resources, "namespaceSelector", json!({}));
    absent(resources, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        for rule in items_mut(resources, rules) {
            absent(rule, "scope", "*");
        }
    }
}
