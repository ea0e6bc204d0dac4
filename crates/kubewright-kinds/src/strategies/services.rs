//! What services do with writes: what their types need, what goes with a change of type, and what stays of what was
//! allocated before. Allocation itself is in [`service_allocator`](super::service_allocator).

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::Row;
use crate::defaults::core::service as default;
use crate::fields::{at, items, items_mut, object_mut, same, text};

pub(crate) const SERVICE: Row = Row {
    default,
    warnings: crate::warnings::service,
    status_warnings: crate::warnings::service_status,
    prepare_update: |_, service, old| {
        drop_what_the_type_does_not_have(service, old);
        if kind(service) != "LoadBalancer"
            && let Some(status) = object_mut(service, &["status"])
        {
            status.insert("loadBalancer".into(), json!({}));
        }
    },
    fields: &["spec.clusterIP", "spec.type"],
    ..Row::PLAIN
};

pub(super) fn kind(service: &Value) -> &str {
    text(service, &["spec", "type"])
}

pub(super) fn needs_cluster_ip(service: &Value) -> bool {
    matches!(kind(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

pub(super) fn needs_node_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => at(service, &["spec", "allocateLoadBalancerNodePorts"]) != &Value::Bool(false),
        _ => false,
    }
}

pub(super) fn needs_health_port(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && text(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

fn is_external(service: &Value) -> bool {
    let addresses = !items(service, &["spec", "externalIPs"]).is_empty();
    matches!(kind(service), "NodePort" | "LoadBalancer") || (kind(service) == "ClusterIP" && addresses)
}

fn node_ports(service: &Value) -> Vec<i64> {
    items(service, &["spec", "ports"]).iter().filter_map(|p| p["nodePort"].as_i64()).collect()
}

/// Fields of the old type that the writer did not touch go with a change of type.
fn drop_what_the_type_does_not_have(service: &mut Value, old: &Value) {
    let unchanged =
        |name: &str, service: &Value| same(at(service, &["spec", name]), at(old, &["spec", name]));
    let mut gone: Vec<&str> = Vec::new();
    if needs_cluster_ip(old) && !needs_cluster_ip(service) {
        if unchanged("clusterIP", service) && unchanged("clusterIPs", service)
            || text(service, &["spec", "clusterIP"]).is_empty()
        {
            gone.extend(["clusterIP", "clusterIPs"]);
        }
        for name in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if unchanged(name, service) {
                gone.push(name);
            }
        }
    }
    let ports = needs_node_ports(old) && !needs_node_ports(service) && node_ports(old) == node_ports(service);
    if needs_health_port(old) && !needs_health_port(service) && unchanged("healthCheckNodePort", service) {
        gone.push("healthCheckNodePort");
    }
    if kind(old) == "LoadBalancer" && kind(service) != "LoadBalancer" {
        for name in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(name, service) {
                gone.push(name);
            }
        }
    }
    if is_external(old) && !is_external(service) && unchanged("externalTrafficPolicy", service) {
        gone.push("externalTrafficPolicy");
    }
    let Some(spec) = object_mut(service, &["spec"]) else { return };
    for name in gone {
        spec.remove(name);
    }
    if ports {
        for port in items_mut(spec, "ports") {
            port.remove("nodePort");
        }
    }
}

/// What the writer left out of what was allocated before stays.
pub(super) fn keep_allocated(service: &mut Value, old: &Value) {
    let both_addresses = needs_cluster_ip(old) && needs_cluster_ip(service);
    let both_ports = needs_node_ports(old) && needs_node_ports(service);
    let both_health = needs_health_port(old) && needs_health_port(service);
    let Some(spec) = object_mut(service, &["spec"]) else { return };
    let text_of = |spec: &Map<String, Value>, name: &str| {
        spec.get(name).and_then(Value::as_str).unwrap_or_default().to_string()
    };
    if both_addresses {
        if text_of(spec, "clusterIP").is_empty() {
            copy(spec, old, "clusterIP");
        }
        let none = spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if none && text_of(spec, "clusterIP") == text(old, &["spec", "clusterIP"]) {
            copy(spec, old, "clusterIPs");
        }
        for name in ["ipFamilies", "ipFamilyPolicy"] {
            if spec.get(name).is_none_or(|v| v.is_null() || v.as_array().is_some_and(Vec::is_empty)) {
                copy(spec, old, name);
            }
        }
    }
    if both_ports {
        let stated: HashSet<(i64, String)> = ports_with_protocol(spec);
        for port in items_mut(spec, "ports") {
            if port.get("nodePort").and_then(Value::as_i64).is_some_and(|n| n != 0) {
                continue;
            }
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            let before = items(old, &["spec", "ports"]).iter().find(|o| {
                Some(&o["port"]) == port.get("port") && o["protocol"].as_str().unwrap_or("TCP") == protocol
            });
            if let Some(number) = before.and_then(|o| o["nodePort"].as_i64())
                && !stated.contains(&(number, protocol.to_string()))
            {
                port.insert("nodePort".into(), number.into());
            }
        }
    }
    if both_health && spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or_default() == 0 {
        copy(spec, old, "healthCheckNodePort");
    }
}

fn ports_with_protocol(spec: &Map<String, Value>) -> HashSet<(i64, String)> {
    let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
    ports
        .filter_map(|p| Some((p["nodePort"].as_i64()?, p["protocol"].as_str().unwrap_or("TCP").to_string())))
        .collect()
}

fn copy(spec: &mut Map<String, Value>, old: &Value, name: &str) {
    if let value @ (Value::String(_) | Value::Array(_) | Value::Number(_)) = at(old, &["spec", name]) {
        spec.insert(name.into(), value.clone());
    }
}

/// `clusterIP` and the first of `clusterIPs` are one value; the one that was changed wins.
pub(super) fn align_addresses(service: &mut Value, old: Option<&Value>) {
    let one = text(service, &["spec", "clusterIP"]).to_string();
    let list = items(service, &["spec", "clusterIPs"]).to_vec();
    let Some(spec) = object_mut(service, &["spec"]) else { return };
    let Some(old) = old else {
        if !one.is_empty() && list.is_empty() {
            spec.insert("clusterIPs".into(), json!([one]));
        }
        return;
    };
    let was = text(old, &["spec", "clusterIP"]);
    let list_unchanged = same(&Value::Array(list.clone()), at(old, &["spec", "clusterIPs"]));
    if !list_unchanged {
        if !one.is_empty() && list.is_empty() {
            spec.insert("clusterIPs".into(), json!([one]));
        }
        return;
    }
    if one.is_empty() && !was.is_empty() {
        spec.remove("clusterIPs");
    } else if one != was {
        let mut list = list;
        match list.first_mut() {
            Some(first) => *first = one.into(),
            None => list.push(one.into()),
        }
        spec.insert("clusterIPs".into(), Value::Array(list));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_type_drops_what_the_writer_left_untouched() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"],
            "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30001}]}});
        let mut service = old.clone();
        service["spec"]["type"] = "ClusterIP".into();
        drop_what_the_type_does_not_have(&mut service, &old);
        assert_eq!(
            service["spec"],
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ports": [{"port": 80}]})
        );
    }

    #[test]
    fn a_replace_without_allocated_values_keeps_them() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
        let mut service = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
        keep_allocated(&mut service, &old);
        assert_eq!(service["spec"]["clusterIPs"], json!(["10.0.0.9"]));
        assert_eq!(service["spec"]["ports"][0]["nodePort"], 30001);
    }

    #[test]
    fn the_changed_spelling_of_the_address_wins() {
        let old = json!({"spec": {"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"]}});
        let mut service = json!({"spec": {"clusterIP": "10.0.0.8", "clusterIPs": ["10.0.0.9"]}});
        align_addresses(&mut service, Some(&old));
        assert_eq!(service["spec"]["clusterIPs"], json!(["10.0.0.8"]));
        let mut service = json!({"spec": {"clusterIP": "None"}});
        align_addresses(&mut service, None);
        assert_eq!(service["spec"]["clusterIPs"], json!(["None"]));
    }
}
