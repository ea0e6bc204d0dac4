//! The node ports of a service.

use std::collections::BTreeSet;

use kubewright_apiserver::resources::WriteContext;
use kubewright_machinery::field::{self, Path};
use serde_json::Value;

use super::claim::{Claim, Port, Taken};
use super::{ServiceAllocator, free};
use crate::fields::{at, items, items_mut, object_mut};
use crate::strategies::services::{kind, needs_health_port, needs_node_ports};

/// The node ports that a service has.
pub(super) fn ports_of(service: &Value) -> Vec<Port> {
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
    /// Gives a service its node ports: those that it states, and free ones.
    pub(super) fn take_ports(
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
        let mut mine: BTreeSet<Port> = BTreeSet::new();
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
                    claim.port(taken, key.clone());
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
                claim.port(taken, key.clone());
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
                    claim.port(taken, key.clone());
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
        let lower = (count / 32).clamp(16, 128).min(count);
        let random = u32::from_le_bytes(cx.core.random::<4>());
        let port = |offset| start + offset as u16;
        let is_free = |offset| {
            let number = port(offset);
            taken.ports.range((number, String::new())..).next().is_none_or(|(n, _)| *n != number)
        };
        free(count.into(), lower.into(), random.into(), is_free).map(port)
    }
}

fn owns(mine: &BTreeSet<Port>, had: &[Port], number: u16) -> bool {
    mine.iter().chain(had).any(|(n, _)| *n == number)
}
