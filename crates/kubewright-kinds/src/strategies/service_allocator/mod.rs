//! Cluster addresses and node ports of services: allocated, kept and given back.
//!
//! The [`ServiceAllocator`] keeps in memory what is taken. It is filled from the stored services when it is first asked,
//! and from then on by the writes that pass through it.

mod addresses;
mod claim;
mod families;
mod ports;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::resources::{Reservation, WriteContext};
use kubewright_machinery::field;
use kubewright_machinery::status::Status;
use serde_json::Value;

use self::addresses::{addresses_of, nth};
use self::claim::{Claim, Taken, lock};
use self::ports::ports_of;
use super::Allocator;
use super::services::{align_addresses, keep_allocated, kind};
use crate::fields::text;

/// Hands out cluster addresses and node ports.
pub struct ServiceAllocator {
    range: IpNet,
    node_ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Option<Taken>>>,
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
        let mut claim = Claim::new(&self.taken);
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
}

/// A free one of `count`: from the upper part at random, from the lower part only when that is full, so that those which
/// people choose are likely to be free (KEP-3070).
fn free(count: u64, lower: u64, random: u64, is_free: impl Fn(u64) -> bool) -> Option<u64> {
    let search = |from: u64, count: u64| (0..count).map(move |i| from + random.wrapping_add(i) % count);
    let upper = count - lower;
    let above = search(lower, upper).find(|offset| is_free(*offset));
    above.or_else(|| search(0, lower).find(|offset| is_free(*offset)))
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
