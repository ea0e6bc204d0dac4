//! Defaults of core/v1 kinds other than pods and volumes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::pod::{round, template};
use crate::fields::{absent, at, empty, items_mut, member, member_made, object_mut, text};

/// A name gives the label that selects a namespace by name.
pub(crate) fn namespace(object: &mut Value) {
    let name = text(object, &["metadata", "name"]).to_string();
    if !name.is_empty()
        && let Some(meta) = object_mut(object, &["metadata"])
        && let Some(labels) = member_made(meta, "labels")
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
    if let Some(status) = object_mut(object, &["status"]) {
        empty(status, "phase", "Active");
    }
}

/// Allocatable is the capacity where nothing else is said.
pub(crate) fn node(object: &mut Value) {
    let Some(status) = object_mut(object, &["status"]) else { return };
    for name in ["capacity", "allocatable"] {
        if let Some(list) = member(status, name) {
            round(list);
        }
    }
    if let Some(capacity) = status.get("capacity").cloned() {
        absent(status, "allocatable", capacity);
    }
}

pub(crate) fn secret(object: &mut Value) {
    if let Some(secret) = object.as_object_mut() {
        empty(secret, "type", "Opaque");
        // What was written as text is data from then on.
        if let Some(Value::Object(strings)) = secret.remove("stringData")
            && let Some(data) = member_made(secret, "data")
        {
            for (key, value) in strings {
                data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
            }
        }
    }
}

pub(crate) fn service(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    empty(spec, "sessionAffinity", "None");
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("None") => {
            spec.remove("sessionAffinityConfig");
        }
        Some("ClientIP")
            if spec
                .get("sessionAffinityConfig")
                .is_none_or(|c| c["clientIP"]["timeoutSeconds"].is_null()) =>
        {
            spec.insert("sessionAffinityConfig".into(), json!({"clientIP": {"timeoutSeconds": 10800}}));
        }
        _ => {}
    }
    empty(spec, "type", "ClusterIP");
    for port in items_mut(spec, "ports") {
        empty(port, "protocol", "TCP");
        let unset = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(target) => *target == 0 || *target == "",
        };
        if unset {
            let number = port.get("port").cloned().unwrap_or(json!(0));
            port.insert("targetPort".into(), number);
        }
    }
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_string();
    let balanced = kind == "LoadBalancer";
    let external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    if balanced || kind == "NodePort" || (kind == "ClusterIP" && external_ips) {
        empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        absent(spec, "internalTrafficPolicy", "Cluster");
    }
    if balanced {
        absent(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(status) = object_mut(object, &["status", "loadBalancer"]) {
            for ingress in items_mut(status, "ingress") {
                if ingress.get("ip").and_then(Value::as_str).is_some_and(|ip| !ip.is_empty()) {
                    absent(ingress, "ipMode", "VIP");
                }
            }
        }
    }
}

pub(crate) fn endpoints(object: &mut Value) {
    let Some(endpoints) = object.as_object_mut() else { return };
    for subset in items_mut(endpoints, "subsets") {
        for port in items_mut(subset, "ports") {
            empty(port, "protocol", "TCP");
        }
    }
}

pub(crate) fn replication_controller(object: &mut Value) {
    template(object, &["spec", "template"]);
    let labels = at(object, &["spec", "template", "metadata", "labels"]).clone();
    if let Some(spec) = object_mut(object, &["spec"]) {
        absent(spec, "replicas", 1);
        if labels.is_object() {
            absent(spec, "selector", labels.clone());
        }
    }
    if labels.is_object()
        && let Some(meta) = object_mut(object, &["metadata"])
    {
        absent(meta, "labels", labels);
    }
}

pub(crate) fn pod_template(object: &mut Value) {
    template(object, &["template"]);
}

pub(crate) fn limit_range(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    for item in items_mut(spec, "limits") {
        for name in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if let Some(list) = member(item, name) {
                round(list);
            }
        }
        if item.get("type").and_then(Value::as_str) != Some("Container") {
            continue;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(Value::Object(from)) = item.get(from).cloned() else { continue };
            if let Some(to) = member_made(item, to) {
                for (name, value) in from {
                    to.entry(name).or_insert(value);
                }
            }
        }
    }
}

pub(crate) fn resource_quota(object: &mut Value) {
    for path in [["spec", "hard"], ["status", "hard"], ["status", "used"]] {
        if let Some(list) = object_mut(object, &path) {
            round(list);
        }
    }
}
