//! The cluster address of a service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kubewright_apiserver::resources::WriteContext;
use kubewright_machinery::field::{self, Path};
use serde_json::{Value, json};

use super::claim::{Claim, Taken};
use super::{ServiceAllocator, free};
use crate::fields::{items, object_mut};
use crate::strategies::services::needs_cluster_ip;

/// The addresses that a service has.
pub(super) fn addresses_of(service: &Value) -> Vec<IpAddr> {
    if !needs_cluster_ip(service) {
        return Vec::new();
    }
    items(service, &["spec", "clusterIPs"]).iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

impl ServiceAllocator {
    /// Gives a service its cluster address: the one that it states, or a free one.
    pub(super) fn take_addresses(
        &self,
        cx: &WriteContext<'_>,
        taken: &mut Taken,
        claim: &mut Claim,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Vec<field::Error>> {
        let had = old.map(addresses_of).unwrap_or_default();
        if !needs_cluster_ip(service) {
            claim.released_addresses = had;
            return Ok(());
        }
        let stated: Vec<String> = items(service, &["spec", "clusterIPs"])
            .iter()
            .filter_map(|ip| ip.as_str().map(str::to_string))
            .collect();
        if stated.first().is_some_and(|ip| ip == "None")
            || old.is_some_and(|o| needs_cluster_ip(o) && !stated.is_empty())
        {
            // Headless; or an address that is kept, or changed, which validation refuses.
            return Ok(());
        }
        let wanted: Option<IpAddr> = match stated.first() {
            None => None,
            Some(text) => match text.parse() {
                Ok(address) => Some(address),
                // Not an address at all: for validation to say.
                Err(_) => return Ok(()),
            },
        };
        let address = match wanted {
            Some(address) => {
                let path = Path::new("spec");
                let path = path.child("clusterIPs");
                let refuse = |why: String| {
                    vec![field::Error::invalid(
                        &path,
                        json!(stated),
                        format!("failed to allocate IP {address}: {why}"),
                    )]
                };
                if !self.range.contains(&address) {
                    return Err(refuse(format!(
                        "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
                        self.range.trunc()
                    )));
                }
                if taken.addresses.contains(&address) {
                    return Err(refuse("provided IP is already allocated".into()));
                }
                address
            }
            None => self.free_address(cx, taken).ok_or_else(|| {
                let path = Path::new("spec");
                vec![field::Error::internal(
                    &path.child("clusterIPs"),
                    "failed to allocate a serviceIP: range is full",
                )]
            })?,
        };
        claim.address(taken, address);
        if let Some(spec) = object_mut(service, &["spec"]) {
            spec.insert("clusterIP".into(), address.to_string().into());
            spec.insert("clusterIPs".into(), json!([address.to_string()]));
        }
        Ok(())
    }

    fn free_address(&self, cx: &WriteContext<'_>, taken: &Taken) -> Option<IpAddr> {
        let bits = u32::from(self.range.max_prefix_len() - self.range.prefix_len()).min(16);
        let size = 1u64 << bits;
        let usable = size.saturating_sub(if self.range.addr().is_ipv4() { 2 } else { 1 });
        if usable == 0 {
            return None;
        }
        let lower = (size / 16).clamp(16, 256).min(usable);
        let random = u64::from_le_bytes(cx.core.random::<8>());
        let address = |offset| nth(&self.range, 1 + offset);
        free(usable, lower, random, |offset| !taken.addresses.contains(&address(offset))).map(address)
    }
}

/// The n-th address of a range.
pub(super) fn nth(range: &IpNet, n: u64) -> IpAddr {
    match range.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().wrapping_add(n as u32)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().wrapping_add(u128::from(n))).into(),
    }
}
