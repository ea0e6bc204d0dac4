//! What objects use of resources: sums over containers, and what quotas count.

use std::collections::BTreeMap;

use kubewright_machinery::quantity::Quantity;
use serde_json::Value;

use crate::fields::{at, entries, int, items, text};

/// Amounts by resource name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// The amounts of a ResourceList.
pub(super) fn amounts(list: &Value) -> Amounts {
    entries(list, &[]).filter_map(|(k, v)| Some((k.to_string(), Quantity::from_value(v).ok()?))).collect()
}

/// Adds amounts to a sum.
pub(super) fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        match sum.get_mut(name) {
            Some(known) => known.add(quantity),
            None => {
                sum.insert(name.clone(), quantity.clone());
            }
        }
    }
}

/// The larger of each.
fn raise(sum: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        match sum.get_mut(name) {
            Some(known) if *known >= *quantity => {}
            _ => {
                sum.insert(name.clone(), quantity.clone());
            }
        }
    }
}

/// What a pod needs of `requests` or `limits`: its containers and sidecars together, or its init containers in turn where
/// those need more; pod-level amounts count instead of the sums; overhead comes on top.
pub(super) fn pod_sum(pod: &Value, field: &str) -> Amounts {
    let of = |container: &Value| amounts(at(container, &["resources", field]));
    let mut sum = Amounts::new();
    for container in items(pod, &["spec", "containers"]) {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in items(pod, &["spec", "initContainers"]) {
        let own = of(container);
        if text(container, &["restartPolicy"]) == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut now = own;
            add(&mut now, &sidecars);
            raise(&mut peak, &now);
        }
    }
    raise(&mut sum, &peak);
    for (name, quantity) in amounts(at(pod, &["spec", "resources", field])) {
        sum.insert(name, quantity);
    }
    let overhead = amounts(at(pod, &["spec", "overhead"]));
    for (name, quantity) in overhead {
        // Limits get overhead only where there is a limit.
        if field == "requests" {
            add(&mut sum, &Amounts::from([(name, quantity)]));
        } else if let Some(known) = sum.get_mut(&name) {
            known.add(&quantity);
        }
    }
    sum
}

fn count(n: i64) -> Quantity {
    Quantity::new(n, kubewright_machinery::quantity::Format::default())
}

/// Requests and limits under the names that quotas have for them.
pub(super) fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, quantity) in requests {
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                used.insert(name.clone(), quantity.clone());
                used.insert(format!("requests.{name}"), quantity.clone());
            }
            _ if name.starts_with("hugepages-") => {
                used.insert(name.clone(), quantity.clone());
                used.insert(format!("requests.{name}"), quantity.clone());
            }
            _ if name.contains('/') => {
                used.insert(format!("requests.{name}"), quantity.clone());
            }
            _ => {}
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(quantity) = limits.get(name) {
            used.insert(format!("limits.{name}"), quantity.clone());
        }
    }
    used
}

/// What one object uses of what quotas count.
pub(super) fn of_object(group: &str, plural: &str, object: &Value) -> Amounts {
    let counted =
        if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") };
    let mut used = Amounts::from([(counted, count(1))]);
    match (group, plural) {
        ("", "pods") => {
            let finished = matches!(text(object, &["status", "phase"]), "Succeeded" | "Failed");
            if !finished {
                used.insert("pods".into(), count(1));
                used.extend(compute(&pod_sum(object, "requests"), &pod_sum(object, "limits")));
            }
        }
        ("", "services") => {
            used.insert("services".into(), count(1));
            let ports = items(object, &["spec", "ports"]);
            match text(object, &["spec", "type"]) {
                "NodePort" => {
                    used.insert("services.nodeports".into(), count(ports.len() as i64));
                }
                "LoadBalancer" => {
                    let all = at(object, &["spec", "allocateLoadBalancerNodePorts"]) != &Value::Bool(false);
                    let stated =
                        ports.iter().filter(|p| all || int(p, &["nodePort"]).is_some_and(|n| n != 0)).count();
                    used.insert("services.nodeports".into(), count(stated as i64));
                    used.insert("services.loadbalancers".into(), count(1));
                }
                _ => {}
            }
        }
        ("", "persistentvolumeclaims") => {
            used.insert("persistentvolumeclaims".into(), count(1));
            let class = text(object, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
            let class = if class.is_empty() { text(object, &["spec", "storageClassName"]) } else { class };
            let of_class = |name: &str| format!("{class}.storageclass.storage.k8s.io/{name}");
            if !class.is_empty() {
                used.insert(of_class("persistentvolumeclaims"), count(1));
            }
            if let Some(size) = amounts(at(object, &["spec", "resources", "requests"])).get("storage") {
                used.insert("requests.storage".into(), size.clone());
                if !class.is_empty() {
                    used.insert(of_class("requests.storage"), size.clone());
                }
            }
        }
        ("", "configmaps" | "secrets" | "resourcequotas" | "replicationcontrollers") => {
            used.insert(plural.into(), count(1));
        }
        _ => {}
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_count_only_where_they_need_more() {
        let cpu = |n: &str| json!({"requests": {"cpu": n}});
        let pod = json!({"spec": {
            "containers": [{"resources": cpu("1")}, {"resources": cpu("1")}],
            "initContainers": [{"resources": cpu("500m"), "restartPolicy": "Always"}, {"resources": cpu("3")}],
        }});
        assert_eq!(pod_sum(&pod, "requests")["cpu"].to_string(), "3500m");
    }

    #[test]
    fn services_are_charged_for_their_node_ports() {
        let service = json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}});
        let used = of_object("", "services", &service);
        assert_eq!(used["services.nodeports"].to_string(), "2");
        assert_eq!(used["count/services"].to_string(), "1");
    }
}
