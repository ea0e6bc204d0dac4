//! Addresses and ranges that are accepted but not in the form they should have.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::validation::{parse_cidr, parse_ip};

fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        v4 => v4,
    }
}

/// What is odd about an address; nothing about a text that is none, which validation refuses.
pub(super) fn ip(path: &str, text: &str, out: &mut Vec<String>) {
    let Some(sloppy) = parse_ip(text) else { return };
    let plain = unmapped(sloppy);
    match text.parse::<IpAddr>() {
        Ok(strict) if strict == plain => {
            if strict.is_ipv6() && strict.to_string() != text {
                out.push(format!(
                    "{path}: IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{strict}\")"
                ));
            }
        }
        _ => out.push(format!("{path}: non-standard IP address \"{text}\" is invalid: use \"{plain}\"")),
    }
}

/// What is odd about a range of addresses.
pub(super) fn cidr(path: &str, text: &str, out: &mut Vec<String>) {
    let Some((address, net)) = parse_cidr(text) else { return };
    let before = out.len();
    if address != net.addr() {
        let single = if address.is_ipv4() { 32 } else { 128 };
        out.push(format!(
            "{path}: CIDR value \"{text}\" is ambiguous in this context (should be \"{net}\" or \"{address}/{single}\"?)"
        ));
    }
    let strict = text.parse::<IpNet>().ok();
    let padded = text.split_once('/').is_some_and(|(_, bits)| bits.len() > 1 && bits.starts_with('0'));
    if strict.is_none() || padded || unmapped(address) != address {
        let bits = i16::from(net.prefix_len()) - if unmapped(address) == address { 0 } else { 96 };
        let plain = unmapped(net.addr());
        out.push(format!("{path}: non-standard CIDR value \"{text}\" is invalid: use \"{plain}/{bits}\""));
    }
    if out.len() == before
        && let Some(strict) = strict.filter(|s| s.addr().is_ipv6() && s.to_string() != text)
    {
        out.push(format!(
            "{path}: IPv6 CIDR value \"{text}\" should be in RFC 5952 canonical format (\"{strict}\")"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(check: fn(&str, &str, &mut Vec<String>), text: &str) -> Vec<String> {
        let mut out = Vec::new();
        check("f", text, &mut out);
        out
    }

    #[test]
    fn addresses_in_other_forms_are_spelt_out() {
        assert!(of(ip, "10.0.0.1").is_empty());
        assert!(of(ip, "2001:db8::1").is_empty());
        assert_eq!(
            of(ip, "010.0.0.1"),
            [r#"f: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1""#]
        );
        assert_eq!(
            of(ip, "::ffff:1.2.3.4"),
            [r#"f: non-standard IP address "::ffff:1.2.3.4" is invalid: use "1.2.3.4""#]
        );
        assert_eq!(
            of(ip, "2001:DB8:0::1"),
            [r#"f: IPv6 address "2001:DB8:0::1" should be in RFC 5952 canonical format ("2001:db8::1")"#]
        );
    }

    #[test]
    fn ranges_with_host_bits_are_ambiguous() {
        assert!(of(cidr, "10.0.0.0/8").is_empty());
        assert_eq!(
            of(cidr, "10.1.2.3/8"),
            [
                r#"f: CIDR value "10.1.2.3/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.2.3/32"?)"#
            ]
        );
        assert_eq!(
            of(cidr, "2001:DB8::/32"),
            [
                r#"f: IPv6 CIDR value "2001:DB8::/32" should be in RFC 5952 canonical format ("2001:db8::/32")"#
            ]
        );
    }
}
