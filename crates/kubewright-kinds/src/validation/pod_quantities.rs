//! Sums over a pod's containers: what they request together, and the class of service that follows.

use std::collections::BTreeMap;

use kubewright_machinery::quantity::Quantity;
use serde_json::Value;

use super::checks;
use super::container::is_sidecar;
use super::read::Fields;

fn requests(container: &Value) -> impl Iterator<Item = (&str, Quantity)> {
    container.sub("resources").entries("requests").map(|(name, value)| (name, checks::quantity(value)))
}

fn raise(to: &mut BTreeMap<String, Quantity>, from: &BTreeMap<String, Quantity>) {
    for (name, amount) in from {
        match to.get_mut(name) {
            Some(own) if *own >= *amount => {}
            _ => drop(to.insert(name.clone(), amount.clone())),
        }
    }
}

fn add(to: &mut BTreeMap<String, Quantity>, name: &str, amount: &Quantity) {
    match to.get_mut(name) {
        Some(own) => own.add(amount),
        None => drop(to.insert(name.to_string(), amount.clone())),
    }
}

/// What the containers of a pod request together at any time: all regular ones and sidecars, or an init
/// container beside the sidecars started before it.
pub(super) fn container_requests(spec: &Value) -> BTreeMap<String, Quantity> {
    let mut sum = BTreeMap::new();
    for container in spec.items("containers") {
        requests(container).for_each(|(name, amount)| add(&mut sum, name, &amount));
    }
    let (mut sidecars, mut peak) = (BTreeMap::new(), BTreeMap::new());
    for container in spec.items("initContainers") {
        let mut own: BTreeMap<String, Quantity> =
            requests(container).map(|(n, q)| (n.to_string(), q)).collect();
        if is_sidecar(container) {
            for (name, amount) in &own {
                add(&mut sum, name, amount);
                add(&mut sidecars, name, amount);
            }
            own = sidecars.clone();
        } else {
            sidecars.iter().for_each(|(name, amount)| add(&mut own, name, amount));
        }
        raise(&mut peak, &own);
    }
    raise(&mut sum, &peak);
    sum
}

/// The class of service of a pod: `Guaranteed`, `Burstable` or `BestEffort`.
pub(super) fn qos_class(spec: &Value) -> &'static str {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut guaranteed = true;
    let compute = |list: &Value, sums: &mut BTreeMap<String, Quantity>| {
        let mut found = Vec::new();
        for name in ["cpu", "memory"] {
            let amount = list.some(name).map(checks::quantity).filter(|q| q.signum() > 0);
            if let Some(amount) = amount {
                add(sums, name, &amount);
                found.push(name);
            }
        }
        found.len()
    };
    match spec.some("resources") {
        Some(total) => {
            compute(total.sub("requests"), &mut requests);
            guaranteed = compute(total.sub("limits"), &mut limits) == 2;
        }
        None => {
            for container in spec.items("containers").iter().chain(spec.items("initContainers")) {
                let resources = container.sub("resources");
                compute(resources.sub("requests"), &mut requests);
                guaranteed &= compute(resources.sub("limits"), &mut limits) == 2;
            }
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed
        && requests.len() == limits.len()
        && requests.iter().all(|(n, q)| limits.get(n) == Some(q))
    {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let pod = |resources: Value| json!({"containers": [{"name": "c", "resources": resources}]});
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        let all = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(qos_class(&pod(json!({"requests": all, "limits": all}))), "Guaranteed");
    }

    #[test]
    fn an_init_container_may_request_more_than_the_others() {
        let c = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let spec = json!({"containers": [c("1"), c("1")], "initContainers": [c("5")]});
        assert_eq!(container_requests(&spec)["cpu"].to_string(), "5");
    }
}
