//! Services.

use std::collections::BTreeSet;

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::{Fields, same};
use super::{checks, container, gotypes, metadata};

const SPEC: Path<'static> = Path::new("spec");
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

fn is_headless(service: &Value) -> bool {
    service.sub("spec").strings("clusterIPs") == ["None"]
}

fn is_load_balancer(service: &Value) -> bool {
    service.sub("spec").text("type") == "LoadBalancer"
}

fn needs_health_check(spec: &Value) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn is_external(spec: &Value) -> bool {
    matches!(spec.text("type"), "LoadBalancer" | "NodePort")
        || (spec.text("type") == "ClusterIP" && !spec.items("externalIPs").is_empty())
}

/// A new service.
pub(super) fn create(service: &Value, e: &mut Errors) {
    validate(service, None, e);
}

fn validate(service: &Value, old: Option<&Value>, e: &mut Errors) {
    metadata::create(service, true, names::name_is_label, e);
    topology_annotations(service, e);
    let spec = service.sub("spec");
    let kind = spec.text("type");
    let (headless, ports) = (is_headless(service), spec.items("ports"));
    if ports.is_empty() && !headless && kind != "ExternalName" {
        e.required(&SPEC.child("ports"), "");
    }
    by_type(spec, headless, e);
    let ports_path = SPEC.child("ports");
    let mut port_names = BTreeSet::new();
    for (i, found) in ports.iter().enumerate() {
        port(found, ports.len() > 1, &mut port_names, &ports_path.index(i), e);
    }
    checks::labels(spec, "selector", &SPEC, e);
    affinity(spec, e);
    cluster_ips(spec, headless, old.map(|o| o.sub("spec")), e);
    let old_ips = old.map_or_else(Vec::new, |o| o.sub("spec").strings("externalIPs"));
    let external = SPEC.child("externalIPs");
    for (i, ip) in spec.strings("externalIPs").into_iter().enumerate() {
        let before = e.len();
        checks::ip_unless(&old_ips, ip, &external.index(i), e);
        if e.len() == before {
            checks::non_special_ip(ip, &external.index(i), e);
        }
    }
    if kind.is_empty() {
        e.required(&SPEC.child("type"), "");
    } else if !TYPES.contains(&kind) {
        e.not_supported(&SPEC.child("type"), kind, &TYPES);
    }
    port_numbers(spec, e);
    source_ranges(service, old, e);
    if kind != "LoadBalancer" && spec.has("allocateLoadBalancerNodePorts") {
        e.forbidden(&SPEC.child("allocateLoadBalancerNodePorts"), ONLY_LOAD_BALANCER);
    }
    if kind == "LoadBalancer" && !spec.has("allocateLoadBalancerNodePorts") {
        e.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    load_balancer_class(service, None, e);
    traffic(spec, e);
}

fn topology_annotations(service: &Value, e: &mut Errors) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    if let (Some(hints), Some(mode)) =
        (metadata::annotation(service, HINTS), metadata::annotation(service, MODE))
        && hints != mode
    {
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        e.invalid(&Path::new("metadata").child("annotations").key(MODE), mode, detail);
    }
}

fn by_type(spec: &Value, headless: bool, e: &mut Errors) {
    match spec.text("type") {
        kind @ ("LoadBalancer" | "NodePort") if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            e.invalid(&SPEC.child("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => {
            for (field, set) in [
                ("clusterIPs", !spec.items("clusterIPs").is_empty()),
                ("ipFamilies", !spec.items("ipFamilies").is_empty()),
                ("ipFamilyPolicy", spec.has("ipFamilyPolicy")),
            ] {
                if set {
                    e.forbidden(&SPEC.child(field), "may not be set for ExternalName services");
                }
            }
            let name = spec.text("externalName");
            match name.strip_suffix('.').unwrap_or(name) {
                "" => e.required(&SPEC.child("externalName"), ""),
                name => checks::subdomain(name, &SPEC.child("externalName"), e),
            }
        }
        _ => {}
    }
}

fn port<'a>(port: &'a Value, named: bool, names: &mut BTreeSet<&'a str>, path: &Path<'_>, e: &mut Errors) {
    let name = port.text("name");
    if !name.is_empty() {
        checks::label(name, &path.child("name"), e);
        if !names.insert(name) {
            e.duplicate(&path.child("name"), name);
        }
    } else if named {
        e.required(&path.child("name"), "");
    }
    checks::port(port.int("port"), &path.child("port"), e);
    container::protocol(port.text("protocol"), &path.child("protocol"), e);
    checks::port_or_name(port.sub("targetPort"), &path.child("targetPort"), e);
    if let Some(protocol) = port.opt_text("appProtocol") {
        checks::qualified_name(protocol, &path.child("appProtocol"), e);
    }
}

