//! Cluster addresses and node ports of services: allocated, kept and given back.
//!
//! The [`ServiceAllocator`] keeps in memory what is taken. It is filled from the stored services when it is first asked,
//! and from then on by the writes that pass through it.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::resources::{Reservation, WriteContext};
use kubewright_machinery::field::{self, Path};
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use super::Allocator;
use super::services::{
    align_addresses, keep_allocated, kind, needs_cluster_ip, needs_health_port, needs_node_ports,
};
use crate::fields::{at, items, items_mut, object_mut, same, text};

/// What is taken.
#[derive(Default)]
struct Taken {
    addresses: HashSet<IpAddr>,
    /// (port, protocol): one number may serve several protocols of one service.
    ports: BTreeSet<(u16, String)>,
}

/// Hands out cluster addresses and node ports.
pub struct ServiceAllocator {
    range: IpNet,
    node_ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Option<Taken>>>,
}

/// What a write took, and what it gives back when it happens.
struct Claim {
    taken: Arc<Mutex<Option<Taken>>>,
    addresses: Vec<IpAddr>,
    ports: Vec<(u16, String)>,
    released_addresses: Vec<IpAddr>,
    released_ports: Vec<(u16, String)>,
    committed: bool,
}

impl Reservation for Claim {
    fn commit(mut self: Box<Self>) {
        self.committed = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        let Some(taken) = taken.as_mut() else { return };
        let (addresses, ports) = if self.committed {
            (&self.released_addresses, &self.released_ports)
        } else {
            (&self.addresses, &self.ports)
        };
        for address in addresses {
            taken.addresses.remove(address);
        }
        for port in ports {
            taken.ports.remove(port);
        }
    }
}

fn lock(taken: &Mutex<Option<Taken>>) -> MutexGuard<'_, Option<Taken>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn addresses_of(service: &Value) -> Vec<IpAddr> {
    if !needs_cluster_ip(service) {
        return Vec::new();
    }
    items(service, &["spec", "clusterIPs"]).iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

fn ports_of(service: &Value) -> Vec<(u16, String)> {
    let port = |p: &Value| {
        let number = u16::try_from(p["nodePort"].as_i64()?).ok().filter(|n| *n != 0)?;
        Some((number, p["protocol"].as_str().unwrap_or("TCP").to_string()))
    };
    let mut all: Vec<_> = items(service, &["spec", "ports"]).iter().filter_map(port).collect();
    let health = at(service, &["spec", "healthCheckNodePort"]).as_i64().and_then(|p| u16::try_from(p).ok());
    all.extend(health.filter(|p| *p != 0).map(|p| (p, "TCP".to_string())));
    all
}

impl ServiceAllocator {
    /// An allocator of addresses in `range` and of node ports in `node_ports` (by default 30000 to 32767).
    pub fn new(range: IpNet, node_ports: RangeInclusive<u16>) -> Self {
        Self { range, node_ports, taken: Arc::default() }
    }

    /// The first address of the range: that of the service `default/kubernetes`.
    pub fn first_address(&self) -> IpAddr {
        nth(&self.range, 1)
    }

