//! Tables of core/v1 kinds and endpoint slices.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, amount, condition, labels, name, or, since, size, some_of};
use crate::fields::{at, entries, flag, int, items, text};

pub(super) fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(object, &["status", "phase"]).into(), age(object, now)]
}

pub(super) fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(object, &["type"]).into(), size(at(object, &["data"])).into(), age(object, now)]
}

pub(super) fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let entries = size(at(object, &["data"])) + size(at(object, &["binaryData"]));
    vec![name(object), entries.into(), age(object, now)]
}

pub(super) fn service_account(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

/// Addresses of a load balancer's status, each once, sorted.
pub(super) fn balancer(object: &Value) -> Vec<String> {
    let address = |ingress: &Value| or(text(ingress, &["ip"]), text(ingress, &["hostname"])).to_string();
    let mut all: Vec<String> =
        items(object, &["status", "loadBalancer", "ingress"]).iter().map(address).collect();
    all.retain(|a| !a.is_empty());
    all.sort();
    all.dedup();
    all
}

pub(super) fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let kind = text(object, &["spec", "type"]);
    let external =
        items(object, &["spec", "externalIPs"]).iter().filter_map(|ip| ip.as_str().map(str::to_string));
    let external = match kind {
        "ExternalName" => text(object, &["spec", "externalName"]).to_string(),
        "LoadBalancer" => {
            let all: Vec<String> = balancer(object).into_iter().chain(external).collect();
            or(&all.join(","), "<pending>").to_string()
        }
        "ClusterIP" | "NodePort" => or(&external.collect::<Vec<_>>().join(","), "<none>").to_string(),
        _ => "<unknown>".into(),
    };
    let port = |port: &Value| {
        let number = int(port, &["port"]).unwrap_or_default();
        let protocol = text(port, &["protocol"]);
        match int(port, &["nodePort"]).unwrap_or_default() {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    };
    let ports: Vec<String> = items(object, &["spec", "ports"]).iter().map(port).collect();
    let address = items(object, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or("<none>");
    vec![
        name(object),
        kind.into(),
        address.into(),
        external.into(),
        or(&ports.join(","), "<none>").into(),
        age(object, now),
        labels(at(object, &["spec", "selector"])).into(),
    ]
}

pub(super) fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(object, &["subsets"]) {
        let addresses = items(subset, &["addresses"]).iter().map(|a| text(a, &["ip"]));
        let ports = items(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(addresses.map(str::to_string));
            continue;
        }
        for port in ports {
            let number = int(port, &["port"]).unwrap_or_default();
            let addresses = items(subset, &["addresses"]).iter().map(|a| text(a, &["ip"]));
            all.extend(addresses.map(|ip| {
                if ip.contains(':') { format!("[{ip}]:{number}") } else { format!("{ip}:{number}") }
            }));
        }
    }
    let cell = if items(object, &["subsets"]).is_empty() {
        "<none>".to_string()
    } else if all.is_empty() {
        String::new()
    } else {
        some_of(&all)
    };
    vec![name(object), cell.into(), age(object, now)]
}

pub(super) fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match int(port, &["port"]) {
        Some(number) => number.to_string(),
        None => at(port, &["name"]).as_str().unwrap_or("*").to_string(),
    };
    let ports: Vec<String> = items(object, &["ports"]).iter().map(port).collect();
    let addresses: Vec<String> = items(object, &["endpoints"])
        .iter()
        .flat_map(|e| items(e, &["addresses"]))
        .filter_map(|a| a.as_str().map(str::to_string))
        .collect();
    vec![
        name(object),
        text(object, &["addressType"]).into(),
        some_of(&ports).into(),
        some_of(&addresses).into(),
        age(object, now),
    ]
}