fn affinity(spec: &Value, e: &mut Errors) {
    let affinity = spec.text("sessionAffinity");
    match affinity {
        "" => e.required(&SPEC.child("sessionAffinity"), ""),
        "ClientIP" | "None" => {}
        _ => e.not_supported(&SPEC.child("sessionAffinity"), affinity, &["ClientIP", "None"]),
    }
    let path = SPEC.child("sessionAffinityConfig");
    let config = spec.some("sessionAffinityConfig");
    if affinity == "None" && config.is_some() {
        e.forbidden(&path, "must not be set when session affinity is None");
    }
    if affinity != "ClientIP" {
        return;
    }
    let when = "when session affinity type is ClientIP";
    let client_path = path.child("clientIP");
    let seconds_path = client_path.child("timeoutSeconds");
    let Some(config) = config else { return e.required(&path, when) };
    let Some(client) = config.some("clientIP") else { return e.required(&client_path, when) };
    let Some(seconds) = client.opt_int("timeoutSeconds") else { return e.required(&seconds_path, when) };
    if !(1..=86400).contains(&seconds) {
        e.invalid(&seconds_path, seconds, "must be greater than 0 and less than 86400");
    }
}

/// Cluster addresses and their families, of a whole service.
pub(super) fn addresses(service: &Value, old: Option<&Value>, e: &mut Errors) {
    cluster_ips(service.sub("spec"), is_headless(service), old.map(|old| old.sub("spec")), e);
}

