//! The watch log: every change since the last compaction, once, and who is interested in it.
//!
//! Events come in from the one writer of an engine, in order of revision, and go out through [`Watch`]es, each with
//! its own cursor. Watches of the same prefix share a *topic*: the list of the prefix's events (pointers into the log)
//! and one wake-up. A write finds the topics of its key by looking up the key's own path prefixes, so that a watcher
//! of another prefix costs it nothing, and no event is ever queued per watcher.
//!
//! What never happens: a watcher holds up a writer, or the log grows because a watcher is slow.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::{Event, StoreError, Watch};

/// The shared log of one store. Engines publish into it, under their own write lock.
#[derive(Debug)]
pub struct WatchLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    /// The newest revision whose event every topic has: stored after the topics were appended to.
    current: AtomicU64,
    closed: AtomicBool,
    reached: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Ascending by revision, everything after `compacted`.
    events: VecDeque<Arc<Event>>,
    compacted: u64,
    /// Weight of `events`, in bytes.
    weight: usize,
    /// Topics whose prefix ends with a slash: found by looking up the prefixes of a key.
    directories: HashMap<Arc<str>, Arc<Topic>>,
    /// Topics of any other prefix: compared one by one.
    others: Vec<Arc<Topic>>,
}

/// The events of one watched prefix.
#[derive(Debug)]
pub(crate) struct Topic {
    prefix: Arc<str>,
    /// Revision of the newest event, for a look without the lock.
    newest: AtomicU64,
    wake: Arc<Notify>,
    events: Mutex<TopicEvents>,
}

#[derive(Debug)]
struct TopicEvents {
    /// Watches alive. The topic goes with the last one.
    watches: usize,
    /// The topic has every event of its prefix after this revision, except for those dropped since.
    since: u64,
    /// Revision of the last event that was dropped by a compaction.
    dropped: u64,
    /// Ascending by revision.
    events: VecDeque<Arc<Event>>,
}

/// What a topic has for a cursor.
pub(crate) enum Fill {
    /// Events were added to the buffer.
    Some,
    /// Nothing yet.
    Nothing,
    /// Events after the cursor were dropped; the oldest revision kept is this.
    Lost(u64),
    /// The log was closed and everything was delivered.
    Closed,
}

/// The watchers a published event concerns. Wake them after releasing the engine's lock, so that a woken watcher does
/// not run into it.
#[must_use = "watchers sleep until they are woken"]
#[derive(Debug)]
pub struct Wake {
    shared: Arc<Shared>,
    topics: Vec<Arc<Topic>>,
}

impl Wake {
    /// Wakes them.
    pub fn wake(self) {
        for topic in &self.topics {
            topic.wake.notify_waiters();
        }
        self.shared.reached.notify_waiters();
    }
}

impl WatchLog {
    /// A log that starts after `revision`: that is the newest revision and nothing before can be watched.
    pub fn new(revision: u64) -> Self {
        let shared = Shared {
            current: AtomicU64::new(revision),
            closed: AtomicBool::new(false),
            reached: Notify::new(),
            inner: Mutex::new(Inner { compacted: revision, ..Inner::default() }),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The newest published revision.
    pub fn current(&self) -> u64 {
        self.shared.current.load(Ordering::Acquire)
    }

    /// Changes after this revision are in the log.
    pub fn compacted(&self) -> u64 {
        self.shared.inner.lock().compacted
    }

    /// Number of events in the log and the memory accounted to them, in bytes.
    pub fn size(&self) -> (usize, usize) {
        let inner = self.shared.inner.lock();
        (inner.events.len(), inner.weight)
    }

    /// Appends an event; its revision must be above all before. The engine calls it under its write lock, so that
    /// events arrive in order.
    pub fn publish(&self, event: Event) -> Wake {
        let event = Arc::new(event);
        let mut topics = Vec::new();
        {
            let mut inner = self.shared.inner.lock();
            debug_assert!(event.revision > self.current(), "events are published in order of revision");
            inner.weight += event.weight();
            inner.events.push_back(Arc::clone(&event));
            inner.each_topic(&event.key, |topic| {
                topic.push(&event);
                topics.push(Arc::clone(topic));
            });
            self.shared.current.store(event.revision, Ordering::Release);
        }
        Wake { shared: Arc::clone(&self.shared), topics }
    }

    /// Starts a watch; see [`crate::Store::watch`].
    pub fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        let topic = {
            let mut inner = self.shared.inner.lock();
            if after < inner.compacted {
                return Err(StoreError::Compacted { revision: inner.compacted });
            }
            inner.join(prefix, after, self.current())
        };
        Ok(Watch::new(Arc::clone(&self.shared), topic, after))
    }

    /// Takes the oldest event off the log if its revision is at most `revision`, so that the engine can forget the
    /// versions it replaced. Called until it gives `None`, it moves the start of the log to `revision`.
    pub fn pop(&self, revision: u64) -> Option<Arc<Event>> {
        let mut inner = self.shared.inner.lock();
        match inner.events.front() {
            Some(oldest) if oldest.revision <= revision => {}
            _ => {
                inner.compacted = inner.compacted.max(revision.min(self.current()));
                return None;
            }
        }
        let oldest = inner.events.pop_front()?;
        inner.weight -= oldest.weight();
        inner.compacted = inner.compacted.max(oldest.revision);
        inner.each_topic(&oldest.key, |topic| topic.drop_through(oldest.revision));
        if inner.events.capacity() > 1024 && inner.events.len() < inner.events.capacity() / 4 {
            let half = inner.events.capacity() / 2;
            inner.events.shrink_to(half);
        }
        Some(oldest)
    }

    /// Resolves when `revision` has been published, or the log was closed.
    pub async fn wait_for(&self, revision: u64) {
        loop {
            let reached = self.shared.reached.notified();
            tokio::pin!(reached);
            reached.as_mut().enable();
            if self.current() >= revision || self.shared.closed.load(Ordering::Acquire) {
                return;
            }
            reached.await;
        }
    }

    /// Ends every watch after what it has still to deliver.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        let inner = self.shared.inner.lock();
        for topic in inner.directories.values().chain(&inner.others) {
            topic.wake.notify_waiters();
        }
        self.shared.reached.notify_waiters();
    }
}