pub(super) fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut status = match condition(object, &["status", "conditions"], "Ready") {
        Some(ready) if ready["status"] == "True" => "Ready".to_string(),
        Some(_) => "NotReady".into(),
        None => "Unknown".into(),
    };
    if flag(object, &["spec", "unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    let role = |(key, value): (&str, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_string()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_string),
        None => None,
    };
    let mut roles: Vec<String> =
        entries(object, &["metadata", "labels"]).filter_map(role).filter(|r| !r.is_empty()).collect();
    roles.sort();
    roles.dedup();
    let address = |kind: &str| {
        let found = items(object, &["status", "addresses"]).iter().find(|a| a["type"] == kind);
        found.map_or("<none>", |a| text(a, &["address"])).to_string()
    };
    let info = |field: &str| text(object, &["status", "nodeInfo", field]);
    vec![
        name(object),
        status.into(),
        or(&roles.join(","), "<none>").into(),
        age(object, now),
        info("kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        or(info("osImage"), "<unknown>").into(),
        or(info("kernelVersion"), "<unknown>").into(),
        or(info("containerRuntimeVersion"), "<unknown>").into(),
    ]
}

/// Events of both groups: the newer one has other names for the same fields.
pub(super) fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let either = |old: &[&str], new: &[&str]| -> Value {
        let value = at(object, old);
        if value.is_null() { at(object, new).clone() } else { value.clone() }
    };
    let string = |value: Value| value.as_str().unwrap_or_default().to_string();
    let first = match either(&["firstTimestamp"], &["deprecatedFirstTimestamp"]) {
        Value::Null => since(at(object, &["eventTime"]), now),
        time => since(&time, now),
    };
    let mut last = match either(&["lastTimestamp"], &["deprecatedLastTimestamp"]) {
        Value::Null => first.clone(),
        time => since(&time, now),
    };
    let mut count = either(&["count"], &["deprecatedCount"]).as_i64().unwrap_or_default();
    let series = at(object, &["series"]);
    if !series.is_null() {
        last = since(at(series, &["lastObservedTime"]), now);
        count = int(series, &["count"]).unwrap_or_default();
    } else if count == 0 {
        count = 1;
    }
    let involved = either(&["involvedObject"], &["regarding"]);
    let kind = text(&involved, &["kind"]).to_lowercase();
    let target = match text(&involved, &["name"]) {
        "" => kind,
        named => format!("{kind}/{named}"),
    };
    let source = either(&["source"], &["deprecatedSource"]);
    let reporter = string(either(&["reportingComponent"], &["reportingController"]));
    let component = or(text(&source, &["component"]), &reporter).to_string();
    let host = or(text(&source, &["host"]), text(object, &["reportingInstance"]));
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        last.into(),
        text(object, &["type"]).into(),
        text(object, &["reason"]).into(),
        target.into(),
        text(&involved, &["fieldPath"]).into(),
        source.into(),
        string(either(&["message"], &["note"])).trim().into(),
        first.into(),
        count.into(),
        name(object),
    ]
}

/// Access modes in their short forms, each once, in the order Kubernetes prints them.
fn access_modes(list: &[Value]) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let have: Vec<&str> = known
        .into_iter()
        .filter(|(mode, _)| list.iter().any(|m| m == mode))
        .map(|(_, short)| short)
        .collect();
    have.join(",")
}

/// The class of a volume or claim: the old annotation counts more than the field.
fn storage_class(object: &Value) -> String {
    let annotation = at(object, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
    annotation.as_str().unwrap_or_else(|| text(object, &["spec", "storageClassName"])).to_string()
}

fn phase(object: &Value) -> Value {
    if at(object, &["metadata", "deletionTimestamp"]).is_null() {
        text(object, &["status", "phase"]).into()
    } else {
        "Terminating".into()
    }
}

fn unset<'v>(object: &'v Value, field: &str) -> &'v str {
    at(object, &["spec", field]).as_str().unwrap_or("<unset>")
}

pub(super) fn persistent_volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = at(object, &["spec", "claimRef"]);
    let claim = if claim.is_null() {
        String::new()
    } else {
        format!("{}/{}", text(claim, &["namespace"]), text(claim, &["name"]))
    };
    vec![
        name(object),
        amount(at(object, &["spec", "capacity"]), "storage").into(),
        access_modes(items(object, &["spec", "accessModes"])).into(),
        text(object, &["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase(object),
        claim.into(),
        storage_class(object).into(),
        unset(object, "volumeAttributesClassName").into(),
        text(object, &["status", "reason"]).into(),
        age(object, now),
        unset(object, "volumeMode").into(),
    ]
}

pub(super) fn persistent_volume_claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let volume = text(object, &["spec", "volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (
            amount(at(object, &["status", "capacity"]), "storage"),
            access_modes(items(object, &["status", "accessModes"])),
        )
    };
    vec![
        name(object),
        phase(object),
        volume.into(),
        capacity.into(),
        modes.into(),
        storage_class(object).into(),
        unset(object, "volumeAttributesClassName").into(),
        age(object, now),
        unset(object, "volumeMode").into(),
    ]
}

pub(super) fn resource_quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard = at(object, &["status", "hard"]);
    for (resource, _) in entries(hard, &[]) {
        let used = amount(at(object, &["status", "used"]), resource);
        let line = format!("{resource}: {used}/{}", amount(hard, resource));
        if resource.starts_with("limits.") {
            limits.push(line)
        } else {
            requests.push(line)
        };
    }
    vec![name(object), requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
}

pub(super) fn component_status(object: &Value, _: Timestamp) -> Vec<Value> {
    let healthy = condition(object, &["conditions"], "Healthy");
    let status = healthy.map_or("Unknown", |c| if c["status"] == "True" { "Healthy" } else { "Unhealthy" });
    let words = |field: &str| healthy.map_or("", |c| text(c, &[field]));
    vec![name(object), status.into(), words("message").into(), words("error").into()]
}
