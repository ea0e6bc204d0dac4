//! What every request and every plugin shares: store, table, time, randomness, policies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use kubewright_storage::Store;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::config::ServerConfig;
use super::fairness::Fairness;
use crate::admission::{Admission, Connections};
use crate::aggregation::{Remote, Upstreams};
use crate::authn::{Authenticator, impersonation::Habits};
use crate::authz::Authorizer;
use crate::discovery::Documents;
use crate::openapi;
use crate::outbound::LocalServices;
use crate::resources::{Reader, Resource, Table};

/// The heart of a server. One per server, shared by reference.
pub struct Core {
    config: ServerConfig,
    reader: Reader,
    table: RwLock<Arc<Table>>,
    publishing: Mutex<()>,
    published: watch::Sender<u64>,
    discovery: Mutex<Option<(u64, Arc<Documents>)>>,
    openapi: openapi::Library,
    fairness: Fairness,
    habits: Habits,
    webhooks: Connections,
    local_services: LocalServices,
    upstreams: Upstreams,
    served: AtomicU64,
    going: AtomicBool,
    stopping: AtomicBool,
}

impl Core {
    pub(crate) fn new(config: ServerConfig) -> Self {
        let table = Table::new(config.resources.iter().cloned(), 1);
        Self {
            reader: Reader::new(Arc::clone(&config.store)),
            table: RwLock::new(Arc::new(table)),
            publishing: Mutex::new(()),
            published: watch::Sender::new(1),
            discovery: Mutex::new(None),
            openapi: openapi::Library::new(config.descriptions.clone()),
            fairness: Fairness::new(config.limits.clone()),
            habits: Habits::default(),
            webhooks: Connections::default(),
            local_services: LocalServices::default(),
            upstreams: Upstreams::new(config.proxy_identity.clone()),
            served: AtomicU64::new(0),
            going: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            config,
        }
    }

    /// What the server was made of.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Where objects are kept.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.config.store
    }

    /// Decoded objects.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.config.clock.now()
    }

    /// Random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.config.entropy.fill(&mut bytes);
        bytes
    }

    /// A random (version 4) uid.
    pub fn uid(&self) -> String {
        let mut b = self.random::<16>();
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let mut out = String::with_capacity(36);
        for (i, byte) in b.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                out.push('-');
            }
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(digit), 16).expect("a nibble is a hex digit"));
            }
        }
        out
    }

    /// The admission plugins, in order.
    pub fn admission(&self) -> &[Arc<dyn Admission>] {
        &self.config.admission
    }

    /// Open connections to webhooks.
    pub(crate) fn webhook_connections(&self) -> &Connections {
        &self.webhooks
    }

    /// Services that processes of this machine stand for.
    pub fn local_services(&self) -> &LocalServices {
        &self.local_services
    }

    /// Open connections to the servers behind APIServices.
    pub(crate) fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// The authenticators, in order.
    pub fn authenticators(&self) -> &[Arc<dyn Authenticator>] {
        &self.config.authenticators
    }

    /// The authorizers, in order.
    pub fn authorizers(&self) -> &[Arc<dyn Authorizer>] {
        &self.config.authorizers
    }

    /// A snapshot of everything that is served.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    /// The discovery documents of a table.
    pub fn discovery(&self, table: &Table) -> Arc<Documents> {
        let mut kept = self.discovery.lock();
        match &*kept {
            Some((serial, documents)) if *serial == table.serial() => Arc::clone(documents),
            _ => {
                let documents = Arc::new(Documents::of(table));
                *kept = Some((table.serial(), Arc::clone(&documents)));
                documents
            }
        }
    }

    /// The OpenAPI documents.
    pub fn openapi(&self) -> &openapi::Library {
        &self.openapi
    }

    /// Publishes another set of resources: `change` gets the current ones and gives the new ones. Resources that stay
    /// must keep their `Arc`; the watches of those that do not are ended, so that clients list again.
    pub fn publish(&self, change: impl FnOnce(&[Arc<Resource>]) -> Vec<Arc<Resource>>) {
        let _one_at_a_time = self.publishing.lock();
        let current = self.table();
        let serial = current.serial() + 1;
        let next = Table::new(change(current.resources()), serial).with_remotes(current.remotes().to_vec());
        *self.table.write() = Arc::new(next);
        self.published.send_replace(serial);
    }

    /// Publishes other group versions as served elsewhere.
    pub(crate) fn publish_remotes(&self, remotes: Vec<Arc<Remote>>) {
        let _one_at_a_time = self.publishing.lock();
        let current = self.table();
        let serial = current.serial() + 1;
        let next = Table::new(current.resources().iter().cloned(), serial).with_remotes(remotes);
        *self.table.write() = Arc::new(next);
        self.published.send_replace(serial);
    }

    /// Room for requests.
    pub(crate) fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    /// Which mode of impersonation is whose.
    pub(crate) fn impersonation_habits(&self) -> &Habits {
        &self.habits
    }

    pub(crate) fn count_request(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn requests_served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// The server will go down, and says so.
    pub(crate) fn announce_stop(&self) {
        self.going.store(true, Ordering::Release);
    }

    /// Whether the server goes down, or soon will.
    pub(crate) fn is_going(&self) -> bool {
        self.going.load(Ordering::Acquire) || self.is_stopping()
    }

    /// The server is going down: watches end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.published.send_modify(|_| {});
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until the server is going down.
    pub(crate) async fn stopped(&self) {
        let mut published = self.publications();
        while !self.is_stopping() && published.changed().await.is_ok() {}
    }

    /// Resolves changes of the table: the serial of the newest one.
    pub fn publications(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }
}
