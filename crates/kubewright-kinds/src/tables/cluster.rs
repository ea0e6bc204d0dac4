//! Tables of networking, storage, policy and other kinds that configure the cluster.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, condition, name, number, or, rough, selector, size};
use crate::fields::{at, flag, int, items, text};

pub(super) fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let rules = items(object, &["spec", "rules"]);
    // Hosts are taken until there are three; whatever rules follow are only counted.
    let (mut hosts, mut more) = (Vec::new(), false);
    for rule in rules {
        if hosts.len() == 3 {
            more = true;
        }
        let host = text(rule, &["host"]);
        if !more && !host.is_empty() {
            hosts.push(host);
        }
    }
    let hosts = match (hosts.is_empty(), more) {
        (true, _) => "*".to_string(),
        (_, true) => format!("{} + {} more...", hosts.join(","), rules.len() - 3),
        (_, false) => hosts.join(","),
    };
    let ports = if items(object, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        name(object),
        at(object, &["spec", "ingressClassName"]).as_str().unwrap_or("<none>").into(),
        hosts.into(),
        super::core::balancer(object).join(",").into(),
        ports.into(),
        age(object, now),
    ]
}

pub(super) fn ingress_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = at(object, &["spec", "parameters"]);
    let parameters = if parameters.is_null() {
        "<none>".to_string()
    } else {
        let group = at(parameters, &["apiGroup"]).as_str().map_or(String::new(), |g| format!(".{g}"));
        format!("{}{group}/{}", text(parameters, &["kind"]), text(parameters, &["name"]))
    };
    vec![name(object), text(object, &["spec", "controller"]).into(), parameters.into(), age(object, now)]
}

pub(super) fn network_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    let pods = at(object, &["spec", "podSelector"]);
    let empty = Value::Object(serde_json::Map::new());
    vec![name(object), selector(if pods.is_null() { &empty } else { pods }).into(), age(object, now)]
}

pub(super) fn service_cidr(object: &Value, now: Timestamp) -> Vec<Value> {
    let ranges: Vec<&str> = items(object, &["spec", "cidrs"]).iter().filter_map(Value::as_str).collect();
    vec![name(object), ranges.join(",").into(), age(object, now)]
}

pub(super) fn ip_address(object: &Value, _: Timestamp) -> Vec<Value> {
    let parent = at(object, &["spec", "parentRef"]);
    let parent = if parent.is_null() {
        "<none>".to_string()
    } else {
        let group = text(parent, &["group"]);
        let dot = if group.is_empty() { "" } else { "." };
        let mut cell = format!("{}{dot}{group}", text(parent, &["resource"])).to_lowercase();
        for part in [text(parent, &["namespace"]), text(parent, &["name"])] {
            if !part.is_empty() {
                cell.push('/');
                cell.push_str(part);
            }
        }
        cell
    };
    vec![name(object), parent.into()]
}

pub(super) fn role_binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let of = |kind: &str| -> Value {
        let subjects = items(object, &["subjects"]).iter().filter(|s| s["kind"] == kind);
        let named = |s: &Value| match (kind, text(s, &["namespace"])) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => {
                format!("{namespace}/{}", text(s, &["name"]))
            }
            _ => text(s, &["name"]).to_string(),
        };
        subjects.map(named).collect::<Vec<_>>().join(", ").into()
    };
    let role = at(object, &["roleRef"]);
    vec![
        name(object),
        format!("{}/{}", text(role, &["kind"]), text(role, &["name"])).into(),
        age(object, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

pub(super) fn certificate_signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let has = |kind: &str| condition(object, &["status", "conditions"], kind).is_some();
    let mut status = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_string();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !text(object, &["status", "certificate"]).is_empty() {
        status.push_str(",Issued");
    }
    vec![
        name(object),
        age(object, now),
        or(text(object, &["spec", "signerName"]), "<none>").into(),
        text(object, &["spec", "username"]).into(),
        int(object, &["spec", "expirationSeconds"]).map_or("<none>".to_string(), rough).into(),
        status.into(),
    ]
}

pub(super) fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(object, &["spec", "holderIdentity"]).into(), age(object, now)]
}

/// The name, with a mark on the class that is used by default.
fn class_name(object: &Value, annotations: &[&str]) -> Value {
    let is = |a: &&str| text(object, &["metadata", "annotations", a]) == "true";
    let mark = if annotations.iter().any(is) { " (default)" } else { "" };
    format!("{}{mark}", text(object, &["metadata", "name"])).into()
}

pub(super) fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let annotations =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    vec![
        class_name(object, &annotations),
        text(object, &["provisioner"]).into(),
        or(text(object, &["reclaimPolicy"]), "Delete").into(),
        or(text(object, &["volumeBindingMode"]), "Immediate").into(),
        flag(object, &["allowVolumeExpansion"]).into(),
        age(object, now),
    ]
}

