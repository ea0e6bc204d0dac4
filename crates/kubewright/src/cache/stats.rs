//! Figures of an informer: what it holds, what it did so far, and how far it may be behind the server.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::informer::{Informer, Shared};
use super::share::Share;

/// A cache that is cut off for longer is not taken for ready: its watch could have been resumed many times over.
const STALE: Duration = Duration::from_secs(300);

/// Figures of an informer.
#[derive(Clone, Copy, Debug, Default)]
pub struct InformerStats {
    /// Objects held.
    pub objects: usize,
    /// Bytes of JSON held, as they would be uncompressed.
    pub bytes: usize,
    /// Bytes of JSON that are not compressed.
    pub hot_bytes: usize,
    /// Lists begun, the first one included.
    pub relists: u64,
    /// Events applied.
    pub events: u64,
    /// Objects that could not be read.
    pub undecodable: u64,
    /// Requests that failed, and watches that were cut off.
    pub failures: u64,
    /// Objects of other replicas' shares that the server sent all the same.
    pub left_out: u64,
    /// Whether the watch is open: while it is not, the cache grows stale.
    pub connected: bool,
    /// How long the server has said nothing. On an open watch it says which revision it is at about once a minute, even
    /// where nothing changes: far more than that is how stale the cache may be.
    pub lag: Duration,
    /// The revision up to which everything is in the cache; 0 while a list is being received.
    pub resource_version: u64,
    /// Writes of this process that the cache does not show yet. Reads wait for those to what they read.
    pub own_writes: usize,
}

impl InformerStats {
    /// The figures of two informers together: of one kind in several scopes or versions.
    #[must_use]
    pub(crate) fn and(self, other: InformerStats) -> InformerStats {
        InformerStats {
            objects: self.objects + other.objects,
            bytes: self.bytes + other.bytes,
            hot_bytes: self.hot_bytes + other.hot_bytes,
            relists: self.relists + other.relists,
            events: self.events + other.events,
            undecodable: self.undecodable + other.undecodable,
            failures: self.failures + other.failures,
            left_out: self.left_out + other.left_out,
            connected: self.connected && other.connected,
            lag: self.lag.max(other.lag),
            resource_version: self.resource_version.min(other.resource_version),
            own_writes: self.own_writes + other.own_writes,
        }
    }
}

impl Informer {
    /// What it holds now, what it did so far, and how far it may be behind.
    pub fn stats(&self) -> InformerStats {
        self.0.shared.stats(Instant::now())
    }

    /// How long it has been cut off from the server without hearing of it, where that is too long for what it holds to be
    /// taken for true.
    pub(crate) fn cut_off(&self, now: Instant) -> Option<Duration> {
        let lag = self.0.shared.lag(now);
        (!self.is_connected() && lag > STALE).then_some(lag)
    }
}

impl Shared {
    /// Whether the watch is open, in every namespace.
    pub(super) fn is_connected(&self) -> bool {
        self.parts.read().iter().all(|part| part.is_connected())
    }

    /// How long the server has said nothing; of several namespaces, of the one that is furthest behind.
    fn lag(&self, now: Instant) -> Duration {
        self.parts.read().iter().map(|part| part.silence(now)).max().unwrap_or_default()
    }

    pub(super) fn stats(&self, now: Instant) -> InformerStats {
        // One lock at a time: who holds that of the writes takes the others.
        let own_writes = self.pending.lock().writes.len();
        let (connected, lag) = (self.is_connected(), self.lag(now));
        let resource_version = self.parts.read().iter().map(|part| part.progress()).min().unwrap_or_default();
        let store = self.store.read();
        InformerStats {
            objects: store.len(),
            bytes: store.bytes(),
            hot_bytes: store.hot_bytes(),
            relists: self.relists.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            undecodable: self.undecodable.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            left_out: self.share.as_ref().map_or(0, Share::left_out),
            connected,
            lag,
            resource_version,
            own_writes,
        }
    }
}
