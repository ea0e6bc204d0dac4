//! What the queue knows of a key: whether it is ready, running or waiting, and why it is there. Nothing here decides
//! what comes next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::Priority;

/// Reasons kept an item; more are only counted.
const REASONS: usize = 8;

/// Why an item is in the queue: the first few reasons, and how many there were.
#[derive(Clone, Debug)]
pub struct Reasons<R> {
    /// Most items have one.
    first: SmallVec<[R; 1]>,
    count: u64,
}

impl<R> Default for Reasons<R> {
    fn default() -> Self {
        Reasons { first: SmallVec::new(), count: 0 }
    }
}

impl<R: PartialEq> Reasons<R> {
    pub(super) fn add(&mut self, reason: R) {
        self.count += 1;
        if self.first.len() < REASONS && !self.first.contains(&reason) {
            self.first.push(reason);
        }
    }
}

impl<R> Reasons<R> {
    /// The first distinct reasons, at most 8.
    pub fn first(&self) -> &[R] {
        &self.first
    }

    /// How many there were in all, repeated ones included.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// An item handed to a worker.
#[derive(Clone, Debug)]
pub struct Taken<K, R> {
    /// What to reconcile.
    pub key: K,
    /// Why.
    pub reasons: Reasons<R>,
    /// How urgent it was.
    pub priority: Priority,
    /// Failures in a row before this attempt.
    pub failures: u32,
    /// How long it waited since it became ready.
    pub waited: Duration,
}

/// How a worker's attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; failures are forgotten.
    Done,
    /// Done, and to be run again.
    After {
        /// When.
        delay: Duration,
        /// How urgent it is then; as it was when there is none.
        priority: Option<Priority>,
    },
    /// Failed: to be run again after its backoff, as urgent as it was.
    Failed,
    /// Failed in a way that trying again can't repair.
    GaveUp,
    /// Not this queue's concern: as if it had never been handed out.
    Declined,
}

#[derive(Debug)]
pub(super) enum State {
    /// Between two states, within one call.
    Idle,
    Ready {
        ticket: u64,
        priority: Priority,
        since: Instant,
    },
    Running {
        ticket: u64,
        priority: Priority,
        /// Wanted again meanwhile, and how urgently.
        again: Option<Priority>,
    },
    Waiting {
        at: Instant,
        ticket: u64,
        priority: Priority,
    },
}

#[derive(Debug)]
pub(super) struct Item<R> {
    pub(super) state: State,
    pub(super) failures: u32,
    pub(super) reasons: Reasons<R>,
    /// Whose it is, where turns go by tenant.
    pub(super) tenant: Option<Arc<str>>,
}

impl<R> Item<R> {
    pub(super) fn new(tenant: Option<Arc<str>>) -> Item<R> {
        Item { state: State::Idle, failures: 0, reasons: Reasons::default(), tenant }
    }

    /// Whether this ticket is the one it is ready under.
    pub(super) fn is_ready_under(&self, of: u64) -> bool {
        matches!(self.state, State::Ready { ticket, .. } if ticket == of)
    }
}
