//! What services have, and what one write takes of it: a write that does not happen gives back what it took.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kubewright_apiserver::resources::Reservation;

/// A node port and its protocol: one number may serve several protocols of one service.
pub(super) type Port = (u16, String);

/// What is taken.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) addresses: HashSet<IpAddr>,
    pub(super) ports: BTreeSet<Port>,
}

/// What a write took, and what it gives back when it happens.
pub(super) struct Claim {
    taken: Arc<Mutex<Option<Taken>>>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<Port>,
    pub(super) released_addresses: Vec<IpAddr>,
    pub(super) released_ports: Vec<Port>,
    committed: bool,
}

impl Claim {
    /// A claim that took nothing yet.
    pub(super) fn new(taken: &Arc<Mutex<Option<Taken>>>) -> Self {
        Self {
            taken: Arc::clone(taken),
            addresses: Vec::new(),
            ports: Vec::new(),
            released_addresses: Vec::new(),
            released_ports: Vec::new(),
            committed: false,
        }
    }

    /// Takes an address.
    pub(super) fn address(&mut self, taken: &mut Taken, address: IpAddr) {
        taken.addresses.insert(address);
        self.addresses.push(address);
    }

    /// Takes a node port.
    pub(super) fn port(&mut self, taken: &mut Taken, port: Port) {
        taken.ports.insert(port.clone());
        self.ports.push(port);
    }
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

pub(super) fn lock(taken: &Mutex<Option<Taken>>) -> MutexGuard<'_, Option<Taken>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}
