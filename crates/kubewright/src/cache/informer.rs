//! One kind and scope in the cache: the store, who follows its changes, and which of this process's own
//! writes it has yet to show. The driver applies what the server sent; nothing here does requests.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::cold::Codec;
use super::memory::Budget;
use super::object::{Cached, DecodeError};
use super::select::Select;
use super::store::{Change, Index, Store, Version};
use super::watch::Effect;
use super::{Scope, driver};
use crate::controller::panic_message;
use crate::kind::{Key, Kind};

/// What happened to an object of the cache.
#[derive(Clone, Debug)]
pub struct Delta {
    /// What happened.
    pub what: What,
    /// The object: its new state, or its last one when it was deleted.
    pub object: Arc<Cached>,
    /// The state before, where there was one.
    pub before: Option<Arc<Cached>>,
    /// Whether it was found by a list rather than reported by a watch.
    pub initial: bool,
}

/// The kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The object appeared.
    Added,
    /// The object changed.
    Updated,
    /// The object is gone; possibly found out by a later list.
    Deleted,
}

type Callback = dyn Fn(&Delta) + Send + Sync;

/// A write of this process that the cache has to catch up with.
#[derive(Clone, Debug)]
pub(crate) struct Wrote {
    pub key: Key,
    pub what: Expected,
    /// The object as it was written; none when it is gone.
    pub object: Option<Arc<Cached>>,
}

/// What the cache will show once it has caught up with a write.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// A revision at least this new.
    Version(u64),
    /// No object of this uid.
    Gone(Box<str>),
}

/// Own writes not shown yet, in order; each with its number and the replacement it fell into.
#[derive(Default)]
struct Pending {
    writes: Vec<(Wrote, u64, u64)>,
    last: u64,
}

pub(crate) struct Shared {
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    pub(super) select: Arc<Select>,
    store: RwLock<Store>,
    budget: Arc<Budget>,
    subscribers: Mutex<Vec<(u64, Box<Callback>)>>,
    pending: Mutex<Pending>,
    progress: AtomicU64,
    synced: AtomicBool,
    pub(super) connected: AtomicBool,
    changed: Notify,
    next_subscriber: AtomicU64,
    relists: AtomicU64,
    events: AtomicU64,
    undecodable: AtomicU64,
}

/// A handle on the informer of one kind and scope. Clones share it; it stops with the last of them.
#[derive(Clone)]
pub struct Informer(pub(crate) Arc<Running>);

pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    task: tokio::task::AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.changed(self.store.get_mut().hot_bytes(), 0);
    }
}

/// Keeps a subscription; dropping it ends it.
pub struct Subscription {
    id: u64,
    informer: Informer,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.informer.0.shared.subscribers.lock().retain(|(id, _)| *id != self.id);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription to {:?}", self.informer)
    }
}

impl fmt::Debug for Informer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Informer({} in {})", self.0.shared.kind, self.0.shared.scope)
    }
}

impl Informer {
    pub(super) fn start(client: kube::Client, shared: Shared) -> Informer {
        let shared = Arc::new(shared);
        let task = tokio::spawn(driver::run(Arc::clone(&shared), client)).abort_handle();
        Informer(Arc::new(Running { shared, task }))
    }

    /// The kind.
    pub fn kind(&self) -> &Kind {
        &self.0.shared.kind
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.0.shared.synced.load(Ordering::Acquire)
    }

    /// Whether the watch is open at this moment.
    pub fn is_connected(&self) -> bool {
        self.0.shared.connected.load(Ordering::Relaxed)
    }

    /// Whether its task is alive. It always should be.
    pub fn is_running(&self) -> bool {
        !self.0.task.is_finished()
    }

