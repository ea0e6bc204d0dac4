//! The thin driver around the watch state machine: it sends requests, feeds frames to the machine and
//! applies what they mean. Bytes pass through once; nothing is decoded beyond its metadata.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{AbortHandle, abortable};
use futures::stream::{FuturesUnordered, StreamExt};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{timeout, timeout_at};

use super::Scope;
use super::backoff::Jitter;
use super::frame::{Frame, Lines, parse, parse_page};
use super::informer::Shared;
use super::part::Part;
use super::watch::{Effect, Failure, Step, Watch};
use crate::client::Mapper;

/// Objects a page, where lists come in pages.
const PAGE: u32 = 500;
/// How long a server may take to answer a request's head, or a whole page.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest line that is taken for an object; etcd's limit is far below.
const LONGEST_LINE: usize = 64 << 20;

/// Follows the kind until dropped.
pub(super) async fn run(shared: Arc<Shared>, client: kube::Client, mapper: Mapper) {
    let follow = |namespace: Option<&str>| {
        let part = shared.join(namespace);
        let (shared, client, mapper) = (Arc::clone(&shared), client.clone(), mapper.clone());
        async move { Follow { shared: &shared, part: &part, client: &client, mapper: &mapper }.run().await }
    };
    match &shared.scope {
        Scope::All => follow(None).await,
        Scope::Namespace(namespace) => follow(Some(namespace)).await,
        Scope::Namespaces(namespaces) => {
            let mut wanted = namespaces.subscribe();
            let mut followed: HashMap<String, AbortHandle> = HashMap::new();
            let mut running = FuturesUnordered::new();
            loop {
                let now = wanted.borrow_and_update().clone();
                // All of them run in this one task, so that nothing arrives of a namespace that has been left.
                followed.retain(|namespace, handle| {
                    let stays = now.contains(namespace);
                    if !stays {
                        handle.abort();
                        shared.leave(namespace);
                    }
                    stays
                });
                for namespace in &now {
                    if !followed.contains_key(namespace) {
                        let (future, handle) = abortable(follow(Some(namespace)).boxed());
                        running.push(future);
                        followed.insert(namespace.clone(), handle);
                    }
                }
                shared.settle();
                tokio::select! {
                    changed = wanted.changed() => {
                        if changed.is_err() {
                            // Nobody can change the set any more.
                            while running.next().await.is_some() {}
                        }
                    }
                    Some(_) = running.next() => {}
                }
            }
        }
    }
}

/// One watch of the informer's.
struct Follow<'a> {
    shared: &'a Shared,
    part: &'a Part,
    client: &'a kube::Client,
    mapper: &'a Mapper,
}

impl Follow<'_> {
    async fn run(&self) {
        let mut watch = Watch::new(Jitter::random());
        loop {
            match watch.step(Instant::now()) {
                Step::Pause(until) => tokio::time::sleep_until(until.into()).await,
                Step::Stream => {
                    self.shared.begin_replace(self.part);
                    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
                    self.stream(&mut watch, query, true).await;
                }
                Step::Watch { from } => {
                    self.stream(&mut watch, &format!("resourceVersion={from}"), false).await;
                }
                Step::Probe { from } => self.probe(&mut watch, from).await,
                Step::Discover => self.discover(&mut watch).await,
                Step::List { next } => {
                    if next.is_none() {
                        self.shared.begin_replace(self.part);
                    }
                    self.page(&mut watch, next).await;
                }
            }
            self.part.set_connected(false);
        }
    }

    /// The server says that there is no such resource: waits until there is, if discovery says so too.
    async fn discover(&self, watch: &mut Watch) {
        let kind = &self.shared.kind;
        let served = match self.mapper.is_served(kind).await {
            Ok(served) => served,
            Err(error) => {
                let error = crate::Error::from(error).chain();
                tracing::debug!(%kind, error, "whether the kind is served can't be learnt");
                None
            }
        };
        if served != Some(false) {
            return watch.discovered(served, false, Instant::now());
        }
        tracing::warn!(%kind, version = kind.version, "the kind is not served; waiting for its definition");
        self.shared.not_served(self.part);
        self.mapper.served(kind).await;
        tracing::info!(%kind, version = kind.version, "the kind is served now");
        watch.discovered(Some(true), true, Instant::now());
    }

    fn request(&self, query: &str) -> Result<Request<Body>, http::Error> {
        let selection = self.shared.select.query();
        let collection = self.shared.kind.collection_path(self.part.namespace.as_deref());
        Request::get(format!("{collection}?{query}{selection}"))
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
    }

    async fn stream(&self, watch: &mut Watch, query: &str, streaming: bool) {
        let shared = self.shared;
        let lifetime = watch.lifetime();
        let deadline = tokio::time::Instant::now() + lifetime + Duration::from_secs(15);
        let query =
            format!("watch=true&allowWatchBookmarks=true&{query}&timeoutSeconds={}", lifetime.as_secs());
        let Some(mut body) = self.open(watch, &query, streaming).await else { return };
        watch.opened(Instant::now());
        self.part.set_connected(true);
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
            let now = Instant::now();
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
                    Frame::Put(object) | Frame::Delete(object) => {
                        batch.extend(shared.keep(object).map(|object| (effect, Some(object))));
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
        }
    }

    async fn page(&self, watch: &mut Watch, next: Option<String>) {
        let shared = self.shared;
        let token = next.map_or(String::new(), |token| {
            format!("&continue={}", utf8_percent_encode(&token, NON_ALPHANUMERIC))
        });
        let Some(body) = self.open(watch, &format!("limit={PAGE}{token}"), false).await else {
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
        let Some(body) = self.open(watch, "limit=1", false).await else { return };
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
    async fn open(&self, watch: &mut Watch, query: &str, streaming: bool) -> Option<Body> {
        let request = match self.request(query) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(kind = %self.shared.kind, %error, "the request can't be built");
                watch.fail(Failure::Other, Instant::now());
                return None;
            }
        };
        let response = match timeout(ANSWER, self.client.send(request)).await {
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
        let failure = Failure::of_status(code, &message, after, streaming);
        if !matches!(failure, Failure::NoStreaming | Failure::NotServed) {
            self.log_failure(watch, &format!("{code} {message}"));
        }
        watch.fail(failure, Instant::now());
        None
    }

    /// The first failure in a row is worth a warning; the rest would only repeat it.
    fn log_failure(&self, watch: &Watch, problem: &str) {
        let (kind, scope) = (&self.shared.kind, self.part.namespace.as_deref().unwrap_or("all namespaces"));
        if watch.failures() == 0 {
            tracing::warn!(%kind, scope, problem, "watching fails; trying again");
        } else {
            tracing::debug!(%kind, scope, problem, "watching still fails");
        }
    }
}
