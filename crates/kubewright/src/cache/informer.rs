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

use super::index::Index;
use super::memory::Budget;
use super::object::{Cached, DecodeError};
use super::part::Part;
use super::select::Select;
use super::share::Share;
use super::store::{Change, Store, Version};
use super::watch::Effect;
use super::{Scope, driver};
use crate::client::NotServed;
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

pub(super) type Callback = dyn Fn(&Delta) + Send + Sync;
/// Is told which keys are followed no more.
pub(super) type Leaver = dyn Fn(&dyn Fn(&Key) -> bool) + Send + Sync;

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
pub(super) struct Pending {
    pub(super) writes: Vec<(Wrote, u64, u64)>,
    last: u64,
}

pub(crate) struct Shared {
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    pub(super) select: Arc<Select>,
    /// The replica's share, where no more than that is followed.
    pub(super) share: Option<Share>,
    pub(super) store: RwLock<Store>,
    pub(super) budget: Arc<Budget>,
    pub(super) subscribers: Mutex<Vec<(u64, Box<Callback>)>>,
    /// Told of what is followed no more.
    pub(super) leavers: Mutex<Vec<(u64, Box<Leaver>)>>,
    pub(super) pending: Mutex<Pending>,
    pub(super) parts: RwLock<Vec<Arc<Part>>>,
    /// The first lists of all parts were complete at some time, and the kind is served.
    pub(super) synced: AtomicBool,
    /// The first list of every part is complete now.
    pub(super) settled: AtomicBool,
    pub(super) changed: Notify,
    next_subscriber: AtomicU64,
    pub(super) relists: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) undecodable: AtomicU64,
    pub(super) failures: AtomicU64,
}

/// Objects that are handed to a new subscriber between two looks at the store.
const AT_A_TIME: usize = 64;

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
        shared.budget.join(&shared);
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
        self.0.shared.is_connected()
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

    /// Waits until the first list is complete, or the server says that it does not serve the kind.
    ///
    /// # Errors
    /// What is missing.
    pub async fn usable(&self) -> Result<(), NotServed> {
        let shared = &self.0.shared;
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_synced() {
                return Ok(());
            }
            if let Some(why) = self.missing() {
                return Err(why);
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
        // Nothing changes meanwhile: changes are told under this lock.
        let mut subscribers = shared.subscribers.lock();
        let mut next = Some(0);
        while let Some(from) = next {
            // A few at a time, as those that are compressed are not for the whole of it.
            let objects;
            (objects, next) = shared.store.read().from(from, AT_A_TIME);
            for object in objects {
                tell(&callback, &Delta { what: What::Added, object, before: None, initial: true });
            }
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
            failures: AtomicU64::new(0),
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
        self.forget_shown(&mut pending);
        pending
            .writes
            .iter()
            .any(|(wrote, number, _)| *number <= up_to && key.is_none_or(|key| *key == wrote.key))
    }

    /// Forgets the writes that are shown, but for those behind one to the same key that is not.
    fn forget_shown(&self, pending: &mut Pending) {
        if pending.writes.is_empty() {
            return;
        }
        let mut unseen = HashSet::new();
        pending.writes.retain(|(wrote, _, _)| {
            let keep = unseen.contains(&wrote.key) || !self.shows(wrote);
            if keep {
                unseen.insert(wrote.key.clone());
            }
            keep
        });
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
        // Whoever writes may never read.
        self.forget_shown(&mut self.pending.lock());
        self.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        for event in &events {
            for (_, callback) in subscribers.iter() {
                tell(&**callback, event);
            }
        }
        drop(subscribers);
        self.changed.notify_waiters();
    }

    /// Whether an object that the server sent is in this replica's share.
    pub(super) fn shares(&self, object: &Cached) -> bool {
        let Some(share) = self.share.as_ref().filter(|share| !share.takes(object)) else { return true };
        if share.leave_out() {
            tracing::info!(kind = %self.kind, "the server does not select by shard; it is done here");
        }
        false
    }

    /// The object as this cache keeps it. One that can't be kept is noted; its last state stays, as it is not gone.
    pub(super) fn keep(&self, object: Cached) -> Option<Cached> {
        if !self.shares(&object) {
            return None;
        }
        if self.select.keeps_whole() {
            return Some(object);
        }
        let key = object.key().clone();
        let kept = self.select.keep(object, &self.kind);
        kept.map_err(|error| {
            self.note_undecodable(&error);
            self.store.write().touch(&key);
        })
        .ok()
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
pub(super) fn tell(callback: &Callback, delta: &Delta) {
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
mod tests;