    /// Waits until the first list is complete; for ever, if the kind is never served.
    pub async fn synced(&self) {
        let shared = &self.0.shared;
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_synced() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the cache shows this process's own writes (to one key, or to any) and is synced.
    /// `false` when it doesn't within the limit.
    pub async fn caught_up(&self, key: Option<&Key>, limit: Duration) -> bool {
        let shared = &self.0.shared;
        // Only what was written before this read began: later writes must not hold it up for ever.
        let up_to = {
            let pending = shared.pending.lock();
            if pending.writes.is_empty() && self.is_synced() {
                return true;
            }
            pending.last
        };
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_synced() && !shared.is_behind(key, up_to) {
                return true;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    /// The object of a key, as cached now.
    pub fn get(&self, key: &Key) -> Option<Arc<Cached>> {
        self.0.shared.store.read().get(key)
    }

    /// Reads the store under its lock; keep it short, as events wait meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.0.shared.store.read())
    }

    /// Adds an index, once.
    pub fn add_index(&self, index: Index) {
        self.0.shared.store.write().add_index(index);
    }

    /// Calls a function for every object there is (as added and initial) and for every event from now on,
    /// in order, with none left out between. The function runs on the informer's task: it must be quick and
    /// must not subscribe to the same informer.
    pub fn subscribe(&self, callback: impl Fn(&Delta) + Send + Sync + 'static) -> Subscription {
        let shared = &self.0.shared;
        let id = shared.next_subscriber.fetch_add(1, Ordering::Relaxed);
        let mut subscribers = shared.subscribers.lock();
        let objects: Vec<Arc<Cached>> = shared.store.read().iter().collect();
        for object in objects {
            tell(&callback, &Delta { what: What::Added, object, before: None, initial: true });
        }
        subscribers.push((id, Box::new(callback)));
        Subscription { id, informer: self.clone() }
    }

    /// Objects, bytes of JSON, relists, events and undecodable objects so far.
    pub fn stats(&self) -> InformerStats {
        let shared = &self.0.shared;
        let store = shared.store.read();
        InformerStats {
            objects: store.len(),
            bytes: store.bytes(),
            hot_bytes: store.hot_bytes(),
            relists: shared.relists.load(Ordering::Relaxed),
            events: shared.events.load(Ordering::Relaxed),
            undecodable: shared.undecodable.load(Ordering::Relaxed),
            connected: self.is_connected(),
        }
    }
}

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
    /// Whether the watch is open: while it is not, the cache grows stale.
    pub connected: bool,
}

impl Shared {
    pub(crate) fn new(kind: Kind, scope: Scope, select: Arc<Select>, budget: Arc<Budget>) -> Shared {
        Shared {
            kind,
            scope,
            select,
            store: RwLock::new(Store::with_decoded(Arc::clone(&budget.decoded))),
            budget,
            subscribers: Mutex::default(),
            pending: Mutex::default(),
            progress: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            changed: Notify::new(),
            next_subscriber: AtomicU64::new(0),
            relists: AtomicU64::new(0),
            events: AtomicU64::new(0),
            undecodable: AtomicU64::new(0),
        }
    }

    /// Remembers a write that reads have to wait for.
    pub(crate) fn wrote(&self, mut wrote: Wrote) {
        let (round, held) = {
            let store = self.store.read();
            (store.round(), store.version(&wrote.key).is_some())
        };
        // What is not followed never shows up, or goes once the cache has caught up.
        match wrote.object.take() {
            Some(object) if !self.select.takes(&object) => {
                if !held {
                    return;
                }
                wrote.what = Expected::Gone(object.uid().into());
            }
            // Nobody can say whether it is followed.
            None if !held && !self.select.is_all() => return,
            _ => {}
        }
        // A write that is shown already still counts while an earlier one to the same key does not:
        // an object created and deleted at once would appear in between.
        let mut pending = self.pending.lock();
        if pending.writes.iter().any(|(earlier, _, _)| earlier.key == wrote.key) || !self.shows(&wrote) {
            pending.last += 1;
            let number = pending.last;
            pending.writes.push((wrote, number, round));
        }
    }

    /// Whether a write up to this number (to one key, or to any) is not shown yet.
    fn is_behind(&self, key: Option<&Key>, up_to: u64) -> bool {
        let mut pending = self.pending.lock();
        let mut unseen = std::collections::HashSet::new();
        pending.writes.retain(|(wrote, _, _)| {
            let keep = unseen.contains(&wrote.key) || !self.shows(wrote);
            if keep {
                unseen.insert(wrote.key.clone());
            }
            keep
        });
        pending
            .writes
            .iter()
            .any(|(wrote, number, _)| *number <= up_to && key.is_none_or(|key| *key == wrote.key))
    }

    fn shows(&self, wrote: &Wrote) -> bool {
        let store = self.store.read();
        let cached = store.version(&wrote.key);
        match &wrote.what {
            Expected::Version(version) => {
                self.progress.load(Ordering::Acquire) >= *version
                    || cached.is_some_and(|cached| cached.resource_version >= *version)
            }
            Expected::Gone(uid) => cached.is_none_or(|cached| !cached.is_of(uid)),
        }
    }

    pub(super) fn begin_replace(&self) {
        self.relists.fetch_add(1, Ordering::Relaxed);
        self.store.write().begin_replace();
        // Until the list is complete nothing is known to be seen; revisions may even start over.
        self.progress.store(0, Ordering::Release);
    }