    fn family(&self) -> &'static str {
        if self.range.addr().is_ipv4() { "IPv4" } else { "IPv6" }
    }

    async fn fill(&self, cx: &WriteContext<'_>) -> Result<(), Status> {
        if lock(&self.taken).is_some() {
            return Ok(());
        }
        let services = cx.core.reader().list("", "services", "").await.map_err(Status::internal)?;
        let mut taken = Taken::default();
        for service in &services {
            taken.addresses.extend(addresses_of(service));
            taken.ports.extend(ports_of(service));
        }
        lock(&self.taken).get_or_insert(taken);
        Ok(())
    }

    async fn allocate(
        &self,
        cx: &WriteContext<'_>,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Option<Box<dyn Reservation>>, Status> {
        self.fill(cx).await?;
        if let Some(old) = old {
            keep_allocated(service, old);
        }
        align_addresses(service, old);
        let name = text(service, &["metadata", "name"]).to_string();
        // Addresses that are none are not worth allocating for.
        let faults = crate::validation::service_addresses(service, old);
        if kind(service) != "ExternalName" && !faults.is_empty() {
            return Err(Status::invalid("", "Service", &name, &faults));
        }
        let invalid = |errors: &[field::Error]| Status::invalid("", "Service", &name, errors);
        self.families(service, old).map_err(|errors| invalid(&errors))?;
        let mut claim = Claim {
            taken: Arc::clone(&self.taken),
            addresses: Vec::new(),
            ports: Vec::new(),
            released_addresses: Vec::new(),
            released_ports: Vec::new(),
            committed: false,
        };
        let mut guard = lock(&self.taken);
        let taken = guard.get_or_insert_with(Taken::default);
        let result = self
            .take_addresses(cx, taken, &mut claim, service, old)
            .and_then(|()| self.take_ports(cx, taken, &mut claim, service, old));
        drop(guard);
        // On an error the claim is dropped here, which gives back what it had taken.
        result.map_err(|errors| invalid(&errors))?;
        Ok(Some(Box::new(claim)))
    }

    /// `ipFamilyPolicy` and `ipFamilies` as a cluster of one family fills them in.
    fn families(&self, service: &mut Value, old: Option<&Value>) -> Result<(), Vec<field::Error>> {
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

    fn take_addresses(
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
        taken.addresses.insert(address);
        claim.addresses.push(address);
        if let Some(spec) = object_mut(service, &["spec"]) {
            spec.insert("clusterIP".into(), address.to_string().into());
            spec.insert("clusterIPs".into(), json!([address.to_string()]));
        }
        Ok(())
    }

    /// A free address: from the upper part of the range at random, from the lower part only when that is full, so that
    /// addresses which people choose are likely to be free (KEP-3070).
    fn free_address(&self, cx: &WriteContext<'_>, taken: &Taken) -> Option<IpAddr> {
        let bits = u32::from(self.range.max_prefix_len() - self.range.prefix_len()).min(16);
        let size = 1u64 << bits;
        let usable = size.saturating_sub(if self.range.addr().is_ipv4() { 2 } else { 1 });
        if usable == 0 {
            return None;
        }
        let lower = (size / 16).clamp(16, 256).min(usable);
        let random = u64::from_le_bytes(cx.core.random::<8>());
        let search = |from: u64, count: u64| {
            (0..count)
                .map(move |i| from + (random.wrapping_add(i)) % count)
                .map(|offset| nth(&self.range, 1 + offset))
        };
        let upper = usable - lower;
        let free = |address: &IpAddr| !taken.addresses.contains(address);
        let above = (upper > 0).then(|| search(lower, upper)).into_iter().flatten().find(free);
        above.or_else(|| search(0, lower).find(free))
    }

    fn take_ports(
        &self,
        cx: &WriteContext<'_>,
        taken: &mut Taken,
        claim: &mut Claim,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Vec<field::Error>> {
        let had = old.map(ports_of).unwrap_or_default();
        let needs = needs_node_ports(service);
        let needs_health = needs_health_port(service);
        let mut mine: BTreeSet<(u16, String)> = BTreeSet::new();
        let mut errors = Vec::new();
        let keeps_by_hand = kind(service) == "LoadBalancer" && !needs;
        let Some(spec) = object_mut(service, &["spec"]) else { return Ok(()) };
        let stated_health = spec.get("healthCheckNodePort").and_then(Value::as_i64);
        if needs || keeps_by_hand {
            // Stated ports first, so that none of them is handed out.
            for (i, port) in items_mut(spec, "ports").enumerate() {
                let Some(number) = port.get("nodePort").and_then(Value::as_i64).filter(|n| *n != 0) else {
                    continue;
                };
                let Ok(number) = u16::try_from(number) else { continue };
                let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_string();
                let key = (number, protocol);
                let spec_path = Path::new("spec");
                let ports_path = spec_path.child("ports");
                let item_path = ports_path.index(i);
                let path = item_path.child("nodePort");
                if mine.contains(&key) || had.contains(&key) {
                    mine.insert(key);
                } else if !self.node_ports.contains(&number) {
                    let why = format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        self.node_ports.start(),
                        self.node_ports.end()
                    );
                    errors.push(field::Error::invalid(&path, number, why));
                } else if taken.ports.contains(&key)
                    || taken.ports.iter().any(|(n, _)| *n == number && !owns(&mine, &had, *n))
                {
                    errors.push(field::Error::invalid(&path, number, "provided port is already allocated"));
                } else {
                    taken.ports.insert(key.clone());
                    claim.ports.push(key.clone());
                    mine.insert(key);
                }
            }
        }
        if needs && errors.is_empty() {
            let mut given: Vec<(i64, u16)> = Vec::new();
            for port in items_mut(spec, "ports") {
                if port.get("nodePort").and_then(Value::as_i64).is_some_and(|n| n != 0) {
                    continue;
                }
                let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_string();
                let service_port = port.get("port").and_then(Value::as_i64).unwrap_or_default();
                // One service port under two protocols shares a node port.
                let shared =
                    given.iter().find(|(p, n)| *p == service_port && !mine.contains(&(*n, protocol.clone())));
                let number = match shared {
                    Some((_, number)) => *number,
                    None => match self.free_port(cx, taken) {
                        Some(number) => number,
                        None => {
                            let path = Path::new("spec");
                            return Err(vec![field::Error::internal(
                                &path.child("ports"),
                                "failed to allocate a nodePort: range is full",
                            )]);
                        }
                    },
                };
                given.push((service_port, number));
                let key = (number, protocol);
                taken.ports.insert(key.clone());
                claim.ports.push(key.clone());
                mine.insert(key);
                port.insert("nodePort".into(), number.into());
            }
        }
        if needs_health && errors.is_empty() {
            let number = match stated_health.filter(|n| *n != 0).map(u16::try_from) {
                Some(Ok(number)) => {
                    let key = (number, "TCP".to_string());
                    if !had.contains(&key) && taken.ports.contains(&key) {
                        let path = Path::new("spec");
                        let why = format!(
                            "failed to allocate requested HealthCheck NodePort {number}: provided port is already allocated"
                        );
                        errors.push(field::Error::internal(&path.child("healthCheckNodePort"), why));
                    }
                    Some(number)
                }
                Some(Err(_)) => None,
                None => self.free_port(cx, taken),
            };
            if let Some(number) = number
                && errors.is_empty()
            {
                let key = (number, "TCP".to_string());
                if !had.contains(&key) {
                    taken.ports.insert(key.clone());
                    claim.ports.push(key.clone());
                }
                mine.insert(key);
                spec.insert("healthCheckNodePort".into(), number.into());
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        claim.released_ports = had.into_iter().filter(|key| !mine.contains(key)).collect();
        Ok(())
    }

    fn free_port(&self, cx: &WriteContext<'_>, taken: &Taken) -> Option<u16> {
        let (start, end) = (*self.node_ports.start(), *self.node_ports.end());
        let count = u32::from(end - start) + 1;
        // Ports that people choose come from the lower part: it is handed out last.
        let lower = (count / 32).clamp(16, 128).min(count);
        let random = u32::from_le_bytes(cx.core.random::<4>());
        let search = |from: u32, count: u32| (0..count).map(move |i| from + random.wrapping_add(i) % count);
        let free = |offset: &u32| {
            let number = start + *offset as u16;
            taken.ports.range((number, String::new())..).next().is_none_or(|(n, _)| *n != number)
        };
        let upper = count - lower;
        let above = (upper > 0).then(|| search(lower, upper)).into_iter().flatten().find(free);
        above.or_else(|| search(0, lower).find(free)).map(|offset| start + offset as u16)
    }
}

fn owns(mine: &BTreeSet<(u16, String)>, had: &[(u16, String)], number: u16) -> bool {
    mine.iter().chain(had).any(|(n, _)| *n == number)
}

/// The n-th address of a range.
fn nth(range: &IpNet, n: u64) -> IpAddr {
    match range.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().wrapping_add(n as u32)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().wrapping_add(u128::from(n))).into(),
    }
}

impl Allocator for ServiceAllocator {
    fn reserve<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>, Status>> {
        Box::pin(self.allocate(cx, object, old))
    }

    fn release<'a>(&'a self, _cx: &'a WriteContext<'a>, object: &'a Value) -> BoxFuture<'a, ()> {
        if let Some(taken) = lock(&self.taken).as_mut() {
            for address in addresses_of(object) {
                taken.addresses.remove(&address);
            }
            for port in ports_of(object) {
                taken.ports.remove(&port);
            }
        }
        kubewright_apiserver::ready(())
    }
}
