//! The thin driver around the watch state machine: it sends requests, feeds frames to the machine,
//! applies effects to the store and tells subscribers. Bytes pass through once; nothing is decoded
//! beyond its metadata.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::{Mutex, RwLock};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Notify;
use tokio::time::{timeout, timeout_at};

use super::Scope;
use super::backoff::Jitter;
use super::frame::{Frame, Lines, parse, parse_page};
use super::object::{Cached, DecodeError};
use super::store::{Change, Index, Store};
use super::watch::{Effect, Failure, Step, Watch};
use crate::kind::{Key, Kind};

/// Objects a page, where lists come in pages.
const PAGE: u32 = 500;
/// How long a server may take to answer a request's head, or a whole page.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest line that is taken for an object; etcd's limit is far below.
const LONGEST_LINE: usize = 64 << 20;

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
}

/// What the cache will show once it has caught up with a write.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// A revision at least this new.
    Version(u64),
    /// No object of this uid.
    Gone(Box<str>),
}

pub(crate) struct Shared {
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    store: RwLock<Store>,
    subscribers: Mutex<Vec<(u64, Box<Callback>)>>,
    pending: Mutex<Vec<(Wrote, u64)>>,
    progress: AtomicU64,
    synced: AtomicBool,
    connected: AtomicBool,
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
    pub(crate) fn start(client: kube::Client, kind: Kind, scope: Scope) -> Informer {
        let shared = Arc::new(Shared::new(kind, scope));
        let task = tokio::spawn(run(Arc::clone(&shared), client)).abort_handle();
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
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_synced() && !shared.is_behind(key) {
                return true;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    /// The object of a key, as cached now.
    pub fn get(&self, key: &Key) -> Option<Arc<Cached>> {
        self.0.shared.store.read().get(key).cloned()
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
        let objects: Vec<Arc<Cached>> = shared.store.read().iter().cloned().collect();
        for object in objects {
            callback(&Delta { what: What::Added, object, before: None, initial: true });
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
            relists: shared.relists.load(Ordering::Relaxed),
            events: shared.events.load(Ordering::Relaxed),
            undecodable: shared.undecodable.load(Ordering::Relaxed),
        }
    }
}

/// Figures of an informer.
#[derive(Clone, Copy, Debug, Default)]
pub struct InformerStats {
    /// Objects held.
    pub objects: usize,
    /// Bytes of JSON held.
    pub bytes: usize,
    /// Lists begun, the first one included.
    pub relists: u64,
    /// Events applied.
    pub events: u64,
    /// Objects that could not be read.
    pub undecodable: u64,
}

impl Shared {
    pub(crate) fn new(kind: Kind, scope: Scope) -> Shared {
        Shared {
            kind,
            scope,
            store: RwLock::default(),
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
    pub(crate) fn wrote(&self, wrote: Wrote) {
        let round = self.store.read().round();
        // A write that is shown already still counts while an earlier one to the same key does not:
        // an object created and deleted at once would appear in between.
        let mut pending = self.pending.lock();
        if pending.iter().any(|(earlier, _)| earlier.key == wrote.key) || !self.shows(&wrote) {
            pending.push((wrote, round));
        }
    }

    fn is_behind(&self, key: Option<&Key>) -> bool {
        let mut pending = self.pending.lock();
        let mut unseen = std::collections::HashSet::new();
        pending.retain(|(wrote, _)| {
            let keep = unseen.contains(&wrote.key) || !self.shows(wrote);
            if keep {
                unseen.insert(wrote.key.clone());
            }
            keep
        });
        pending.iter().any(|(wrote, _)| key.is_none_or(|key| *key == wrote.key))
    }

    fn shows(&self, wrote: &Wrote) -> bool {
        let store = self.store.read();
        let cached = store.get(&wrote.key);
        match &wrote.what {
            Expected::Version(version) => {
                self.progress.load(Ordering::Acquire) >= *version
                    || cached.is_some_and(|object| object.resource_version() >= *version)
            }
            Expected::Gone(uid) => cached.is_none_or(|object| object.uid() != &**uid),
        }
    }

    fn begin_replace(&self) {
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
            for (effect, object) in batch {
                match (effect, object) {
                    (Effect::Put { initial }, Some(object)) => {
                        if !initial {
                            progress = progress.max(object.resource_version());
                        }
                        let object = Arc::new(object);
                        let (what, before) = match store.put(Arc::clone(&object)) {
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
        }
        self.progress.store(progress, Ordering::Release);
        if let Some(round) = synced_round {
            // A consistent list includes every write that ended before it began.
            self.pending.lock().retain(|(_, written)| *written >= round);
            self.synced.store(true, Ordering::Release);
        }
        self.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        for event in &events {
            for (_, callback) in subscribers.iter() {
                callback(event);
            }
        }
        drop(subscribers);
        self.changed.notify_waiters();
    }

    fn note_undecodable(&self, error: &DecodeError) {
        self.undecodable.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "an object can't be read and is left out of the cache");
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

async fn run(shared: Arc<Shared>, client: kube::Client) {
    let mut watch = Watch::new(Jitter::random());
    loop {
        match watch.step(Instant::now()) {
            Step::Pause(until) => tokio::time::sleep_until(until.into()).await,
            Step::Stream => {
                shared.begin_replace();
                let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned();
                stream(&shared, &client, &mut watch, &query, true).await;
            }
            Step::Watch { from } => {
                stream(&shared, &client, &mut watch, &format!("resourceVersion={from}"), false).await;
            }
            Step::List { next } => {
                if next.is_none() {
                    shared.begin_replace();
                }
                page(&shared, &client, &mut watch, next).await;
            }
        }
        shared.connected.store(false, Ordering::Relaxed);
    }
}

fn request(shared: &Shared, query: &str) -> Result<Request<Body>, http::Error> {
    Request::get(format!("{}?{query}", shared.kind.collection_path(shared.scope.namespace())))
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Body::empty())
}

async fn stream(shared: &Shared, client: &kube::Client, watch: &mut Watch, query: &str, streaming: bool) {
    let lifetime = watch.lifetime();
    let deadline = tokio::time::Instant::now() + lifetime + Duration::from_secs(15);
    let query = format!("watch=true&allowWatchBookmarks=true&{query}&timeoutSeconds={}", lifetime.as_secs());
    let Some(mut body) = open(shared, client, watch, &query, streaming).await else { return };
    watch.opened(Instant::now());
    shared.connected.store(true, Ordering::Relaxed);
    let mut lines = Lines::default();
    loop {
        let chunk: Bytes = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(chunk) => chunk,
                Err(_) => continue,
            },
            Ok(None) => return watch.ended(Instant::now()),
            Ok(Some(Err(error))) => {
                tracing::debug!(kind = %shared.kind, %error, "the watch was cut off");
                return watch.fail(Failure::Other, Instant::now());
            }
            Err(_) => {
                tracing::warn!(kind = %shared.kind, "the watch outlived its time; reconnecting");
                return watch.fail(Failure::Other, Instant::now());
            }
        };
        let mut batch = Vec::new();
        let mut open = true;
        for line in lines.push(chunk) {
            let frame = match parse(&line, &shared.kind) {
                Ok(frame) => frame,
                Err(error) => {
                    tracing::warn!(%error, "the watch sent something else than events");
                    watch.fail(Failure::Other, Instant::now());
                    open = false;
                    break;
                }
            };
            let effect = watch.frame(&frame, Instant::now());
            match frame {
                Frame::Put(object) | Frame::Delete(object) => batch.push((effect, Some(object))),
                Frame::Undecodable(error) => shared.note_undecodable(&error),
                Frame::Error { code, message } => {
                    tracing::debug!(kind = %shared.kind, code, message, "the watch ended with an error");
                }
                Frame::Bookmark { .. } => batch.push((effect, None)),
            }
            if effect == Effect::Close {
                open = false;
                break;
            }
        }
        shared.apply(batch);
        if !open {
            return;
        }
        if lines.pending() > LONGEST_LINE {
            tracing::warn!(kind = %shared.kind, "the watch sent a line without end");
            return watch.fail(Failure::Other, Instant::now());
        }
    }
}

async fn page(shared: &Shared, client: &kube::Client, watch: &mut Watch, next: Option<String>) {
    let token = next.map_or(String::new(), |token| {
        format!("&continue={}", utf8_percent_encode(&token, NON_ALPHANUMERIC))
    });
    let Some(body) = open(shared, client, watch, &format!("limit={PAGE}{token}"), false).await else {
        return;
    };
    let bytes = match timeout(ANSWER, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => return watch.fail(Failure::Other, Instant::now()),
    };
    match parse_page(&bytes, &shared.kind) {
        Ok(page) => {
            page.undecodable.iter().for_each(|error| shared.note_undecodable(error));
            let synced = watch.page(page.resource_version, page.next);
            let put = page.objects.into_iter().map(|object| (Effect::Put { initial: true }, Some(object)));
            shared.apply(put.chain(synced.map(|version| (Effect::Synced(version), None))).collect());
        }
        Err(error) => {
            tracing::warn!(%error, "the list can't be read");
            watch.fail(Failure::Other, Instant::now());
        }
    }
}

/// Sends a request; a refusal goes to the state machine.
async fn open(
    shared: &Shared,
    client: &kube::Client,
    watch: &mut Watch,
    query: &str,
    streaming: bool,
) -> Option<Body> {
    let request = match request(shared, query) {
        Ok(request) => request,
        Err(error) => {
            tracing::error!(kind = %shared.kind, %error, "the request can't be built");
            watch.fail(Failure::Other, Instant::now());
            return None;
        }
    };
    let response = match timeout(ANSWER, client.send(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let error: crate::Error = error.into();
            log_failure(shared, watch, &error.chain());
            watch.fail(Failure::Other, Instant::now());
            return None;
        }
        Err(_) => {
            log_failure(shared, watch, "no answer in time");
            watch.fail(Failure::Other, Instant::now());
            return None;
        }
    };
    if response.status() == StatusCode::OK {
        return Some(response.into_body());
    }
    let code = response.status().as_u16();
    let after = response.headers().get(header::RETRY_AFTER);
    let after = after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = match timeout(ANSWER, response.into_body().collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    let message = serde_json::from_slice::<kube::core::Status>(&body).map(|status| status.message);
    let message = message.unwrap_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned());
    let failure = Failure::of_status(code, &message, after, streaming);
    if failure != Failure::NoStreaming {
        log_failure(shared, watch, &format!("{code} {message}"));
    }
    watch.fail(failure, Instant::now());
    None
}

/// The first failure in a row is worth a warning; the rest would only repeat it.
fn log_failure(shared: &Shared, watch: &Watch, problem: &str) {
    if watch.failures() == 0 {
        tracing::warn!(kind = %shared.kind, scope = %shared.scope, problem, "watching fails; trying again");
    } else {
        tracing::debug!(kind = %shared.kind, scope = %shared.scope, problem, "watching still fails");
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn shared() -> Shared {
        Shared::new(Kind::of::<Pod>(), Scope::All)
    }

    fn pod(name: &str, uid: &str, version: u64) -> Option<Cached> {
        let text =
            format!(r#"{{"metadata":{{"name":"{name}","uid":"{uid}","resourceVersion":"{version}"}}}}"#);
        Some(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
    }

    fn wrote(name: &str, what: Expected) -> Wrote {
        Wrote { key: name.into(), what }
    }

    #[test]
    fn a_read_waits_for_the_version_that_was_written() {
        let shared = shared();
        shared.begin_replace();
        shared.apply(vec![(Effect::Synced(10), None)]);
        shared.wrote(wrote("a", Expected::Version(12)));
        assert!(shared.is_behind(None) && shared.is_behind(Some(&"a".into())));
        assert!(!shared.is_behind(Some(&"b".into())));
        shared.apply(vec![(Effect::Put { initial: false }, pod("z", "z", 11))]);
        assert!(shared.is_behind(None));
        shared.apply(vec![(Effect::Put { initial: false }, pod("a", "u", 12))]);
        assert!(!shared.is_behind(None));
    }

    #[test]
    fn a_read_waits_until_a_deleted_object_is_gone() {
        let shared = shared();
        shared.begin_replace();
        shared.apply(vec![(Effect::Put { initial: true }, pod("a", "u", 5)), (Effect::Synced(10), None)]);
        shared.wrote(wrote("a", Expected::Gone("u".into())));
        assert!(shared.is_behind(Some(&"a".into())));
        shared.apply(vec![(Effect::Delete, pod("a", "u", 11))]);
        assert!(!shared.is_behind(None));
    }

    #[test]
    fn an_object_created_and_deleted_at_once_does_not_appear_in_between() {
        let shared = shared();
        shared.begin_replace();
        shared.apply(vec![(Effect::Synced(10), None)]);
        shared.wrote(wrote("a", Expected::Version(11)));
        shared.wrote(wrote("a", Expected::Gone("u".into())));
        shared.apply(vec![(Effect::Put { initial: false }, pod("a", "u", 11))]);
        assert!(shared.is_behind(None));
        shared.apply(vec![(Effect::Delete, pod("a", "u", 12))]);
        assert!(!shared.is_behind(None));
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
        assert!(!shared.is_behind(Some(&"a".into())));
        assert!(shared.is_behind(Some(&"b".into())));
        shared.apply(vec![(Effect::Reached(4), None)]);
        assert!(!shared.is_behind(None));
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