    /// Applies what frames mean and tells the subscribers, in order.
    pub(crate) fn apply(&self, batch: Vec<(Effect, Option<Cached>)>) {
        let subscribers = self.subscribers.lock();
        let mut events = Vec::with_capacity(batch.len());
        let mut progress = self.progress.load(Ordering::Relaxed);
        let mut synced_round = None;
        {
            let mut store = self.store.write();
            let hot = store.hot_bytes();
            store.keep_thawed();
            for (effect, object) in batch {
                match (effect, object) {
                    (Effect::Put { initial }, Some(object)) => {
                        if !initial {
                            progress = progress.max(object.resource_version());
                        }
                        let (object, change) = store.put(object);
                        let (what, before) = match change {
                            Change::Added => (What::Added, None),
                            Change::Updated(before) => (What::Updated, Some(before)),
                            Change::Same => continue,
                        };
                        push_replacement(&mut events, what, object, before, initial);
                    }
                    (Effect::Delete, Some(object)) => {
                        progress = progress.max(object.resource_version());
                        let before = store.remove(object.key());
                        events.push(Delta {
                            what: What::Deleted,
                            object: Arc::new(object),
                            before,
                            initial: false,
                        });
                    }
                    (Effect::Reached(version), _) => progress = progress.max(version),
                    (Effect::Synced(version), _) => {
                        for object in store.finish_replace() {
                            events.push(Delta { what: What::Deleted, object, before: None, initial: false });
                        }
                        // A list is the truth even when its revision is lower: the server was reset.
                        progress = version;
                        synced_round = Some(store.round());
                    }
                    _ => {}
                }
            }
            self.budget.changed(hot, store.hot_bytes());
        }
        self.make_room();
        self.progress.store(progress, Ordering::Release);
        if let Some(round) = synced_round {
            // A consistent list includes every write that ended before it began.
            self.pending.lock().writes.retain(|(_, _, written)| *written >= round);
            self.synced.store(true, Ordering::Release);
        }
        self.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        for event in &events {
            for (_, callback) in subscribers.iter() {
                tell(&**callback, event);
            }
        }
        drop(subscribers);
        self.changed.notify_waiters();
    }

    /// Compresses what was read least recently, if the caches together hold too much.
    fn make_room(&self) {
        if self.budget.excess() == 0 {
            return;
        }
        // Learning takes long; readers go on meanwhile.
        let examples = {
            let store = self.store.read();
            store.examples().map(|examples| (examples, store.len()))
        };
        let codec = examples.map(|(examples, len)| Codec::learn(&examples, len));
        let mut store = self.store.write();
        match codec {
            Some(Ok(codec)) => store.compress_with(codec),
            Some(Err(error)) => tracing::warn!(kind = %self.kind, %error, "objects can't be compressed"),
            None => {}
        }
        let hot = store.hot_bytes();
        store.freeze(self.budget.excess());
        self.budget.changed(hot, store.hot_bytes());
    }

    /// The object as this cache keeps it; one that can't be kept is noted.
    pub(super) fn keep(&self, object: Cached) -> Option<Cached> {
        self.select.keep(object, &self.kind).map_err(|error| self.note_undecodable(&error)).ok()
    }

    /// Whether an object of the server is newer than a revision, or cached as it is.
    pub(super) fn knows(&self, object: &Cached, from: u64) -> bool {
        object.resource_version() > from
            || self.store.read().version(object.key()) == Some(Version::of(object))
    }

    pub(super) fn note_undecodable(&self, error: &DecodeError) {
        self.undecodable.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "an object can't be read and is left out of the cache");
    }
}

/// A subscriber's panic is its own affair: the others and the cache go on.
fn tell(callback: &Callback, delta: &Delta) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(delta))) {
        let message = panic_message(&*panic);
        tracing::error!(object = %delta.object.key(), message, "a subscriber of the cache panicked");
    }
}

