//! Endpoints and EndpointSlices.

use std::collections::BTreeSet;

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, container, metadata};

pub(super) fn endpoints_create(endpoints: &Value, e: &mut Errors) {
    endpoints_with(endpoints, &[], e);
}

pub(super) fn endpoints_update(endpoints: &Value, old: &Value, e: &mut Errors) {
    metadata::update(endpoints, old, e);
    let subsets = old.items("subsets").iter();
    let addresses = subsets.flat_map(|s| s.items("addresses").iter().chain(s.items("notReadyAddresses")));
    let old_ips: Vec<&str> = addresses.map(|a| a.text("ip")).collect();
    endpoints_with(endpoints, &old_ips, e);
}

fn endpoints_with(endpoints: &Value, old_ips: &[&str], e: &mut Errors) {
    metadata::create(endpoints, true, names::name_is_subdomain, e);
    let list = Path::new("subsets");
    for (i, subset) in endpoints.items("subsets").iter().enumerate() {
        let item = list.index(i);
        if subset.items("addresses").is_empty() && subset.items("notReadyAddresses").is_empty() {
            e.required(&item, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            let addresses = item.child(field);
            for (i, found) in subset.items(field).iter().enumerate() {
                address(found, old_ips, &addresses.index(i), e);
            }
        }
        let ports = item.child("ports");
        let all = subset.items("ports");
        for (i, found) in all.iter().enumerate() {
            port(found, all.len() > 1, &ports.index(i), e);
        }
    }
}

fn address(address: &Value, old_ips: &[&str], path: &Path<'_>, e: &mut Errors) {
    let ip = address.text("ip");
    checks::ip_unless(old_ips, ip, &path.child("ip"), e);
    if !address.text("hostname").is_empty() {
        checks::label(address.text("hostname"), &path.child("hostname"), e);
    }
    if let Some(node) = address.opt_text("nodeName") {
        checks::subdomain(node, &path.child("nodeName"), e);
    }
    checks::non_special_ip(ip, &path.child("ip"), e);
}

fn port(port: &Value, named: bool, path: &Path<'_>, e: &mut Errors) {
    match port.text("name") {
        "" if named => e.required(&path.child("name"), ""),
        "" => {}
        name => checks::label(name, &path.child("name"), e),
    }
    checks::port(port.int("port"), &path.child("port"), e);
    container::protocol(port.text("protocol"), &path.child("protocol"), e);
    if let Some(protocol) = port.opt_text("appProtocol") {
        checks::qualified_name(protocol, &path.child("appProtocol"), e);
    }
}

pub(super) fn slice_create(slice: &Value, e: &mut Errors) {
    slice_with(slice, &[], e);
}

pub(super) fn slice_update(slice: &Value, old: &Value, e: &mut Errors) {
    let old_ips: Vec<&str> = old.items("endpoints").iter().flat_map(|x| x.strings("addresses")).collect();
    checks::immutable_field(slice, old, "addressType", &Path::ROOT, e);
    slice_with(slice, &old_ips, e);
}

fn slice_with(slice: &Value, old_ips: &[&str], e: &mut Errors) {
    const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
    metadata::create(slice, true, names::name_is_subdomain, e);
    let kind = slice.text("addressType");
    if kind.is_empty() {
        e.required(&Path::new("addressType"), "");
    } else if !TYPES.contains(&kind) {
        e.not_supported(&Path::new("addressType"), kind, &TYPES);
    }
    slice_ports(slice.items("ports"), &Path::new("ports"), e);
    let list = Path::new("endpoints");
    let endpoints = slice.items("endpoints");
    if endpoints.len() > 1000 {
        return e.too_many(&list, endpoints.len(), 1000);
    }
    for (i, found) in endpoints.iter().enumerate() {
        endpoint(found, kind, old_ips, &list.index(i), e);
    }
}

fn slice_ports(ports: &[Value], path: &Path<'_>, e: &mut Errors) {
    if ports.len() > 20_000 {
        return e.too_many(path, ports.len(), 20_000);
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let item = path.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            checks::label(name, &item.child("name"), e);
        }
        if !seen.insert(name) {
            e.duplicate(&item.child("name"), name);
        }
        container::protocol(port.text("protocol"), &item.child("protocol"), e);
        if let Some(protocol) = port.opt_text("appProtocol") {
            checks::qualified_name(protocol, &item.child("appProtocol"), e);
        }
    }
}

