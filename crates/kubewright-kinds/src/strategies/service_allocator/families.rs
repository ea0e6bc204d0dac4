//! The address families of a service, in a cluster that has one.

use std::net::IpAddr;

use kubewright_machinery::field::{self, Path};
use serde_json::{Value, json};

use super::ServiceAllocator;
use crate::fields::{at, items, object_mut, same, text};
use crate::strategies::services::{kind, needs_cluster_ip};

impl ServiceAllocator {
    fn family(&self) -> &'static str {
        if self.range.addr().is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// `ipFamilyPolicy` and `ipFamilies` as a cluster of one family fills them in.
    pub(super) fn families(&self, service: &mut Value, old: Option<&Value>) -> Result<(), Vec<field::Error>> {
        if kind(service) == "ExternalName" {
            return Ok(());
        }
        let headless = items(service, &["spec", "clusterIPs"]).first().is_some_and(|ip| ip == "None");
        let selects = at(service, &["spec", "selector"]).as_object().is_some_and(|s| !s.is_empty());
        let policy = text(service, &["spec", "ipFamilyPolicy"]).to_string();
        let mut families: Vec<String> = items(service, &["spec", "ipFamilies"])
            .iter()
            .filter_map(|f| f.as_str().map(str::to_string))
            .collect();
        if families.is_empty() {
            let stated =
                items(service, &["spec", "clusterIPs"]).iter().filter_map(|ip| ip.as_str()?.parse().ok());
            families =
                stated.map(|ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" }.to_string()).collect();
        }
        let unchanged = old.is_some_and(|old| {
            needs_cluster_ip(old)
                && same(at(old, &["spec", "ipFamilies"]), at(service, &["spec", "ipFamilies"]))
                && same(at(old, &["spec", "ipFamilyPolicy"]), at(service, &["spec", "ipFamilyPolicy"]))
        });
        let mut policy_now = policy.clone();
        if headless && !selects {
            // Nothing is allocated and endpoints are the user's: both families may be asked for.
            if families.is_empty() {
                families.push(self.family().to_string());
            }
            if families.len() < 2 && policy != "SingleStack" {
                let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
                families.push(other.to_string());
            }
            if policy.is_empty() {
                policy_now = "RequireDualStack".into();
            }
        } else if !unchanged {
            let root = Path::new("spec");
            let mut errors = Vec::new();
            if policy == "RequireDualStack" {
                errors.push(field::Error::invalid(
                    &root.child("ipFamilyPolicy"),
                    policy.as_str(),
                    "this cluster is not configured for dual-stack services",
                ));
            }
            for (i, family) in families.iter().enumerate() {
                if matches!(family.as_str(), "IPv4" | "IPv6") && family != self.family() {
                    errors.push(field::Error::invalid(
                        &root.child("ipFamilies").index(i),
                        family.as_str(),
                        "not configured on this cluster",
                    ));
                }
            }
            if !errors.is_empty() {
                return Err(errors);
            }
            if policy.is_empty() {
                policy_now = "SingleStack".into();
            }
            if families.is_empty() {
                families.push(self.family().to_string());
            }
        }
        if let Some(spec) = object_mut(service, &["spec"]) {
            if !policy_now.is_empty() {
                spec.insert("ipFamilyPolicy".into(), policy_now.into());
            }
            if !families.is_empty() {
                spec.insert("ipFamilies".into(), json!(families));
            }
        }
        Ok(())
    }
}