impl Drop for WatchLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Every topic whose prefix `key` starts with.
    fn each_topic(&self, key: &str, mut found: impl FnMut(&Arc<Topic>)) {
        if !self.directories.is_empty() {
            for (slash, _) in key.match_indices('/') {
                if let Some(topic) = self.directories.get(&key[..=slash]) {
                    found(topic);
                }
            }
        }
        for topic in &self.others {
            if key.starts_with(&*topic.prefix) {
                found(topic);
            }
        }
    }

    /// The topic of `prefix`, created if need be, that has every event after `after`.
    fn join(&mut self, prefix: &str, after: u64, current: u64) -> Arc<Topic> {
        let known = if prefix.ends_with('/') {
            self.directories.get(prefix)
        } else {
            self.others.iter().find(|topic| &*topic.prefix == prefix)
        };
        let topic = match known {
            Some(topic) => Arc::clone(topic),
            None => {
                let topic = Arc::new(Topic {
                    prefix: prefix.into(),
                    newest: AtomicU64::new(0),
                    wake: Arc::default(),
                    events: Mutex::new(TopicEvents {
                        watches: 0,
                        since: current,
                        dropped: 0,
                        events: VecDeque::new(),
                    }),
                });
                if prefix.ends_with('/') {
                    self.directories.insert(Arc::clone(&topic.prefix), Arc::clone(&topic));
                } else {
                    self.others.push(Arc::clone(&topic));
                }
                topic
            }
        };
        let mut events = topic.events.lock();
        events.watches += 1;
        if after < events.since {
            let from = self.events.partition_point(|event| event.revision <= after);
            let to = self.events.partition_point(|event| event.revision <= events.since);
            for event in self.events.range(from..to).rev().filter(|event| event.key.starts_with(prefix)) {
                events.events.push_front(Arc::clone(event));
            }
            events.since = after;
            if let Some(newest) = events.events.back() {
                topic.newest.store(newest.revision, Ordering::Release);
            }
        }
        drop(events);
        topic
    }
}

impl Topic {
    fn push(&self, event: &Arc<Event>) {
        self.events.lock().events.push_back(Arc::clone(event));
        self.newest.store(event.revision, Ordering::Release);
    }

    fn drop_through(&self, revision: u64) {
        let mut events = self.events.lock();
        while events.events.front().is_some_and(|oldest| oldest.revision <= revision) {
            if let Some(oldest) = events.events.pop_front() {
                events.dropped = oldest.revision;
            }
        }
        if events.events.capacity() > 64 && events.events.len() < events.events.capacity() / 4 {
            let half = events.events.capacity() / 2;
            events.events.shrink_to(half);
        }
    }

    /// Resolves after the next event that is published from now on, polled already or not.
    pub(crate) fn woken(&self) -> OwnedNotified {
        Arc::clone(&self.wake).notified_owned()
    }

    /// The revision up to which a cursor that has consumed everything until `cursor` is complete, given that the log
    /// stands at `current`.
    pub(crate) fn complete(&self, cursor: u64, current: u64) -> u64 {
        if self.newest.load(Ordering::Acquire) <= cursor {
            return current.max(cursor);
        }
        let events = self.events.lock();
        if events.dropped > cursor {
            return cursor;
        }
        let next = events.events.partition_point(|event| event.revision <= cursor);
        events.events.get(next).map_or(current.max(cursor), |pending| pending.revision - 1)
    }
}

impl Shared {
    pub(crate) fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// Moves up to `at_most` events after `cursor` into `buffer`.
    pub(crate) fn fill(
        &self,
        topic: &Topic,
        cursor: u64,
        buffer: &mut VecDeque<Arc<Event>>,
        at_most: usize,
    ) -> Fill {
        let closed = self.closed.load(Ordering::Acquire);
        if topic.newest.load(Ordering::Acquire) <= cursor {
            return if closed { Fill::Closed } else { Fill::Nothing };
        }
        let lost = {
            let events = topic.events.lock();
            if events.dropped <= cursor {
                let next = events.events.partition_point(|event| event.revision <= cursor);
                let end = events.events.len().min(next + at_most);
                buffer.extend(events.events.range(next..end).cloned());
            }
            events.dropped > cursor
        };
        match (lost, buffer.is_empty()) {
            (true, _) => Fill::Lost(self.inner.lock().compacted),
            (false, false) => Fill::Some,
            (false, true) if closed => Fill::Closed,
            (false, true) => Fill::Nothing,
        }
    }

    /// A watch ends: its topic goes with the last one.
    pub(crate) fn leave(&self, topic: &Arc<Topic>) {
        let mut inner = self.inner.lock();
        let last = {
            let mut events = topic.events.lock();
            events.watches -= 1;
            events.watches == 0
        };
        if !last {
            return;
        }
        if topic.prefix.ends_with('/') {
            inner.directories.remove(&topic.prefix);
        } else {
            inner.others.retain(|other| !Arc::ptr_eq(other, topic));
        }
    }
}