/// Cluster addresses and their families.
fn cluster_ips(spec: &Value, headless: bool, old: Option<&Value>, e: &mut Errors) {
    if spec.text("type") == "ExternalName" {
        return;
    }
    const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
    const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let (path, families_path) = (SPEC.child("clusterIPs"), SPEC.child("ipFamilies"));
    let (first, ips, families) =
        (spec.text("clusterIP"), spec.strings("clusterIPs"), spec.strings("ipFamilies"));
    match (first, ips.first()) {
        ("", Some(_)) => e.invalid(&path, ips.clone(), "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => e.required(&path, ""),
        (first, Some(ip)) if *ip != first => {
            e.invalid(&path, ips.clone(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    for (i, family) in families.iter().enumerate() {
        if !FAMILIES.contains(family) {
            e.not_supported(&families_path.index(i), *family, &FAMILIES);
        }
        if families[..i].contains(family) {
            e.duplicate(&families_path.index(i), *family);
        }
    }
    if let Some(policy) = spec.opt_text("ipFamilyPolicy").filter(|p| !POLICIES.contains(p)) {
        e.not_supported(&SPEC.child("ipFamilyPolicy"), policy, &POLICIES);
    }
    let old_ips = old.map_or_else(Vec::new, |o| o.strings("clusterIPs"));
    let mut bad = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if ips.len() > 1 {
                bad = true;
                e.invalid(&path, ips.clone(), "'None' must be the first and only value");
            }
            continue;
        }
        let before = e.len();
        checks::ip_unless(&old_ips, ip, &path.index(i), e);
        bad |= e.len() != before;
    }
    if ips.len() > 2 {
        e.invalid(&path, ips.clone(), "may only hold up to 2 values");
    }
    if bad {
        return;
    }
    if ips.len() > 1 && !checks::is_dual_stack(ips.iter().map(|ip| checks::parse_ip(ip))) {
        e.invalid(&path, ips.clone(), "may specify no more than one IP for each IP family");
    }
    if headless {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(&families).enumerate() {
        let v6 = checks::parse_ip(ip).is_some_and(|ip| ip.is_ipv6());
        if FAMILIES.contains(family) && v6 != (*family == "IPv6") {
            e.invalid(
                &path.index(i),
                *ip,
                format!("expected an {family} value as indicated by `ipFamilies[{i}]`"),
            );
        }
    }
}

/// Port numbers of the cluster and of the nodes are used once for each protocol.
fn port_numbers(spec: &Value, e: &mut Errors) {
    let path = SPEC.child("ports");
    let ports = spec.items("ports");
    if spec.text("type") == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, p)| p.int("nodePort") != 0) {
            e.forbidden(&path.index(i).child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate().filter(|(_, p)| p.int("nodePort") != 0) {
        if !seen.insert((port.text("protocol"), port.int("nodePort"))) {
            e.duplicate(&path.index(i).child("nodePort"), port.int("nodePort"));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        if !seen.insert((port.text("protocol"), port.int("port"))) {
            let key = serde_json::json!({"protocol": port.text("protocol"), "port": port.int("port")});
            e.duplicate_go(&path.index(i), &gotypes::SERVICE_PORT, &key, "");
        }
    }
}

fn source_ranges(service: &Value, old: Option<&Value>, e: &mut Errors) {
    let ranges = service.sub("spec").strings("loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let path = SPEC.child("LoadBalancerSourceRanges");
        if !is_load_balancer(service) {
            e.forbidden(&path, ONLY_LOAD_BALANCER);
        }
        let old = old.map_or_else(Vec::new, |o| o.sub("spec").strings("loadBalancerSourceRanges"));
        let old: Vec<&str> = old.into_iter().map(str::trim).collect();
        for (i, range) in ranges.into_iter().enumerate() {
            checks::cidr_unless(&old, range.trim(), &path.index(i), e);
        }
        return;
    }
    let Some(ranges) = metadata::annotation(service, SOURCE_RANGES) else { return };
    let metadata_path = Path::new("metadata");
    let annotations = metadata_path.child("annotations");
    let path = annotations.key(SOURCE_RANGES);
    if !is_load_balancer(service) {
        e.forbidden(&path, ONLY_LOAD_BALANCER);
    }
    let old = old.and_then(|o| metadata::annotation(o, SOURCE_RANGES)).unwrap_or_default();
    let old: Vec<&str> = old.split(',').map(str::trim).collect();
    if !ranges.trim().is_empty() {
        ranges.split(',').for_each(|range| checks::cidr_unless(&old, range.trim(), &path, e));
    }
}

fn load_balancer_class(service: &Value, old: Option<&Value>, e: &mut Errors) {
    let path = SPEC.child("loadBalancerClass");
    let class = service.sub("spec").opt_text("loadBalancerClass");
    if let Some(old) = old.filter(|old| is_load_balancer(old) && is_load_balancer(service))
        && old.sub("spec").opt_text("loadBalancerClass") != class
    {
        e.invalid(&path, service.sub("spec").sub("loadBalancerClass").clone(), "may not change once set");
    }
    match class {
        Some(class) if is_load_balancer(service) => checks::qualified_name(class, &path, e),
        Some(_) => e.forbidden(&path, ONLY_LOAD_BALANCER),
        None => {}
    }
}

/// Policies of traffic from outside and inside, and its distribution.
fn traffic(spec: &Value, e: &mut Errors) {
    const POLICIES: [&str; 2] = ["Cluster", "Local"];
    const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    let (external, path) = (spec.text("externalTrafficPolicy"), SPEC.child("externalTrafficPolicy"));
    match (is_external(spec), external) {
        (false, "") => {}
        (false, _) => e.invalid(&path, external, "may only be set for externally-accessible services"),
        (true, "") => e.required(&path, ""),
        (true, _) if POLICIES.contains(&external) => {}
        (true, _) => e.not_supported(&path, external, &POLICIES),
    }
    let (port, path) = (spec.int("healthCheckNodePort"), SPEC.child("healthCheckNodePort"));
    match (needs_health_check(spec), port) {
        (false, 0) => {}
        (false, _) => {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            e.invalid(&path, port, detail);
        }
        (true, 0) => e.required(&path, ""),
        (true, _) => checks::port(port, &path, e),
    }
    let path = SPEC.child("internalTrafficPolicy");
    match spec.opt_text("internalTrafficPolicy") {
        None if matches!(spec.text("type"), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            e.required(&path, "")
        }
        Some(policy) if !POLICIES.contains(&policy) => e.not_supported(&path, policy, &POLICIES),
        _ => {}
    }
    if let Some(distribution) = spec.opt_text("trafficDistribution").filter(|d| !DISTRIBUTIONS.contains(d)) {
        e.not_supported(&SPEC.child("trafficDistribution"), distribution, &DISTRIBUTIONS);
    }
}

/// An update of a service.
pub(super) fn update(service: &Value, old: &Value, e: &mut Errors) {
    metadata::update(service, old, e);
    upgrade_cluster_ips(service, old, e);
    upgrade_families(service, old, e);
    load_balancer_class(service, Some(old), e);
    let (spec, old_spec) = (service.sub("spec"), old.sub("spec"));
    if needs_health_check(spec)
        && needs_health_check(old_spec)
        && spec.int("healthCheckNodePort") != old_spec.int("healthCheckNodePort")
    {
        e.forbidden(&SPEC.child("healthCheckNodePort"), checks::IMMUTABLE);
    }
    validate(service, Some(old), e);
}

fn by_external_name(service: &Value, old: &Value) -> bool {
    [service, old].iter().any(|s| s.sub("spec").text("type") == "ExternalName")
}

/// A list as Go prints it: `null` when there is none.
fn list(spec: &Value, field: &str) -> Value {
    spec.sub(field).clone()
}

fn released_needs_single_stack(spec: &Value, what: &str, e: &mut Errors) {
    if spec.text("ipFamilyPolicy") != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        e.invalid(&SPEC.child("ipFamilyPolicy"), spec.sub("ipFamilyPolicy").clone(), detail);
    }
}

fn upgrade_cluster_ips(service: &Value, old: &Value, e: &mut Errors) {
    if by_external_name(service, old) || (is_headless(service) && is_headless(old)) {
        return;
    }
    let (spec, path) = (service.sub("spec"), SPEC.child("clusterIPs"));
    let (ips, old_ips) = (spec.strings("clusterIPs"), old.sub("spec").strings("clusterIPs"));
    let once = "may not change once set";
    if ips.len() == old_ips.len() {
        for (i, _) in ips.iter().zip(&old_ips).enumerate().filter(|(_, (a, b))| a != b) {
            e.invalid(&path.index(i), list(spec, "clusterIPs"), once);
        }
        return;
    }
    if ips.is_empty() {
        e.invalid(&path.index(0), list(spec, "clusterIPs"), "primary clusterIP can not be unset");
    } else if !old_ips.is_empty() && ips[0] != old_ips[0] {
        e.invalid(&path.index(0), list(spec, "clusterIPs"), once);
    }
    if old_ips.len() > ips.len() && ips.len() == 1 {
        released_needs_single_stack(spec, "clusterIP", e);
    }
}

fn upgrade_families(service: &Value, old: &Value, e: &mut Errors) {
    if by_external_name(service, old) || is_headless(service) || is_headless(old) {
        return;
    }
    let (spec, path) = (service.sub("spec"), SPEC.child("ipFamilies"));
    let path = &path.index(0);
    let (families, old_families) = (spec.strings("ipFamilies"), old.sub("spec").strings("ipFamilies"));
    let once = "may not change once set";
    if families.len() == old_families.len() {
        for _ in families.iter().zip(&old_families).filter(|(a, b)| a != b) {
            e.invalid(path, list(spec, "ipFamilies"), once);
        }
        return;
    }
    let released = old_families.len() > families.len();
    if released && spec.items("clusterIPs").is_empty() {
        e.invalid(path, list(spec, "ipFamilies"), "primary ipFamily can not be unset");
    }
    if !families.is_empty() && !old_families.is_empty() && families[0] != old_families[0] {
        e.invalid(path, list(spec, "clusterIPs"), once);
    }
    if released && families.len() == 1 {
        released_needs_single_stack(spec, "ipFamily", e);
    }
}

/// `services/status`.
pub(super) fn status(service: &Value, old: &Value, e: &mut Errors) {
    metadata::update(service, old, e);
    let status_path = Path::new("status");
    let path = status_path.child("loadBalancer");
    let (status, old_status) =
        (service.sub("status").sub("loadBalancer"), old.sub("status").sub("loadBalancer"));
    load_balancer_status(status, old_status, Some(service.sub("spec")), &path, e);
}

/// The status of a load balancer; `spec` is that of the service, ingresses have none.
pub(super) fn load_balancer_status(
    status: &Value,
    old: &Value,
    spec: Option<&Value>,
    path: &Path<'_>,
    e: &mut Errors,
) {
    let list = path.child("ingress");
    let entries = status.items("ingress");
    if spec.is_some_and(|s| s.text("type") != "LoadBalancer") && !entries.is_empty() && !same(status, old) {
        return e.forbidden(&list, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    let old_ips: Vec<&str> = old.items("ingress").iter().map(|i| i.text("ip")).collect();
    for (i, entry) in entries.iter().enumerate() {
        let item = list.index(i);
        let (ip, host, mode) = (entry.text("ip"), entry.text("hostname"), entry.opt_text("ipMode"));
        if !ip.is_empty() {
            checks::ip_unless(&old_ips, ip, &item.child("ip"), e);
        }
        let mode_path = item.child("ipMode");
        match mode {
            _ if spec.is_none() => {}
            None if !ip.is_empty() => e.required(&mode_path, "must be specified when `ip` is set"),
            Some(_) if ip.is_empty() => e.forbidden(&mode_path, "may not be specified when `ip` is not set"),
            Some(mode) if !matches!(mode, "Proxy" | "VIP") => {
                e.not_supported(&mode_path, mode, &["Proxy", "VIP"])
            }
            _ => {}
        }
        if !host.is_empty() {
            checks::subdomain(host, &item.child("hostname"), e);
            if checks::parse_ip(host).is_some() {
                e.invalid(&item.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn service(spec: Value) -> Value {
        let mut s = json!({"metadata": {"name": "s", "namespace": "n", "resourceVersion": "1"}, "spec": {
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]}});
        for (key, value) in spec.as_object().expect("an object") {
            s["spec"][key] = value.clone();
        }
        s
    }

    fn texts(spec: Value) -> Vec<String> {
        errors::texts(|e| create(&service(spec), e))
    }

    #[test]
    fn ports_of_one_number_and_protocol_are_duplicates() {
        let port = |name: &str| json!({"name": name, "port": 80, "targetPort": 80, "protocol": "TCP"});
        assert_eq!(
            texts(json!({"ports": [port("a"), port("b")]})),
            [
                r#"spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#
            ]
        );
    }

    #[test]
    fn an_external_name_has_no_addresses() {
        assert_eq!(
            texts(
                json!({"type": "ExternalName", "clusterIP": "None", "clusterIPs": ["None"], "externalName": "a b"})
            )[0],
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services"
        );
    }

    #[test]
    fn the_first_address_stays() {
        let (a, b) = (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}),
            json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}),
        );
        let texts = errors::texts(|e| update(&service(b), &service(a), e));
        assert_eq!(texts, [r#"spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set"#]);
    }
}
