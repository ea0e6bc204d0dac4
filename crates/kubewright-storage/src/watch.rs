//! One watcher's cursor into the shared log.
//!
//! Events come from the topic of the watched prefix in small batches and go to the caller one by one. Nothing is
//! queued for the watcher: between two calls it holds at most one batch, and when it has fallen out of the log it
//! gets one [`StoreError::Compacted`] and ends.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::futures::OwnedNotified;

use crate::log::{Fill, Shared, Topic};
use crate::{Event, StoreError};

/// Events taken from the topic at a time: enough to make its lock rare, few enough to hold no memory.
const BATCH: usize = 64;

/// The changes of one prefix from one revision on. Made by [`crate::Store::watch`].
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
    /// Everything up to here was delivered.
    cursor: u64,
    buffer: VecDeque<Arc<Event>>,
    /// What wakes the watcher. It is older than the last look at the topic, so that no change falls between the two.
    woken: Option<Pin<Box<OwnedNotified>>>,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, topic: Arc<Topic>, after: u64) -> Self {
        Self { shared, topic, cursor: after, buffer: VecDeque::new(), woken: None, ended: false }
    }

    /// The next change. Waits until there is one; an error is the last thing it gives, and `None` says that the watch
    /// is over (after an error, or because the store was closed). Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Watch::next`] for those who poll. The task that asked last is woken; a watcher that is asked again and again
    /// allocates nothing.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arc<Event>, StoreError>>> {
        loop {
            let topic = &self.topic;
            self.woken.get_or_insert_with(|| Box::pin(topic.woken()));
            if let Some(ready) = self.try_next() {
                return Poll::Ready(Some(ready));
            }
            let Some(woken) = self.woken.as_mut().filter(|_| !self.ended) else { return Poll::Ready(None) };
            ready!(woken.as_mut().poll(cx));
            woken.set(self.topic.woken());
        }
    }

    /// The next change if there is one now; never waits.
    pub fn try_next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        if self.ended {
            return None;
        }
        if self.buffer.is_empty() {
            match self.shared.fill(&self.topic, self.cursor, &mut self.buffer, BATCH) {
                Fill::Some => {}
                Fill::Nothing => return None,
                Fill::Closed => {
                    self.ended = true;
                    return None;
                }
                Fill::Lost(revision) => {
                    self.ended = true;
                    return Some(Err(StoreError::Compacted { revision }));
                }
            }
        }
        let event = self.buffer.pop_front()?;
        self.cursor = event.revision;
        Some(Ok(event))
    }

    /// The revision up to which everything was delivered: what a bookmark may promise. On a watch with nothing
    /// pending it is the store's newest revision. It never goes back. Costs an atomic read or two while idle.
    pub fn revision(&self) -> u64 {
        // The order matters: what the topic holds is complete up to a revision read before looking at the topic.
        let current = self.shared.current();
        match self.buffer.front() {
            Some(pending) => pending.revision - 1,
            None => self.topic.complete(self.cursor, current),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.leave(&self.topic);
    }
}
