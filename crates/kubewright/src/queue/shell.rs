//! The queue shared by informers, which add, and a controller, which takes: a mutex and a wake-up.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Outcome, Priority, Queue, Taken};
use crate::cache::Backoff;

/// A queue that several tasks use. One task at a time may take.
pub(crate) struct SharedQueue<K, R> {
    queue: Mutex<Queue<K, R>>,
    wake: Notify,
}

impl<K: Clone + Eq + Hash + Debug, R: PartialEq> SharedQueue<K, R> {
    pub(crate) fn new(backoff: Backoff) -> SharedQueue<K, R> {
        SharedQueue { queue: Mutex::new(Queue::new(backoff)), wake: Notify::new() }
    }

    pub(crate) fn add(&self, key: K, priority: Priority, reason: R) {
        self.queue.lock().add(key, priority, reason, Instant::now());
        self.wake.notify_one();
    }

    pub(crate) fn done(&self, key: &K, outcome: Outcome, reason: R) {
        self.queue.lock().done(key, outcome, reason, Instant::now());
        self.wake.notify_one();
    }

    pub(crate) fn clear(&self) {
        self.queue.lock().clear();
    }

    /// An item that is ready now.
    pub(crate) fn try_take(&self) -> Option<Taken<K, R>> {
        self.queue.lock().take(Instant::now())
    }

    /// Waits for an item. Ready ones are handed out without passing through a timer.
    pub(crate) async fn take(&self) -> Taken<K, R> {
        loop {
            let timer = {
                let mut queue = self.queue.lock();
                if let Some(taken) = queue.take(Instant::now()) {
                    return taken;
                }
                queue.next_timer()
            };
            // A wake-up between the look and the wait is kept by `notify_one`.
            match timer {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at.into(), self.wake.notified()).await;
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// Reads figures under the lock.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Queue<K, R>) -> T) -> T {
        read(&self.queue.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_item_added_by_another_task_is_taken() {
        let queue: Arc<SharedQueue<u8, &str>> = Arc::new(SharedQueue::new(Queue::<u8, &str>::BACKOFF));
        let taker = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.take().await.key }
        });
        queue.add(7, Priority::Live, "x");
        assert_eq!(taker.await.unwrap(), 7);
        queue.done(&7, Outcome::After(Duration::from_millis(1)), "again");
        assert_eq!(queue.take().await.key, 7);
    }
}
