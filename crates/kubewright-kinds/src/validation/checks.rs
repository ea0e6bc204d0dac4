//! Checks of single values that many validators share: names, numbers, addresses, ports, paths, quantities.

use std::net::IpAddr;

use ipnet::IpNet;
use kubewright_machinery::field::Path;
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::{meta, names, selector};
use serde_json::Value;

use super::errors::Errors;
use super::read::same;

pub(super) const IMMUTABLE: &str = "field is immutable";
pub(super) const NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const NOT_POSITIVE: &str = "must be greater than zero";

pub(super) fn label(value: &str, path: &Path<'_>, e: &mut Errors) {
    e.each(path, value, names::is_dns1123_label(value));
}

pub(super) fn subdomain(value: &str, path: &Path<'_>, e: &mut Errors) {
    e.each(path, value, names::is_dns1123_subdomain(value));
}

pub(super) fn qualified_name(value: &str, path: &Path<'_>, e: &mut Errors) {
    e.each(path, value, names::is_qualified_name(value));
}

/// A label key: a qualified name.
pub(super) fn label_key(value: &str, path: &Path<'_>, e: &mut Errors) {
    qualified_name(value, path, e);
}

pub(super) fn namespace_name(value: &str, path: &Path<'_>, e: &mut Errors) {
    e.each(path, value, names::name_is_label(value, false));
}

pub(super) fn labels(object: &Value, field: &str, path: &Path<'_>, e: &mut Errors) {
    let mut found = Vec::new();
    meta::validate_labels(object.get(field).and_then(Value::as_object), &path.child(field), &mut found);
    e.extend(found);
}

pub(super) fn annotations(object: &Value, path: &Path<'_>, e: &mut Errors) {
    let mut found = Vec::new();
    let annotations = object.get("annotations").and_then(Value::as_object);
    meta::validate_annotations(annotations, &path.child("annotations"), &mut found);
    e.extend(found);
}

/// A LabelSelector, if set.
pub(super) fn label_selector(selector: Option<&Value>, any_value: bool, path: &Path<'_>, e: &mut Errors) {
    if let Some(selector) = selector {
        e.extend(selector::label::validate(selector, any_value, path));
    }
}

pub(super) fn non_negative(value: i64, path: &Path<'_>, e: &mut Errors) {
    if value < 0 {
        e.invalid(path, value, NEGATIVE);
    }
}

/// A number that may be absent.
pub(super) fn opt_non_negative(object: &Value, field: &str, path: &Path<'_>, e: &mut Errors) {
    if let Some(value) = object.get(field).and_then(Value::as_i64) {
        non_negative(value, &path.child(field), e);
    }
}

pub(super) fn port(value: i64, path: &Path<'_>, e: &mut Errors) {
    for message in names::is_port_number(value) {
        e.invalid(path, value, message);
    }
}

/// An IntOrString that is a port's number or name; absent is 0.
pub(super) fn port_or_name(value: &Value, path: &Path<'_>, e: &mut Errors) {
    match value.as_str() {
        Some(name) => e.each(path, name, names::is_port_name(name)),
        None => port(value.as_i64().unwrap_or_default(), path, e),
    }
}

pub(super) fn immutable(new: &Value, old: &Value, path: &Path<'_>, e: &mut Errors) -> bool {
    let changed = !same(new, old);
    if changed {
        e.invalid(path, new.clone(), IMMUTABLE);
    }
    changed
}

pub(super) fn immutable_field(new: &Value, old: &Value, field: &str, path: &Path<'_>, e: &mut Errors) {
    let get = |v: &Value| v.get(field).cloned().unwrap_or_default();
    immutable(&get(new), &get(old), &path.child(field), e);
}

/// The quantity at a value; texts were checked when the object was decoded, so anything else reads as zero.
pub(super) fn quantity(value: &Value) -> Quantity {
    Quantity::from_value(value).unwrap_or_default()
}

pub(super) fn non_negative_quantity(value: &Value, path: &Path<'_>, e: &mut Errors) {
    let quantity = quantity(value);
    if quantity.signum() < 0 {
        e.invalid(path, quantity.to_string(), NEGATIVE);
    }
}

pub(super) fn positive_quantity(value: &Value, path: &Path<'_>, e: &mut Errors) {
    let quantity = quantity(value);
    if quantity.signum() <= 0 {
        e.invalid(path, quantity.to_string(), NOT_POSITIVE);
    }
}

/// Parses an address as Go did before 1.17: parts of an IPv4 address may have leading zeros.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))?;
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    }
    parts.next().is_none().then(|| IpAddr::from(octets))
}

/// Parses a CIDR as [`parse_ip`] does; gives the address as written and the network.
pub(crate) fn parse_cidr(text: &str) -> Option<(IpAddr, IpNet)> {
    let (ip, bits) = text.split_once('/')?;
    if bits.is_empty() || bits.len() > 3 || !bits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ip = parse_ip(ip)?;
    let net = IpNet::new(ip, bits.parse().ok()?).ok()?;
    Some((ip, net.trunc()))
}

