//! The thin driver around the watch state machine: it sends requests, feeds frames to the machine and
//! applies what they mean. Bytes pass through once; nothing is decoded beyond its metadata.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{AbortHandle, abortable};
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{Semaphore, watch};
use tokio::time::{timeout, timeout_at};

use super::Scope;
use super::backoff::Jitter;
use super::frame::{Frame, Lines, parse, parse_page};
use super::informer::Shared;
use super::part::Part;
use super::share::Share;
use super::watch::{Effect, Failure, Step, Watch};
use crate::client::{Mapper, MapperError, Missing};

/// Objects a page, where lists come in pages.
const PAGE: u32 = 500;
/// How long a server may take to answer a request's head, or a whole page.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest line that is taken for an object; etcd's limit is far below.
const LONGEST_LINE: usize = 64 << 20;

/// So many bytes of events are taken in before those who wait for them have a turn: enough that turns cost nothing, and
/// few enough that the objects are still in the processor's caches when they are reconciled.
const TURN: usize = 128 << 10;

/// How long a list may keep others of the process from theirs.
const PLACE: Duration = Duration::from_secs(10);

/// What informers of a process share: whom they ask, and how many of them list at once.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) client: kube::Client,
    pub(super) mapper: Mapper,
    pub(super) lists: Arc<Semaphore>,
}

/// Failures in a row from one warning to the next: about five minutes of them.
const WARNING: u32 = 30;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// A watch that begins with what is there.
    InitialEvents,
    /// A watch of what changes.
    Changes,
    /// A page of a list.
    Page,
}

/// Follows the kind until dropped.
pub(super) async fn run(shared: Arc<Shared>, server: Server) {
    let follow = |namespace: Option<&str>| {
        let part = shared.join(namespace);
        let (shared, server) = (Arc::clone(&shared), server.clone());
        async move { Follow { shared: &shared, part: &part, server: &server }.run().await }
    };
    let fixed = match &shared.scope {
        Scope::All => Some(None),
        Scope::Namespace(namespace) => Some(Some(namespace.clone())),
        Scope::Namespaces(_) => None,
    };
    if let (Some(namespace), None) = (&fixed, &shared.share) {
        return follow(namespace.as_deref()).await;
    }
    let mut several = match &shared.scope {
        Scope::Namespaces(namespaces) => Some(namespaces.subscribe()),
        _ => None,
    };
    let mut slots = shared.share.as_ref().map(Share::changes);
    let mut followed: HashMap<Option<String>, AbortHandle> = HashMap::new();
    // All of them run in this one task, so that nothing arrives of what has been left.
    let mut running = FuturesUnordered::new();
    loop {
        let mut wanted: HashSet<Option<String>> = match &mut several {
            Some(several) => several.borrow_and_update().iter().cloned().map(Some).collect(),
            None => fixed.iter().cloned().collect(),
        };
        if let (Some(share), Some(slots)) = (&shared.share, &mut slots) {
            let now = *slots.borrow_and_update();
            if now != share.slots() {
                // What is worked on stays readable to the end; so long, the rest goes on as it did.
                tokio::select! {
                    () = share.idle(share.slots() & !now) => {}
                    () = drive(&mut running) => {}
                }
                followed.drain().for_each(|(_, handle)| handle.abort());
                shared.turn_to(share, now);
            }
            if now == 0 {
                wanted.clear();
            }
        }
        followed.retain(|namespace, handle| {
            let stays = wanted.contains(namespace);
            if !stays {
                handle.abort();
                namespace.iter().for_each(|namespace| shared.leave(namespace));
            }
            stays
        });
        for namespace in wanted {
            if let Entry::Vacant(place) = followed.entry(namespace) {
                let (future, handle) = abortable(follow(place.key().as_deref()).boxed());
                running.push(future);
                place.insert(handle);
            }
        }
        shared.settle();
        tokio::select! {
            () = changed(&mut several) => {}
            () = changed(&mut slots) => {}
            () = drive(&mut running) => {}
        }
    }
}

/// Lets watches go on, for ever.
async fn drive(running: &mut (impl Stream + Unpin)) {
    while running.next().await.is_some() {}
    std::future::pending().await
}