pub(super) fn volume_attributes_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = ["volumeattributesclass.kubernetes.io/is-default-class"];
    vec![class_name(object, &annotations), text(object, &["driverName"]).into(), age(object, now)]
}

pub(super) fn volume_attachment(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        text(object, &["spec", "attacher"]).into(),
        text(object, &["spec", "source", "persistentVolumeName"]).into(),
        text(object, &["spec", "nodeName"]).into(),
        flag(object, &["status", "attached"]).into(),
        age(object, now),
    ]
}

pub(super) fn csi_node(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), (items(object, &["spec", "drivers"]).len() as i64).into(), age(object, now)]
}

pub(super) fn csi_driver(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = at(object, &["spec"]);
    let tokens = match at(spec, &["tokenRequests"]) {
        Value::Array(list) => list.iter().map(|t| text(t, &["audience"])).collect::<Vec<_>>().join(","),
        _ => "<unset>".into(),
    };
    let modes: Vec<&str> = items(spec, &["volumeLifecycleModes"]).iter().filter_map(Value::as_str).collect();
    vec![
        name(object),
        at(spec, &["attachRequired"]).as_bool().unwrap_or(true).into(),
        flag(spec, &["podInfoOnMount"]).into(),
        flag(spec, &["storageCapacity"]).into(),
        tokens.into(),
        flag(spec, &["requiresRepublish"]).into(),
        or(&modes.join(","), "<none>").into(),
        age(object, now),
    ]
}

pub(super) fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        number(object, &["value"]),
        flag(object, &["globalDefault"]).into(),
        age(object, now),
        text(object, &["preemptionPolicy"]).into(),
    ]
}

pub(super) fn runtime_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(object, &["handler"]).into(), age(object, now)]
}

pub(super) fn webhooks(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), (items(object, &["webhooks"]).len() as i64).into(), age(object, now)]
}

fn policy(object: &Value, now: Timestamp, rules: &str) -> Vec<Value> {
    let kind = at(object, &["spec", "paramKind"]);
    let kind = if kind.is_null() {
        "<unset>".to_string()
    } else {
        format!("{}/{}", text(kind, &["apiVersion"]), text(kind, &["kind"]))
    };
    vec![name(object), (items(object, &["spec", rules]).len() as i64).into(), kind.into(), age(object, now)]
}

pub(super) fn validating_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    policy(object, now, "validations")
}

pub(super) fn mutating_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    policy(object, now, "mutations")
}

pub(super) fn policy_binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let reference = at(object, &["spec", "paramRef"]);
    let parameter = match (text(reference, &["namespace"]), text(reference, &["name"])) {
        (_, "") if size(at(reference, &["selector"])) > 0 => selector(at(reference, &["selector"])),
        (_, "") => "<unset>".into(),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![name(object), text(object, &["spec", "policyName"]).into(), parameter.into(), age(object, now)]
}

pub(super) fn flow_schema(object: &Value, now: Timestamp) -> Vec<Value> {
    let dangling = condition(object, &["status", "conditions"], "Dangling");
    vec![
        name(object),
        text(object, &["spec", "priorityLevelConfiguration", "name"]).into(),
        number(object, &["spec", "matchingPrecedence"]),
        or(text(object, &["spec", "distinguisherMethod", "type"]), "<none>").into(),
        age(object, now),
        dangling.map_or("?", |c| text(c, &["status"])).into(),
    ]
}

pub(super) fn priority_level(object: &Value, now: Timestamp) -> Vec<Value> {
    let limited = at(object, &["spec", "limited"]);
    let queuing = at(limited, &["limitResponse", "queuing"]);
    let cell = |owner: &Value, field: &str| -> Value {
        if owner.is_null() { "<none>".into() } else { number(owner, &[field]) }
    };
    vec![
        name(object),
        text(object, &["spec", "type"]).into(),
        cell(limited, "nominalConcurrencyShares"),
        cell(queuing, "queues"),
        cell(queuing, "handSize"),
        cell(queuing, "queueLengthLimit"),
        age(object, now),
    ]
}

pub(super) fn resource_claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let deleted = !at(object, &["metadata", "deletionTimestamp"]).is_null();
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if at(object, &["status", "allocation"]).is_null() {
        if !deleted {
            states.push("pending");
        }
    } else {
        states.push("allocated");
        if !items(object, &["status", "reservedFor"]).is_empty() {
            states.push("reserved");
        }
    }
    vec![name(object), states.join(",").into(), age(object, now)]
}

pub(super) fn resource_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        text(object, &["spec", "nodeName"]).into(),
        text(object, &["spec", "driver"]).into(),
        text(object, &["spec", "pool", "name"]).into(),
        age(object, now),
    ]
}