fn mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address in a field that is older than strict checks: it need not be in canonical form. `old` are the
/// values that the stored object has there, which pass unseen.
pub(super) fn ip_unless(old: &[&str], text: &str, path: &Path<'_>, e: &mut Errors) {
    if old.contains(&text) {
        return;
    }
    let Some(ip) = parse_ip(text) else {
        return e.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    };
    if text.parse::<IpAddr>().is_err() {
        e.invalid(path, text, "must not have leading 0s");
    }
    if mapped(ip) {
        e.invalid(path, text, "must not be an IPv4-mapped IPv6 address");
    }
}

pub(super) fn ip(text: &str, path: &Path<'_>, e: &mut Errors) {
    ip_unless(&[], text, path, e);
}

/// A CIDR in a field that is older than strict checks.
pub(super) fn cidr_unless(old: &[&str], text: &str, path: &Path<'_>, e: &mut Errors) {
    if old.contains(&text) {
        return;
    }
    let Some((ip, net)) = parse_cidr(text) else {
        return e.invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    };
    let (address, bits) = text.split_once('/').unwrap_or_default();
    if address.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0')) {
        e.invalid(path, text, "must not have leading 0s in IP or prefix length");
    } else if mapped(ip) {
        e.invalid(path, text, "must not have an IPv4-mapped IPv6 address");
    } else if ip != net.addr() {
        e.invalid(path, text, "must not have bits set beyond the prefix length");
    }
}

/// Addresses that make no sense for endpoints and external addresses.
pub(super) fn non_special_ip(text: &str, path: &Path<'_>, e: &mut Errors) {
    let Some(ip) = parse_ip(text) else {
        return e.invalid(path, text, "must be a valid IP address");
    };
    let ip = match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        v4 => v4,
    };
    if ip.is_unspecified() {
        e.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        e.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        e.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        e.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// Whether the addresses are of both families.
pub(super) fn is_dual_stack(ips: impl Iterator<Item = Option<IpAddr>>) -> bool {
    let (mut v4, mut v6) = (false, false);
    for ip in ips.flatten() {
        v4 |= ip.is_ipv4();
        v6 |= ip.is_ipv6();
    }
    v4 && v6
}

/// No `..` among the elements of a path.
pub(super) fn no_backsteps(target: &str, path: &Path<'_>, e: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        e.invalid(path, target, "must not contain '..'");
    }
}

/// A relative path without `..`.
pub(super) fn descending_path(target: &str, path: &Path<'_>, e: &mut Errors) {
    if target.starts_with('/') {
        e.invalid(path, target, "must be a relative path");
    }
    no_backsteps(target, path, e);
}

/// A relative path without `..`, also not at the start of its first name.
pub(super) fn non_reserved_path(target: &str, path: &Path<'_>, e: &mut Errors) {
    descending_path(target, path, e);
    if target.starts_with("..") && !target.starts_with("../") {
        e.invalid(path, target, "must not start with '..'");
    }
}

pub(super) fn file_mode(object: &Value, field: &str, path: &Path<'_>, e: &mut Errors) {
    if let Some(mode) = object.get(field).and_then(Value::as_i64).filter(|m| !(0..=0o777).contains(m)) {
        e.invalid(&path.child(field), mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// An IntOrString as rolling updates and budgets have it: a percentage or a number that is not negative.
pub(super) fn positive_int_or_percent(value: &Value, path: &Path<'_>, e: &mut Errors) {
    match value.as_str() {
        Some(text) => e.each(path, text, names::is_percent(text)),
        None => non_negative(value.as_i64().unwrap_or_default(), path, e),
    }
}

/// The percentage of an IntOrString.
pub(super) fn percent(value: &Value) -> Option<i64> {
    let text = value.as_str().filter(|t| names::is_percent(t).is_empty())?;
    text.trim_end_matches('%').parse().ok()
}

pub(super) fn not_over_100_percent(value: &Value, path: &Path<'_>, e: &mut Errors) {
    if percent(value).is_some_and(|p| p > 100) {
        e.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// The number of an IntOrString, with a percentage taken as itself: what Go's `getIntOrPercentValue` gives.
pub(super) fn int_or_percent(value: &Value) -> i64 {
    percent(value).or(value.as_i64()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;

    fn texts(check: impl Fn(&Path<'_>, &mut Errors)) -> Vec<String> {
        errors::texts(|e| check(&Path::new("f"), e))
    }

    #[test]
    fn addresses_may_have_any_form_but_no_leading_zeros() {
        assert!(texts(|p, e| ip("2001:DB8:0::1", p, e)).is_empty());
        assert_eq!(
            texts(|p, e| ip("bad", p, e)),
            [r#"f: Invalid value: "bad": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#]
        );
        assert_eq!(
            texts(|p, e| ip("010.0.0.1", p, e)),
            [r#"f: Invalid value: "010.0.0.1": must not have leading 0s"#]
        );
    }

    #[test]
    fn paths_stay_below_their_root() {
        assert!(texts(|p, e| non_reserved_path("a/b..c", p, e)).is_empty());
        assert_eq!(
            texts(|p, e| non_reserved_path("../x", p, e)),
            [r#"f: Invalid value: "../x": must not contain '..'"#]
        );
        assert_eq!(
            texts(|p, e| non_reserved_path("..x", p, e)),
            [r#"f: Invalid value: "..x": must not start with '..'"#]
        );
    }

    #[test]
    fn loopback_is_no_endpoint() {
        assert_eq!(
            texts(|p, e| non_special_ip("127.0.0.1", p, e)),
            [r#"f: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#]
        );
    }
}
