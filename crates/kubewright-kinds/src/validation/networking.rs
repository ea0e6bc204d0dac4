//! NetworkPolicies, IPAddresses and ServiceCIDRs.

use std::net::IpAddr;

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::{Fields, same};
use super::{checks, gotypes, metadata};

const SPEC: Path<'static> = Path::new("spec");
const POLICY_TYPES: [&str; 2] = ["Ingress", "Egress"];

fn policy_port(port: &Value, path: &Path<'_>, e: &mut Errors) {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    if let Some(protocol) = port.opt_text("protocol").filter(|p| !PROTOCOLS.contains(p)) {
        e.not_supported(&path.child("protocol"), protocol, &PROTOCOLS);
    }
    let (port_path, end_path) = (path.child("port"), path.child("endPort"));
    let end = port.opt_int("endPort");
    match port.some("port") {
        None => {
            if let Some(end) = end {
                e.invalid(&end_path, end, "may not be specified when `port` is not specified");
            }
        }
        Some(Value::String(name)) => {
            if let Some(end) = end {
                e.invalid(&end_path, end, "may not be specified when `port` is non-numeric");
            }
            e.each(&port_path, name, names::is_port_name(name));
        }
        Some(number) => {
            let number = number.as_i64().unwrap_or_default();
            checks::port(number, &port_path, e);
            if let Some(end) = end {
                if end < number {
                    e.invalid(&end_path, number, "must be greater than or equal to `port`");
                }
                checks::port(end, &end_path, e);
            }
        }
    }
}

fn peer(peer: &Value, old_cidrs: &[&str], path: &Path<'_>, e: &mut Errors) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.some(field) {
            count += 1;
            checks::label_selector(Some(selector), false, &path.child(field), e);
        }
    }
    if let Some(block) = peer.some("ipBlock") {
        count += 1;
        ip_block(block, old_cidrs, &path.child("ipBlock"), e);
    }
    if count == 0 {
        e.required(path, "must specify a peer");
    } else if count > 1 && peer.has("ipBlock") {
        e.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, old_cidrs: &[&str], path: &Path<'_>, e: &mut Errors) {
    let cidr = block.text("cidr");
    if cidr.is_empty() {
        return e.required(&path.child("cidr"), "");
    }
    checks::cidr_unless(old_cidrs, cidr, &path.child("cidr"), e);
    let Some((_, net)) = checks::parse_cidr(cidr) else { return };
    let list = path.child("except");
    for (i, except) in block.strings("except").into_iter().enumerate() {
        checks::cidr_unless(old_cidrs, except, &list.index(i), e);
        let Some((_, inner)) = checks::parse_cidr(except) else { continue };
        if !net.contains(&inner.addr()) || net.prefix_len() >= inner.prefix_len() {
            e.invalid(&list.index(i), except, "must be a strict subset of `cidr`");
        }
    }
}

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

fn policy_spec(spec: &Value, old_cidrs: &[&str], e: &mut Errors) {
    checks::label_selector(spec.some("podSelector"), false, &SPEC.child("podSelector"), e);
    for (direction, peers) in DIRECTIONS {
        let list = SPEC.child(direction);
        for (i, rule) in spec.items(direction).iter().enumerate() {
            let item = list.index(i);
            let ports = item.child("ports");
            for (i, port) in rule.items("ports").iter().enumerate() {
                policy_port(port, &ports.index(i), e);
            }
            let peers_path = item.child(peers);
            for (i, found) in rule.items(peers).iter().enumerate() {
                peer(found, old_cidrs, &peers_path.index(i), e);
            }
        }
    }
    let types = spec.strings("policyTypes");
    let path = SPEC.child("policyTypes");
    if types.len() > 2 {
        return e.invalid(&path, types, "may not specify more than two policyTypes");
    }
    for (i, kind) in types.into_iter().enumerate().filter(|(_, kind)| !POLICY_TYPES.contains(kind)) {
        e.not_supported(&path.index(i), kind, &POLICY_TYPES);
    }
}

pub(super) fn policy_create(policy: &Value, e: &mut Errors) {
    metadata::create(policy, true, names::name_is_subdomain, e);
    policy_spec(policy.sub("spec"), &[], e);
}

pub(super) fn policy_update(policy: &Value, old: &Value, e: &mut Errors) {
    let mut cidrs = Vec::new();
    for (direction, peers) in DIRECTIONS {
        let rules = old.sub("spec").items(direction).iter();
        for block in rules.flat_map(|rule| rule.items(peers)).filter_map(|peer| peer.some("ipBlock")) {
            cidrs.push(block.text("cidr"));
            cidrs.extend(block.strings("except"));
        }
    }
    metadata::update(policy, old, e);
    policy_spec(policy.sub("spec"), &cidrs, e);
}

