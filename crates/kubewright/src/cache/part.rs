//! What one watch of an informer feeds, and how far it has come: everything the informer follows, or one namespace of
//! several.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::client::NotServed;
use crate::kind::Key;

/// A part of an informer's scope, with a watch of its own.
#[derive(Debug)]
pub(super) struct Part {
    /// The namespace of the watch; none for all.
    pub(super) namespace: Option<String>,
    /// The last revision seen.
    progress: AtomicU64,
    synced: AtomicBool,
    connected: AtomicBool,
    missing: Mutex<Option<NotServed>>,
    /// The replacement of the store that this part began last.
    round: AtomicU32,
    /// When the server last said anything; at first, when the part began.
    heard: Mutex<Instant>,
    /// Told of each list that is complete.
    listed: Notify,
}

impl Part {
    pub(super) fn new(namespace: Option<&str>, now: Instant) -> Part {
        Part {
            namespace: namespace.map(str::to_owned),
            progress: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            missing: Mutex::new(None),
            round: AtomicU32::new(0),
            heard: Mutex::new(now),
            listed: Notify::new(),
        }
    }

    pub(super) fn holds(&self, key: &Key) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| key.namespace() == Some(namespace))
    }

    pub(super) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Acquire)
    }

    pub(super) fn set_progress(&self, progress: u64) {
        self.progress.store(progress, Ordering::Release);
    }

    /// Whether its first list is complete, since the kind is served.
    pub(super) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn set_synced(&self, synced: bool) {
        self.synced.store(synced, Ordering::Release);
    }

    /// Told of each list that is complete.
    pub(super) fn listed(&self) -> &Notify {
        &self.listed
    }

    /// Whether its watch is open.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// How long the server has said nothing.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.heard.lock())
    }

    /// The server said something.
    pub(super) fn heard(&self, now: Instant) {
        *self.heard.lock() = now;
    }

    /// What is missing, where the server does not serve the kind.
    pub(super) fn missing(&self) -> Option<NotServed> {
        self.missing.lock().clone()
    }

    pub(super) fn set_missing(&self, missing: Option<NotServed>) {
        *self.missing.lock() = missing;
    }

    pub(super) fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }

    pub(super) fn set_round(&self, round: u32) {
        self.round.store(round, Ordering::Relaxed);
    }
}