/// An object that came back under its name with another uid was deleted in between: say both.
fn push_replacement(
    events: &mut Vec<Delta>,
    what: What,
    object: Arc<Cached>,
    before: Option<Arc<Cached>>,
    initial: bool,
) {
    match before {
        Some(gone) if gone.uid() != object.uid() => {
            events.push(Delta { what: What::Deleted, object: gone, before: None, initial: false });
            events.push(Delta { what: What::Added, object, before: None, initial });
        }
        before => events.push(Delta { what, object, before, initial }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::cache::Memory;

    fn shared() -> Shared {
        selecting(Select::all())
    }

    fn selecting(select: Select) -> Shared {
        let budget = Arc::new(Budget::new(Memory::default()));
        Shared::new(Kind::of::<Pod>(), Scope::All, Arc::new(select), budget)
    }

    fn pod(name: &str, uid: &str, version: u64) -> Option<Cached> {
        let text =
            format!(r#"{{"metadata":{{"name":"{name}","uid":"{uid}","resourceVersion":"{version}"}}}}"#);
        Some(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
    }

    fn wrote(name: &str, what: Expected) -> Wrote {
        Wrote { key: name.into(), what, object: None }
    }

    #[test]
    fn a_read_waits_for_the_version_that_was_written() {
        let shared = shared();
        shared.begin_replace();
        shared.apply(vec![(Effect::Synced(10), None)]);
        shared.wrote(wrote("a", Expected::Version(12)));
        assert!(shared.is_behind(None, u64::MAX) && shared.is_behind(Some(&"a".into()), u64::MAX));
        assert!(!shared.is_behind(Some(&"b".into()), u64::MAX));
        shared.apply(vec![(Effect::Put { initial: false }, pod("z", "z", 11))]);
        assert!(shared.is_behind(None, u64::MAX));
        shared.apply(vec![(Effect::Put { initial: false }, pod("a", "u", 12))]);
        assert!(!shared.is_behind(None, u64::MAX));
    }

    #[test]
    fn a_read_does_not_wait_for_writes_made_after_it_began() {
        let shared = shared();
        shared.begin_replace();
        shared.apply(vec![(Effect::Synced(10), None)]);
        shared.wrote(wrote("a", Expected::Version(11)));
        let began = shared.pending.lock().last;
        shared.wrote(wrote("b", Expected::Version(12)));
        assert!(shared.is_behind(None, began));
        shared.apply(vec![(Effect::Reached(11), None)]);
        assert!(!shared.is_behind(None, began) && shared.is_behind(None, u64::MAX));
    }

    #[test]
    fn a_read_waits_until_a_deleted_object_is_gone() {
        let shared = shared();
        shared.begin_replace();
        shared.apply(vec![(Effect::Put { initial: true }, pod("a", "u", 5)), (Effect::Synced(10), None)]);
        shared.wrote(wrote("a", Expected::Gone("u".into())));
        assert!(shared.is_behind(Some(&"a".into()), u64::MAX));
        shared.apply(vec![(Effect::Delete, pod("a", "u", 11))]);
        assert!(!shared.is_behind(None, u64::MAX));
    }

    #[test]
    fn an_object_created_and_deleted_at_once_does_not_appear_in_between() {
        let shared = shared();
        shared.begin_replace();
        shared.apply(vec![(Effect::Synced(10), None)]);
        shared.wrote(wrote("a", Expected::Version(11)));
        shared.wrote(wrote("a", Expected::Gone("u".into())));
        shared.apply(vec![(Effect::Put { initial: false }, pod("a", "u", 11))]);
        assert!(shared.is_behind(None, u64::MAX));
        shared.apply(vec![(Effect::Delete, pod("a", "u", 12))]);
        assert!(!shared.is_behind(None, u64::MAX));
    }

    #[test]
    fn a_read_does_not_wait_for_what_is_not_followed() {
        let shared = selecting(Select::all().labels("app=a").unwrap());
        shared.begin_replace();
        shared.apply(vec![(Effect::Put { initial: true }, pod("a", "u", 5)), (Effect::Synced(10), None)]);
        let unlabelled = |name: &str, version| Wrote {
            key: name.into(),
            what: Expected::Version(version),
            object: pod(name, "u", version).map(Arc::new),
        };
        shared.wrote(unlabelled("b", 11));
        assert!(!shared.is_behind(None, u64::MAX));
        // One that is no longer followed goes.
        shared.wrote(unlabelled("a", 12));
        assert!(shared.is_behind(None, u64::MAX));
        shared.apply(vec![(Effect::Delete, pod("a", "u", 12))]);
        assert!(!shared.is_behind(None, u64::MAX));
    }

    #[test]
    fn writes_before_a_relist_are_covered_by_it_even_when_revisions_start_over() {
        let shared = shared();
        shared.begin_replace();
        shared.apply(vec![(Effect::Synced(500), None)]);
        shared.wrote(wrote("a", Expected::Version(900)));
        shared.begin_replace();
        shared.wrote(wrote("b", Expected::Version(4)));
        shared.apply(vec![(Effect::Synced(3), None)]);
        assert!(!shared.is_behind(Some(&"a".into()), u64::MAX));
        assert!(shared.is_behind(Some(&"b".into()), u64::MAX));
        shared.apply(vec![(Effect::Reached(4), None)]);
        assert!(!shared.is_behind(None, u64::MAX));
    }

    #[test]
    fn an_object_recreated_unseen_is_reported_as_deleted_and_added() {
        let shared = Arc::new(shared());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        shared.subscribers.lock().push((
            0,
            Box::new(move |event: &Delta| record.lock().push((event.what, event.object.uid().to_owned()))),
        ));
        shared.begin_replace();
        shared.apply(vec![(Effect::Put { initial: true }, pod("a", "old", 5)), (Effect::Synced(10), None)]);
        shared.begin_replace();
        shared.apply(vec![(Effect::Put { initial: true }, pod("a", "new", 20)), (Effect::Synced(21), None)]);
        let seen = seen.lock();
        assert_eq!(
            *seen,
            [(What::Added, "old".into()), (What::Deleted, "old".into()), (What::Added, "new".into())]
        );
    }
}