/// The name of an IPAddress is an address in its canonical form.
fn address_name(name: &str, _prefix: bool) -> Vec<String> {
    match checks::parse_ip(name) {
        None => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_string()],
        Some(_) if name.parse::<IpAddr>().is_err() => vec!["must not have leading 0s".to_string()],
        Some(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_string()]
        }
        Some(ip) if ip.to_string() != name => vec![format!("must be in canonical form (\"{ip}\")")],
        Some(_) => Vec::new(),
    }
}

pub(super) fn address_create(address: &Value, e: &mut Errors) {
    metadata::create(address, false, address_name, e);
    let path = SPEC.child("parentRef");
    let Some(parent) = address.sub("spec").some("parentRef") else { return e.required(&path, "") };
    if !parent.text("group").is_empty() {
        checks::subdomain(parent.text("group"), &path.child("group"), e);
    }
    for field in ["resource", "name"] {
        match parent.text(field) {
            "" => e.required(&path.child(field), ""),
            value => e.each(&path.child(field), value, names::is_path_segment_name(value)),
        }
    }
    if !parent.text("namespace").is_empty() {
        let namespace = parent.text("namespace");
        e.each(&path.child("namespace"), namespace, names::is_path_segment_name(namespace));
    }
}

pub(super) fn address_update(address: &Value, old: &Value, e: &mut Errors) {
    metadata::update(address, old, e);
    let parent = address.sub("spec").sub("parentRef");
    if !same(parent, old.sub("spec").sub("parentRef")) {
        e.invalid_go(&SPEC.child("parentRef"), &gotypes::PARENT_REFERENCE, parent, checks::IMMUTABLE);
    }
}

/// A CIDR in a field that has been strict from its beginning.
fn strict_cidr(cidr: &str, path: &Path<'_>, e: &mut Errors) {
    let before = e.len();
    checks::cidr_unless(&[], cidr, path, e);
    if let Some((_, net)) =
        checks::parse_cidr(cidr).filter(|(_, net)| e.len() == before && net.to_string() != cidr)
    {
        e.invalid(path, cidr, format!("must be in canonical form (\"{net}\")"));
    }
}

fn service_cidrs(cidrs: &[&str], path: &Path<'_>, e: &mut Errors) {
    if cidrs.is_empty() {
        return e.required(path, "at least one CIDR required");
    }
    if cidrs.len() > 2 {
        let spec = serde_json::json!({ "CIDRs": cidrs });
        return e.invalid(path, spec, "may only hold up to 2 values");
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        strict_cidr(cidr, &path.index(i), e);
    }
    if let [first, second] = cidrs
        && let (Some((a, _)), Some((b, _))) = (checks::parse_cidr(first), checks::parse_cidr(second))
        && a.is_ipv4() == b.is_ipv4()
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        e.invalid(path, cidrs.to_vec(), detail);
    }
}

pub(super) fn service_cidr_create(object: &Value, e: &mut Errors) {
    metadata::create(object, false, names::name_is_subdomain, e);
    service_cidrs(&object.sub("spec").strings("cidrs"), &SPEC.child("cidrs"), e);
}

pub(super) fn service_cidr_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    let path = SPEC.child("cidrs");
    let (new, old) = (object.sub("spec").strings("cidrs"), old.sub("spec").strings("cidrs"));
    if new.len() == old.len() {
        for (i, (new, _)) in new.iter().zip(&old).enumerate().filter(|(_, (a, b))| a != b) {
            e.invalid(&path.index(i), *new, checks::IMMUTABLE);
        }
    } else if old.len() == 1 && new.len() == 2 {
        if new[0] != old[0] {
            e.invalid(&path.index(0), new[0], checks::IMMUTABLE);
        }
        service_cidrs(&new, &path, e);
    } else {
        e.invalid(&path, new, checks::IMMUTABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;
    use serde_json::json;

    #[test]
    fn a_peer_is_a_block_or_selected() {
        let p = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"podSelector": {}, "ingress": [{"from": [
            {}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/24"]}, "podSelector": {}}]}]}});
        assert_eq!(
            texts(|e| policy_create(&p, e)),
            [
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                r#"spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: "11.0.0.0/24": must be a strict subset of `cidr`"#,
                "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
            ]
        );
    }

    #[test]
    fn an_address_is_named_canonically() {
        assert!(address_name("2001:db8::1", false).is_empty());
        assert_eq!(address_name("2001:DB8::1", false), ["must be in canonical form (\"2001:db8::1\")"]);
    }
}
