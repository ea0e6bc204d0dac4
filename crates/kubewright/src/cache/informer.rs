//! One kind and scope in the cache: the store, who follows its changes, and which of this process's own
//! writes it has yet to show. The driver applies what the server sent; nothing here does requests.

use std::collections::HashSet;
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
use super::part::Part;
use super::select::Select;
use super::share::Share;
use super::store::{Change, Index, Store, Version};
use super::watch::Effect;
use super::{Scope, driver};
use crate::client::NotServed;
use crate::controller::panic_message;
use crate::kind::{Key, Kind};
use crate::sharding::Slots;

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
/// Is told which keys are followed no more.
type Leaver = dyn Fn(&dyn Fn(&Key) -> bool) + Send + Sync;

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
    /// The replica's share, where no more than that is followed.
    pub(super) share: Option<Share>,
    store: RwLock<Store>,
    budget: Arc<Budget>,
    subscribers: Mutex<Vec<(u64, Box<Callback>)>>,
    /// Told of what is followed no more.
    leavers: Mutex<Vec<(u64, Box<Leaver>)>>,
    pending: Mutex<Pending>,
    parts: RwLock<Vec<Arc<Part>>>,
    /// The first lists of all parts were complete at some time, and the kind is served.
    synced: AtomicBool,
    /// The first list of every part is complete now.
    settled: AtomicBool,
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
        self.informer.0.shared.leavers.lock().retain(|(id, _)| *id != self.id);
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
    pub(super) fn start(server: driver::Server, shared: Shared) -> Informer {
        let shared = Arc::new(shared);
        let task = tokio::spawn(driver::run(Arc::clone(&shared), server)).abort_handle();
        Informer(Arc::new(Running { shared, task }))
    }

    /// The kind.
    pub fn kind(&self) -> &Kind {
        &self.0.shared.kind
    }

    /// Whether the first list is complete, and the kind still served. A namespace that is followed later changes
    /// nothing of it.
    pub fn is_synced(&self) -> bool {
        self.0.shared.synced.load(Ordering::Acquire)
    }

    /// Whether the watch is open at this moment, in every namespace.
    pub fn is_connected(&self) -> bool {
        self.0.shared.parts.read().iter().all(|part| part.is_connected())
    }

    /// What is missing, where the server does not serve the kind: its definition may not be installed. The informer
    /// waits for it.
    pub fn missing(&self) -> Option<NotServed> {
        if self.is_synced() {
            return None;
        }
        self.0.shared.parts.read().iter().find_map(|part| part.missing())
    }

    /// Which objects it follows.
    pub fn scope(&self) -> &Scope {
        &self.0.shared.scope
    }

    /// Whether it follows the place where an object of this key is, or would be.
    pub fn follows(&self, key: &Key) -> bool {
        self.0.shared.scope.includes(key)
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
            if pending.writes.is_empty() && shared.settled.load(Ordering::Acquire) {
                return true;
            }
            pending.last
        };
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if shared.is_settled(key) && !shared.is_behind(key, up_to) {
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

    /// Whether it follows no more than this replica's share.
    pub(crate) fn is_share(&self) -> bool {
        self.0.shared.share.is_some()
    }

    /// Calls a function whenever a namespace or a share is followed no more, after its objects have left the cache,
    /// with a way to tell the keys of those.
    pub(crate) fn on_leave(
        &self,
        leaver: impl Fn(&dyn Fn(&Key) -> bool) + Send + Sync + 'static,
    ) -> Subscription {
        let id = self.0.shared.next_subscriber.fetch_add(1, Ordering::Relaxed);
        self.0.shared.leavers.lock().push((id, Box::new(leaver)));
        Subscription { id, informer: self.clone() }
    }

    /// Calls a function for every event from now on, for as long as the informer runs. For an informer that has just
    /// started.
    pub(super) fn tell(&self, callback: impl Fn(&Delta) + Send + Sync + 'static) {
        let shared = &self.0.shared;
        let id = shared.next_subscriber.fetch_add(1, Ordering::Relaxed);
        shared.subscribers.lock().push((id, Box::new(callback)));
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
            left_out: shared.share.as_ref().map_or(0, Share::left_out),
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
    /// Objects of other replicas' shares that the server sent all the same.
    pub left_out: u64,
    /// Whether the watch is open: while it is not, the cache grows stale.
    pub connected: bool,
}

impl Shared {
    pub(super) fn new(
        kind: Kind,
        scope: Scope,
        select: Arc<Select>,
        share: Option<Share>,
        budget: Arc<Budget>,
    ) -> Shared {
        Shared {
            share,
            kind,
            scope,
            select,
            store: RwLock::new(Store::with_decoded(Arc::clone(&budget.decoded))),
            budget,
            subscribers: Mutex::default(),
            leavers: Mutex::default(),
            pending: Mutex::default(),
            parts: RwLock::default(),
            synced: AtomicBool::new(false),
            settled: AtomicBool::new(false),
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
            Some(object) if !self.takes(&object) => {
                if !held {
                    return;
                }
                wrote.what = Expected::Gone(object.uid().into());
            }
            // Nobody can say whether it is followed.
            None if !(held || self.select.is_all() && self.share.is_none()) => return,
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
                self.part_of(&wrote.key).is_some_and(|part| part.progress() >= *version)
                    || cached.is_some_and(|cached| cached.resource_version >= *version)
            }
            Expected::Gone(uid) => cached.is_none_or(|cached| !cached.is_of(uid)),
        }
    }

    /// Whether an object is followed.
    fn takes(&self, object: &Cached) -> bool {
        self.select.takes(object) && self.share.as_ref().is_none_or(|share| share.takes(object))
    }

    fn part_of(&self, key: &Key) -> Option<Arc<Part>> {
        self.parts.read().iter().find(|part| part.holds(key)).cloned()
    }

    /// Whether the first list of a key's part, or of all, is complete.
    fn is_settled(&self, key: Option<&Key>) -> bool {
        self.settled.load(Ordering::Acquire)
            || key.is_some_and(|key| self.part_of(key).is_some_and(|part| part.is_synced()))
    }

    /// Begins to follow everything, or one namespace more.
    pub(super) fn join(&self, namespace: Option<&str>) -> Arc<Part> {
        let part = Arc::new(Part::new(namespace));
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
    }

    pub(super) fn begin_replace(&self, part: &Part) {
        self.relists.fetch_add(1, Ordering::Relaxed);
        part.set_round(self.store.write().begin_replace());
        // Until the list is complete nothing is known to be seen; revisions may even start over.
        part.set_progress(0);
    }

    /// Applies what frames of a part's watch mean and tells the subscribers, in order.
    pub(super) fn apply(&self, part: &Part, batch: Vec<(Effect, Option<Cached>)>) {
        let subscribers = self.subscribers.lock();
        let mut events = Vec::with_capacity(batch.len());
        let mut progress = part.progress();
        let mut synced = false;
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
                        for object in store.finish_replace(part.round(), part.namespace.as_deref()) {
                            events.push(Delta { what: What::Deleted, object, before: None, initial: false });
                        }
                        // A list is the truth even when its revision is lower: the server was reset.
                        progress = version;
                        synced = true;
                    }
                    _ => {}
                }
            }
            self.budget.changed(hot, store.hot_bytes());
        }
        self.make_room();
        part.set_progress(progress);
        if synced {
            // A consistent list includes every write that ended before it began.
            let round = u64::from(part.round());
            let mut pending = self.pending.lock();
            pending.writes.retain(|(wrote, _, written)| *written >= round || !part.holds(&wrote.key));
            drop(pending);
            part.set_missing(None);
            part.set_synced(true);
            part.listed().notify_waiters();
            self.settle();
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
        if let Some(share) = self.share.as_ref().filter(|share| !share.takes(&object)) {
            if share.leave_out() {
                tracing::info!(kind = %self.kind, "the server does not select by shard; it is done here");
            }
            return None;
        }
        self.select.keep(object, &self.kind).map_err(|error| self.note_undecodable(&error)).ok()
    }

    /// Whether an object of the server is newer than a revision, or cached as it is.
    pub(super) fn knows(&self, object: &Cached, from: u64) -> bool {
        object.resource_version() > from
            || !self.takes(object)
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
    use crate::client::Missing;

    /// An informer of everything, and what its watch feeds.
    struct Fed(Shared, Arc<Part>);

    impl std::ops::Deref for Fed {
        type Target = Shared;

        fn deref(&self) -> &Shared {
            &self.0
        }
    }

    impl Fed {
        fn begin_replace(&self) {
            self.0.begin_replace(&self.1);
        }

        fn apply(&self, batch: Vec<(Effect, Option<Cached>)>) {
            self.0.apply(&self.1, batch);
        }
    }

    fn shared() -> Fed {
        selecting(Select::all())
    }

    fn selecting(select: Select) -> Fed {
        let budget = Arc::new(Budget::new(Memory::default()));
        let shared = Shared::new(Kind::of::<Pod>(), Scope::All, Arc::new(select), None, budget);
        let part = shared.join(None);
        Fed(shared, part)
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
        let shared = shared();
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

    fn in_namespace(namespace: &str, name: &str, version: u64) -> Option<Cached> {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{name}","resourceVersion":"{version}"}}}}"#
        );
        Some(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
    }

    #[test]
    fn namespaces_come_and_go_without_a_word_about_deletion() {
        let Fed(shared, whole) = shared();
        shared.parts.write().clear();
        drop(whole);
        let (one, two) = (shared.join(Some("one")), shared.join(Some("two")));
        let (seen, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let (record, count) = (Arc::clone(&seen), Arc::clone(&left));
        let callback = move |event: &Delta| record.lock().push((event.what, event.object.key().to_string()));
        shared.subscribers.lock().push((0, Box::new(callback)));
        shared.leavers.lock().push((
            0,
            Box::new(move |left: &dyn Fn(&Key) -> bool| {
                assert!(left(&("two", "q").into()) && !left(&("one", "p").into()));
                count.fetch_add(1, Ordering::Relaxed);
            }),
        ));
        shared.begin_replace(&one);
        shared.begin_replace(&two);
        let put = |namespace, version| (Effect::Put { initial: true }, in_namespace(namespace, "p", version));
        shared.apply(&one, vec![put("one", 3), (Effect::Synced(5), None)]);
        assert!(!shared.is_settled(None) && shared.is_settled(Some(&("one", "p").into())));
        shared.apply(&two, vec![put("two", 4), (Effect::Synced(5), None)]);
        assert!(shared.is_settled(None) && shared.synced.load(Ordering::Relaxed));
        // Each namespace's watch is as far as it is, and so are the writes that reads wait for.
        shared.wrote(Wrote { key: ("two", "q").into(), what: Expected::Version(9), object: None });
        shared.apply(&one, vec![(Effect::Reached(20), None)]);
        assert!(shared.is_behind(None, u64::MAX));
        shared.leave("two");
        assert!(!shared.is_behind(None, u64::MAX));
        assert_eq!(shared.store.read().len(), 1);
        // One that is followed later is not read before it is listed, and the rest is.
        let three = shared.join(Some("three"));
        shared.settle();
        assert!(
            !shared.is_settled(Some(&("three", "p").into())) && shared.is_settled(Some(&("one", "p").into()))
        );
        assert!(shared.synced.load(Ordering::Relaxed), "the process stays ready");
        shared.begin_replace(&three);
        shared.apply(&three, vec![(Effect::Synced(21), None)]);
        assert!(shared.is_settled(None));
        let told = [(What::Added, "one/p".to_owned()), (What::Added, "two/p".to_owned())];
        assert_eq!((&*seen.lock(), left.load(Ordering::Relaxed)), (&told.to_vec(), 1));
    }

    #[test]
    fn what_is_served_no_more_is_gone() {
        let shared = shared();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let callback = move |event: &Delta| record.lock().push((event.what, event.object.key().to_string()));
        shared.subscribers.lock().push((0, Box::new(callback)));
        shared.begin_replace();
        shared.apply(vec![(Effect::Put { initial: true }, pod("a", "u", 5)), (Effect::Synced(10), None)]);
        shared.wrote(wrote("b", Expected::Version(12)));
        let missing = Missing::Group("example.com".into());
        shared.not_served(&shared.1, NotServed { wanted: "Widget of example.com/v1".into(), missing });
        assert!(!shared.synced.load(Ordering::Relaxed) && !shared.is_behind(None, u64::MAX));
        assert_eq!(*seen.lock(), [(What::Added, "a".to_owned()), (What::Deleted, "a".to_owned())]);
        shared.begin_replace();
        shared.apply(vec![(Effect::Synced(30), None)]);
        assert!(shared.synced.load(Ordering::Relaxed) && shared.1.missing().is_none());
    }
}
