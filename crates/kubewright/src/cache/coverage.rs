//! What an informer follows, as it changes: parts of its scope that are joined and left, a share that moves, a kind that
//! is served no more; and what subscribers, reads and readiness are to make of it. Nothing here does requests.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::informer::{Delta, Shared, What, tell};
use super::part::Part;
use super::share::Share;
use crate::client::NotServed;
use crate::kind::Key;
use crate::sharding::Slots;

impl Shared {
    pub(super) fn part_of(&self, key: &Key) -> Option<Arc<Part>> {
        self.parts.read().iter().find(|part| part.holds(key)).cloned()
    }

    /// Whether the first list of a key's part, or of all, is complete.
    pub(super) fn is_settled(&self, key: Option<&Key>) -> bool {
        self.settled.load(Ordering::Acquire)
            || key.is_some_and(|key| self.part_of(key).is_some_and(|part| part.is_synced()))
    }

    /// Begins to follow everything, or one namespace more.
    pub(super) fn join(&self, namespace: Option<&str>) -> Arc<Part> {
        let part = Arc::new(Part::new(namespace, Instant::now()));
        self.parts.write().push(Arc::clone(&part));
        part
    }

    /// Follows a namespace no more: its objects go without being told as deleted, for they are not.
    pub(super) fn leave(&self, namespace: &str) {
        // Nobody subscribes halfway.
        let subscribers = self.subscribers.lock();
        self.parts.write().retain(|part| part.namespace.as_deref() != Some(namespace));
        {
            let mut store = self.store.write();
            let hot = store.hot_bytes();
            store.clear(Some(namespace));
            self.budget.changed(hot, store.hot_bytes());
        }
        self.pending.lock().writes.retain(|(wrote, _, _)| wrote.key.namespace() != Some(namespace));
        drop(subscribers);
        self.tell_leavers(&|key| key.namespace() == Some(namespace));
        self.settle();
    }

    fn tell_leavers(&self, left: &dyn Fn(&Key) -> bool) {
        self.leavers.lock().iter().for_each(|(_, leaver)| leaver(left));
    }

    /// Follows these slots from now on: objects of others go without being told as deleted. What is followed is to be
    /// listed anew.
    pub(super) fn turn_to(&self, share: &Share, slots: Slots) {
        let subscribers = self.subscribers.lock();
        self.parts.write().clear();
        share.set_slots(slots);
        let left: HashSet<Key> = {
            let mut store = self.store.write();
            let hot = store.hot_bytes();
            let others = store.iter().filter(|object| !share.takes(object));
            let left: HashSet<Key> = others.map(|object| object.key().clone()).collect();
            left.iter().for_each(|key| drop(store.remove(key)));
            self.budget.changed(hot, store.hot_bytes());
            left
        };
        // The list that follows shows what was written before it, and nobody reads until then.
        self.pending.lock().writes.clear();
        drop(subscribers);
        self.tell_leavers(&|key| left.contains(key));
    }

    /// Works out whether everything that is followed has been listed, once a part was, or which parts there are
    /// changed.
    pub(super) fn settle(&self) {
        let parts = self.parts.read();
        let settled = parts.iter().all(|part| part.is_synced());
        let missing = parts.iter().any(|part| part.missing().is_some());
        drop(parts);
        self.settled.store(settled, Ordering::Release);
        if settled || missing {
            self.synced.store(settled, Ordering::Release);
        }
        self.changed.notify_waiters();
    }

    /// The server serves the kind no more, or not yet: whatever there was of it is gone.
    pub(super) fn not_served(&self, part: &Part, why: NotServed) {
        part.set_missing(Some(why));
        part.set_synced(false);
        self.settle();
        let subscribers = self.subscribers.lock();
        let gone = {
            let mut store = self.store.write();
            let hot = store.hot_bytes();
            let gone = store.clear(part.namespace.as_deref());
            self.budget.changed(hot, store.hot_bytes());
            gone
        };
        self.pending.lock().writes.retain(|(wrote, _, _)| !part.holds(&wrote.key));
        for object in gone {
            let delta = Delta { what: What::Deleted, object, before: None, initial: false };
            subscribers.iter().for_each(|(_, callback)| tell(&**callback, &delta));
        }
        drop(subscribers);
        // Whoever waits for the kind is told what is missing.
        self.changed.notify_waiters();
    }
}
