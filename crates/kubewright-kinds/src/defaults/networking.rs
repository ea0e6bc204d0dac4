//! Defaults of networking.k8s.io and discovery.k8s.io.

use serde_json::{Value, json};

use crate::fields::{absent, empty, items_mut, member, object_mut};

pub(crate) fn network_policy(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    for (rules, _) in [("ingress", "from"), ("egress", "to")] {
        for rule in items_mut(spec, rules) {
            for port in items_mut(rule, "ports") {
                absent(port, "protocol", "TCP");
            }
        }
    }
    if spec.get("policyTypes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|l| !l.is_empty());
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

pub(crate) fn ingress_class(object: &mut Value) {
    if let Some(spec) = object_mut(object, &["spec"])
        && let Some(parameters) = member(spec, "parameters")
    {
        empty(parameters, "scope", "Cluster");
    }
}

pub(crate) fn endpoint_slice(object: &mut Value) {
    if let Some(slice) = object.as_object_mut() {
        for port in items_mut(slice, "ports") {
            absent(port, "name", "");
            absent(port, "protocol", "TCP");
        }
    }
}
