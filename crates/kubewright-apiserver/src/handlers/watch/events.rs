//! The stream of one watcher, as a state machine that is polled.
//!
//! In order: the initial events, the bookmark after them, then changes, bookmarks and the end. What it waits for is kept
//! from poll to poll, so that a change costs a watcher a look into the log, a line, and one new registration there.
//! The stream is pulled by the client; one that does not read falls out of the log and ends with 410.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use kubewright_machinery::status::Status;
use kubewright_storage::{Entry, Event, StoreError, Watch};
use serde_json::Value;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Sleep};

use super::super::store_failure;
use super::view::{Encoded, View};

/// How often bookmarks come.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// How long before the end of a watch the last bookmark comes, so that the client can go on from there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where a watch begins.
pub(super) struct Start {
    /// What is there already, where that was asked for.
    pub initial: VecDeque<Entry>,
    /// The revision they show, where a bookmark is owed after them.
    pub bookmark: Option<u64>,
    /// The changes after them.
    pub watch: Watch,
    /// The revision after which they come.
    pub after: u64,
}

/// The lines of one watcher.
pub(super) struct Events {
    view: Arc<View>,
    start: Start,
    /// Something is being decoded or converted; nothing else goes on meanwhile.
    decoding: Option<Boxed<Result<Decoded, Status>>>,
    /// Resolves when the table of resources has changed.
    published: Boxed<Option<Receiver<u64>>>,
    /// Due at the next bookmark or at the deadline.
    tick: Pin<Box<Sleep>>,
    deadline: Instant,
    /// Whether bookmarks were asked for.
    bookmarks: bool,
    columns_sent: bool,
    ended: bool,
}

enum Decoded {
    Initial(Value),
    Change(Arc<Event>, Arc<Encoded>),
}

impl Events {
    /// A stream that goes on until `deadline`, or until `publications` tell that the resource is no longer served.
    pub fn new(
        view: View,
        start: Start,
        publications: Receiver<u64>,
        bookmarks: bool,
        deadline: Instant,
    ) -> Self {
        let tick = next_tick(Instant::now(), bookmarks, deadline);
        Self {
            view: Arc::new(view),
            start,
            decoding: None,
            published: Box::pin(publication(publications)),
            tick: Box::pin(tokio::time::sleep_until(tick)),
            deadline,
            bookmarks,
            columns_sent: false,
            ended: false,
        }
    }

    /// The next line; `None` when the watch is over.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(decoding) = &mut self.decoding {
                let decoded = ready!(decoding.as_mut().poll(cx));
                self.decoding = None;
                if let Some(line) = self.decoded(decoded) {
                    return Poll::Ready(Some(line));
                }
                continue;
            }
            if let Some(entry) = self.start.initial.pop_front() {
                match self.view.present(&entry) {
                    Some(line) => return Poll::Ready(Some(line)),
                    None => self.decode(entry),
                }
                continue;
            }
            if let Some(revision) = self.start.bookmark.take() {
                return Poll::Ready(Some(self.view.bookmark(revision, true)));
            }
            match self.start.watch.poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => {
                    self.start.after = event.revision;
                    let line = match self.view.encoded(&event) {
                        Some(encoded) => self.decoded(Ok(Decoded::Change(event, encoded))),
                        None => {
                            self.convert(event);
                            None
                        }
                    };
                    match line {
                        Some(line) => return Poll::Ready(Some(line)),
                        None => continue,
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let status = failure(&error, self.start.after);
                    return Poll::Ready(Some(self.end_with(&status)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if let Poll::Ready(publications) = self.published.as_mut().poll(cx) {
                let Some(publications) = publications.filter(|_| self.still_served()) else {
                    return Poll::Ready(None);
                };
                self.published = Box::pin(publication(publications));
                continue;
            }
            ready!(self.tick.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.deadline {
                return Poll::Ready(None);
            }
            self.tick.as_mut().reset(next_tick(now, self.bookmarks, self.deadline));
            return Poll::Ready(Some(self.view.bookmark(self.start.watch.revision(), false)));
        }
    }

    fn decode(&mut self, entry: Entry) {
        let view = Arc::clone(&self.view);
        self.decoding = Some(Box::pin(async move {
            Ok(Decoded::Initial(view.call.decode_one(&entry.value, entry.revision).await?))
        }));
    }

    fn convert(&mut self, event: Arc<Event>) {
        let view = Arc::clone(&self.view);
        self.decoding = Some(Box::pin(async move {
            let encoded = view.convert(&event).await?;
            Ok(Decoded::Change(event, encoded))
        }));
    }

    /// The line for what was decoded, or none where it does not concern this watcher.
    fn decoded(&mut self, decoded: Result<Decoded, Status>) -> Option<Bytes> {
        let columns = !self.columns_sent;
        let line = decoded.and_then(|decoded| match decoded {
            Decoded::Initial(object) => Ok(Some(self.view.transformed("ADDED", object, columns))),
            Decoded::Change(event, encoded) => self.view.change(&event, &encoded, columns),
        });
        match line {
            Ok(line) => {
                self.columns_sent |= line.is_some();
                line
            }
            Err(status) => Some(self.end_with(&status)),
        }
    }

    /// Whether the resource is what it was when the watch began.
    fn still_served(&self) -> bool {
        let call = &self.view.call;
        let table = call.core.table();
        let current = table.lookup(&call.resource.group, &call.resource.version, &call.resource.plural);
        !call.core.is_stopping() && current.is_some_and(|now| Arc::ptr_eq(now, &call.resource))
    }

    fn end_with(&mut self, status: &Status) -> Bytes {
        self.ended = true;
        self.view.error(status)
    }
}

impl Stream for Events {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_line(cx).map(|line| line.map(Ok))
    }
}

/// Resolves with the receiver when there is something newer in it, and with none when nobody sends any more.
async fn publication(mut publications: Receiver<u64>) -> Option<Receiver<u64>> {
    publications.changed().await.ok()?;
    Some(publications)
}

/// When something is due: a bookmark, where they were asked for, or the end.
fn next_tick(now: Instant, bookmarks: bool, deadline: Instant) -> Instant {
    if !bookmarks {
        return deadline;
    }
    let regular = now + BOOKMARK_INTERVAL;
    match deadline.checked_sub(LAST_BOOKMARK) {
        Some(last) if last < regular && last > now => last,
        _ => regular.min(deadline),
    }
}

/// What a watcher that cannot go on after a revision is told.
pub(super) fn failure(error: &StoreError, after: u64) -> Status {
    match error {
        StoreError::Compacted { revision } => {
            Status::expired(format!("too old resource version: {after} ({revision})"))
        }
        error => store_failure(error),
    }
}