/// Waits for a change; for ever where there is nothing that could.
async fn changed<T>(value: &mut Option<watch::Receiver<T>>) {
    if let Some(value) = value
        && value.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// One watch of the informer's.
struct Follow<'a> {
    shared: &'a Shared,
    part: &'a Part,
    server: &'a Server,
}

impl Follow<'_> {
    async fn run(&self) {
        let mut watch = Watch::new(Jitter::random());
        loop {
            let before = watch.failures();
            match watch.step(Instant::now()) {
                Step::Pause(until) => tokio::time::sleep_until(until.into()).await,
                Step::Stream => {
                    self.shared.begin_replace(self.part);
                    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
                    self.in_turn(self.stream(&mut watch, query, Asks::InitialEvents)).await;
                }
                Step::Watch { from } => {
                    self.stream(&mut watch, &format!("resourceVersion={from}"), Asks::Changes).await;
                }
                Step::Probe { from } => self.in_turn(self.probe(&mut watch, from)).await,
                Step::Discover => self.discover(&mut watch).await,
                Step::List { next } => {
                    if next.is_none() {
                        self.shared.begin_replace(self.part);
                    }
                    self.in_turn(self.page(&mut watch, next)).await;
                }
            }
            self.part.set_connected(false);
            if watch.failures() > before {
                self.shared.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Does a list once not too many others of the process do theirs: until it is complete. One that takes long lets
    /// others begin all the same.
    async fn in_turn(&self, list: impl Future<Output = ()>) {
        let place = self.server.lists.acquire().await;
        let listed = self.part.listed().notified();
        tokio::pin!(list, listed);
        listed.as_mut().enable();
        tokio::select! {
            biased;
            () = &mut list => return,
            () = listed => {}
            () = tokio::time::sleep(PLACE) => {}
        }
        drop(place);
        list.await;
    }

    /// The server says that there is no such resource: waits until there is, if discovery says so too.
    async fn discover(&self, watch: &mut Watch) {
        let kind = &self.shared.kind;
        let why = match self.server.mapper.is_served(kind).await {
            Ok(()) => return watch.discovered(Some(true), false, Instant::now()),
            Err(MapperError::NotServed(why)) if !matches!(why.missing, Missing::Unreachable(_)) => why,
            Err(error) => {
                let error = crate::Error::from(error).chain();
                tracing::debug!(%kind, error, "whether the kind is served can't be learnt");
                return watch.discovered(None, false, Instant::now());
            }
        };
        tracing::warn!(%kind, %why, "waiting for the kind");
        self.shared.not_served(self.part, why);
        self.server.mapper.served(kind).await;
        tracing::info!(%kind, version = kind.version, "the kind is served now");
        watch.discovered(Some(true), true, Instant::now());
    }

    fn request(&self, query: &str, asks: Asks) -> Result<Request<Body>, http::Error> {
        let mut selection = self.shared.select.query();
        selection.extend(self.shared.share.as_ref().and_then(Share::query));
        let collection = self.shared.kind.collection_path(self.part.namespace.as_deref());
        Request::get(format!("{collection}?{query}{selection}"))
            .header(header::ACCEPT, self.shared.select.accept(asks == Asks::Page))
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
    }

    async fn stream(&self, watch: &mut Watch, query: &str, asks: Asks) {
        let shared = self.shared;
        let lifetime = watch.lifetime();
        let query =
            format!("watch=true&allowWatchBookmarks=true&{query}&timeoutSeconds={}", lifetime.as_secs());
        let Some(mut body) = self.open(watch, &query, asks).await else { return };
        let opened = Instant::now();
        watch.opened(opened);
        self.part.heard(opened);
        self.part.set_connected(true);
        let mut lines = Lines::default();
        let mut taken_in = 0;
        loop {
            let chunk: Bytes = match timeout_at(watch.deadline(Instant::now()).into(), body.frame()).await {
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
                    tracing::warn!(kind = %shared.kind, "the watch outlived its time or fell silent; reconnecting");
                    return watch.overdue(Instant::now());
                }
            };
            taken_in += chunk.len();
            let mut batch = Vec::new();
            let mut open = true;
            let now = Instant::now();
            self.part.heard(now);
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
                let effect = watch.frame(&frame, now);
                match frame {
                    Frame::Put(object) => {
                        batch.extend(shared.keep(object).map(|object| (effect, Some(object))));
                    }
                    // Whatever is kept of it, it is gone.
                    Frame::Delete(object) => {
                        batch.extend(shared.shares(&object).then_some((effect, Some(object))));
                    }
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
            shared.apply(self.part, batch);
            if !open {
                return;
            }
            if lines.pending() > LONGEST_LINE {
                tracing::warn!(kind = %shared.kind, "the watch sent a line without end");
                return watch.fail(Failure::Other, Instant::now());
            }
            if taken_in >= TURN {
                taken_in = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    async fn page(&self, watch: &mut Watch, next: Option<String>) {
        let shared = self.shared;
        let token = next.map_or(String::new(), |token| {
            format!("&continue={}", utf8_percent_encode(&token, NON_ALPHANUMERIC))
        });
        let Some(body) = self.open(watch, &format!("limit={PAGE}{token}"), Asks::Page).await else {
            return;
        };
        let bytes = match timeout(ANSWER, body.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => return watch.fail(Failure::Other, Instant::now()),
        };
        match parse_page(&bytes, &shared.kind) {
            Ok(page) => {
                self.part.heard(Instant::now());
                page.undecodable.iter().for_each(|error| shared.note_undecodable(error));
                let synced = watch.page(page.resource_version, page.next);
                let kept = page.objects.into_iter().filter_map(|object| shared.keep(object));
                let put = kept.map(|object| (Effect::Put { initial: true }, Some(object)));
                shared.apply(
                    self.part,
                    put.chain(synced.map(|version| (Effect::Synced(version), None))).collect(),
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the list can't be read");
                watch.fail(Failure::Other, Instant::now());
            }
        }
    }

    /// Looks at one object of the collection. What is not newer than the last revision seen must be known; if
    /// it is not, or the collection's revision went back, the server was reset or restored.
    async fn probe(&self, watch: &mut Watch, from: u64) {
        let shared = self.shared;
        let Some(body) = self.open(watch, "limit=1", Asks::Page).await else { return };
        let page = match timeout(ANSWER, body.collect()).await {
            Ok(Ok(body)) => parse_page(&body.to_bytes(), &shared.kind),
            _ => return watch.fail(Failure::Other, Instant::now()),
        };
        match page {
            Ok(page) => {
                let known = page.objects.iter().all(|object| shared.knows(object, from));
                let same = page.resource_version >= from && known;
                if !same {
                    tracing::warn!(kind = %shared.kind, "the server's history is another one; listing anew");
                }
                watch.probed(same);
            }
            Err(error) => {
                tracing::warn!(%error, "the list can't be read");
                watch.fail(Failure::Other, Instant::now());
            }
        }
    }

    /// Sends a request; a refusal goes to the state machine.
    async fn open(&self, watch: &mut Watch, query: &str, asks: Asks) -> Option<Body> {
        let request = match self.request(query, asks) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(kind = %self.shared.kind, %error, "the request can't be built");
                watch.fail(Failure::Other, Instant::now());
                return None;
            }
        };
        let response = match timeout(ANSWER, self.server.client.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let error: crate::Error = error.into();
                self.log_failure(watch, &error.chain());
                watch.fail(Failure::Other, Instant::now());
                return None;
            }
            Err(_) => {
                self.log_failure(watch, "no answer in time");
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
        let failure = match &self.shared.share {
            Some(share) if matches!(code, 400 | 422) && share.query().is_some() => {
                share.refuse();
                Failure::NoShards
            }
            _ => Failure::of_status(code, &message, after, asks == Asks::InitialEvents),
        };
        if !matches!(failure, Failure::NoStreaming | Failure::NoShards | Failure::NotServed) {
            self.log_failure(watch, &format!("{code} {message}"));
        }
        watch.fail(failure, Instant::now());
        None
    }

    /// The first failure in a row is worth a warning, and another one every few minutes; the rest would only repeat it.
    fn log_failure(&self, watch: &Watch, problem: &str) {
        let (kind, scope) = (&self.shared.kind, self.part.namespace.as_deref().unwrap_or("all namespaces"));
        if watch.failures().is_multiple_of(WARNING) {
            tracing::warn!(%kind, scope, problem, "watching fails; trying again");
        } else {
            tracing::debug!(%kind, scope, problem, "watching still fails");
        }
    }
}
