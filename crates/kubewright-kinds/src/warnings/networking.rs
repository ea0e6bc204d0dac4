//! Warnings about services and what else has addresses.

use serde_json::Value;

use super::addresses::{cidr, ip};
use crate::fields::{at, items, text};

pub(crate) fn service(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let annotation = "service.kubernetes.io/topology-aware-hints";
    if !at(object, &["metadata", "annotations", annotation]).is_null() {
        out.push(format!(
            "annotation {annotation} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let spec = at(object, &["spec"]);
    let kind = text(spec, &["type"]);
    let strings = |field: &str| items(spec, &[field]).iter().filter_map(Value::as_str).enumerate();
    let balancer = text(spec, &["loadBalancerIP"]);
    let external_ips = !items(spec, &["externalIPs"]).is_empty();
    let headless = kind == "ClusterIP" && text(spec, &["clusterIP"]) == "None";
    if !matches!(text(spec, &["clusterIP"]), "" | "None") {
        strings("clusterIPs")
            .for_each(|(i, address)| ip(&format!("spec.clusterIPs[{i}]"), address, &mut out));
    }
    if headless {
        if !balancer.is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if external_ips {
            out.push("spec.externalIPs is ignored for headless services".into());
        }
        if text(spec, &["sessionAffinity"]) != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    strings("externalIPs").for_each(|(i, address)| ip(&format!("spec.externalIPs[{i}]"), address, &mut out));
    if external_ips && !headless && kind != "ExternalName" {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    if !balancer.is_empty() {
        ip("spec.loadBalancerIP", balancer, &mut out);
    }
    for (i, range) in strings("loadBalancerSourceRanges") {
        cidr(&format!("spec.loadBalancerSourceRanges[{i}]"), range, &mut out);
    }
    if kind == "ExternalName" && external_ips {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !text(spec, &["externalName"]).is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if text(spec, &["trafficDistribution"]) == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
    out
}

/// Addresses in the status of a load balancer.
fn balancer(object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (i, entry) in items(object, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
        let address = text(entry, &["ip"]);
        if !address.is_empty() {
            ip(&format!("status.loadBalancer.ingress[{i}].ip"), address, &mut out);
        }
    }
    out
}

pub(crate) fn service_status(object: &Value, _: &Value) -> Vec<String> {
    balancer(object)
}

pub(crate) fn ingress_status(object: &Value, _: &Value) -> Vec<String> {
    balancer(object)
}

pub(crate) fn endpoints(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    for (i, subset) in items(object, &["subsets"]).iter().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (j, address) in items(subset, &[list]).iter().enumerate() {
                ip(&format!("subsets[{i}].{list}[{j}].ip"), text(address, &["ip"]), &mut out);
            }
        }
    }
    out
}

pub(crate) fn endpoint_slice(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let kind = text(object, &["addressType"]);
    if old.is_none() && kind == "FQDN" {
        out.push("spec.addressType: FQDN endpoints are deprecated".into());
    }
    if matches!(kind, "IPv4" | "IPv6") {
        for (i, endpoint) in items(object, &["endpoints"]).iter().enumerate() {
            for (j, address) in items(endpoint, &["addresses"]).iter().enumerate() {
                let address = address.as_str().unwrap_or_default();
                ip(&format!("endpoints[{i}].addresses[{j}]"), address, &mut out);
            }
        }
    }
    out
}

pub(crate) fn ingress(object: &Value, old: Option<&Value>) -> Vec<String> {
    let annotation = "kubernetes.io/ingress.class";
    let annotated = !at(object, &["metadata", "annotations", annotation]).is_null();
    if old.is_none() && annotated && at(object, &["spec", "ingressClassName"]).is_null() {
        return vec![format!(
            "annotation \"{annotation}\" is deprecated, please use 'spec.ingressClassName' instead"
        )];
    }
    Vec::new()
}

pub(crate) fn network_policy(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in items(object, &["spec", rules]).iter().enumerate() {
            for (j, peer) in items(rule, &[peers]).iter().enumerate() {
                let block = at(peer, &["ipBlock"]);
                if block.is_null() {
                    continue;
                }
                let path = format!("spec.{rules}[{i}].{peers}[{j}].ipBlock");
                cidr(&format!("{path}.cidr"), text(block, &["cidr"]), &mut out);
                for (k, range) in items(block, &["except"]).iter().enumerate() {
                    cidr(&format!("{path}.except[{k}]"), range.as_str().unwrap_or_default(), &mut out);
                }
            }
        }
    }
    out
}

pub(crate) fn node(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let spec = at(object, &["spec"]);
    if !at(spec, &["configSource"]).is_null() {
        out.push("spec.configSource: the feature is removed".into());
    }
    if !text(spec, &["externalID"]).is_empty() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    for (i, range) in items(spec, &["podCIDRs"]).iter().enumerate() {
        cidr(&format!("spec.podCIDRs[{i}]"), range.as_str().unwrap_or_default(), &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: Value) -> Vec<String> {
        service(&json!({"spec": spec}), None)
    }

    #[test]
    fn fields_that_a_headless_service_ignores_are_named() {
        assert_eq!(
            of(json!({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP",
                "loadBalancerIP": "1.2.3.4", "externalIPs": ["1.2.3.4"]})),
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ]
        );
    }

    #[test]
    fn old_ways_to_reach_a_service_are_deprecated() {
        assert_eq!(
            of(json!({"type": "ClusterIP", "sessionAffinity": "None", "externalIPs": ["1.2.3.4"],
                "externalName": "x", "trafficDistribution": "PreferClose"})),
            [
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ]
        );
        assert_eq!(
            of(json!({"type": "ExternalName", "externalName": "x", "externalIPs": ["1.2.3.4"]})),
            ["spec.externalIPs is ignored when spec.type is \"ExternalName\""]
        );
    }

    #[test]
    fn an_old_class_annotation_counts_without_the_field() {
        let object = |spec: Value| json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": spec});
        assert_eq!(
            ingress(&object(json!({})), None),
            [
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
            ]
        );
        assert!(ingress(&object(json!({"ingressClassName": "x"})), None).is_empty());
    }
}