fn endpoint(endpoint: &Value, kind: &str, old_ips: &[&str], path: &Path<'_>, e: &mut Errors) {
    let addresses_path = path.child("addresses");
    let addresses = endpoint.strings("addresses");
    if addresses.is_empty() {
        e.required(&addresses_path, "must contain at least 1 address");
    } else if addresses.len() > 100 {
        e.too_many(&addresses_path, addresses.len(), 100);
    }
    for (i, address) in addresses.into_iter().enumerate() {
        let item = addresses_path.index(i);
        let ip = checks::parse_ip(address);
        match kind {
            "IPv4" | "IPv6" => {
                checks::ip_unless(old_ips, address, &item, e);
                // The family is told without the index: that is how the API says it.
                if ip.is_some_and(|ip| ip.is_ipv4() != (kind == "IPv4")) {
                    e.invalid(&addresses_path, address, format!("must be an {kind} address"));
                }
                checks::non_special_ip(address, &item, e);
            }
            "FQDN" => domain_name(address, &item, e),
            _ => {}
        }
    }
    if let Some(node) = endpoint.opt_text("nodeName") {
        checks::subdomain(node, &path.child("nodeName"), e);
    }
    let topology = endpoint.entries("deprecatedTopology").count();
    if topology > 16 {
        e.too_many(&path.child("deprecatedTopology"), topology, 16);
    }
    checks::labels(endpoint, "deprecatedTopology", path, e);
    if let Some(host) = endpoint.opt_text("hostname") {
        checks::label(host, &path.child("hostname"), e);
    }
    if let Some(hints) = endpoint.some("hints") {
        for field in ["forZones", "forNodes"] {
            let names_path = path.child("hints");
            hint(hints.items(field), field, &names_path.child(field), e);
        }
    }
}

fn hint(targets: &[Value], field: &str, path: &Path<'_>, e: &mut Errors) {
    if targets.len() > 8 {
        return e.too_many(path, targets.len(), 8);
    }
    let mut seen = BTreeSet::new();
    for (i, target) in targets.iter().enumerate() {
        let item = path.index(i);
        let name = target.text("name");
        if !seen.insert(name) {
            e.duplicate(&item.child("name"), name);
        }
        let messages = if field == "forZones" {
            names::is_label_value(name)
        } else {
            names::name_is_subdomain(name, false)
        };
        e.each(&item.child("name"), name, messages);
    }
}

/// A domain name of at least two labels; it may end with a dot.
fn domain_name(name: &str, path: &Path<'_>, e: &mut Errors) {
    let plain = name.strip_suffix('.').unwrap_or(name);
    if plain.is_empty() {
        return e.required(path, "");
    }
    let messages = names::is_dns1123_subdomain(plain);
    if !messages.is_empty() {
        return e.invalid(path, name, messages.join(","));
    }
    if !plain.contains('.') {
        return e.invalid(path, name, "should be a domain with at least two segments separated by dots");
    }
    for label in plain.split('.') {
        if label.len() > 63 {
            let messages = names::is_dns1123_label(label);
            e.invalid(path, label, messages.join(","));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn a_slice_has_addresses_of_its_type() {
        let s = json!({"metadata": {"name": "s", "namespace": "n"}, "addressType": "IPv4",
            "endpoints": [{"addresses": []}, {"addresses": ["::1"]}]});
        let texts = errors::texts(|e| slice_create(&s, e));
        assert_eq!(
            texts,
            [
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                r#"endpoints[1].addresses: Invalid value: "::1": must be an IPv4 address"#,
                r#"endpoints[1].addresses[0]: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            ]
        );
    }

    #[test]
    fn a_subset_has_addresses() {
        let texts = errors::texts(|e| {
            endpoints_create(&json!({"metadata": {"name": "s", "namespace": "n"}, "subsets": [{}]}), e)
        });
        assert_eq!(texts, ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]);
    }
}
