//! The queue shared by informers, which add, and a controller, which takes: a lock and a wake-up. What these are is a
//! parameter, so that tests can go through every order in which threads may meet.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Outcome, Priority, Queue, Taken};

/// What the shell stands on.
pub(crate) trait Parts: Send + Sync {
    /// A value that one thread at a time may use.
    type Lock<T>;

    /// Puts a value under a lock.
    fn lock<T>(value: T) -> Self::Lock<T>;

    /// Uses the value.
    fn with<T, O>(lock: &Self::Lock<T>, body: impl FnOnce(&mut T) -> O) -> O;

    /// The time.
    fn now(&self) -> Instant;

    /// Wakes who waits, or else who waits next.
    fn wake(&self);

    /// Waits to be woken, or for a time.
    fn wait(&self, until: Option<Instant>) -> impl Future<Output = ()> + Send;
}

/// Locks of parking_lot, and tokio's wake-ups and timers.
#[derive(Default)]
pub(crate) struct Tokio {
    wake: Notify,
    clock: Clock,
}

/// Where the time comes from.
#[derive(Clone, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    #[cfg(test)]
    Simulated(super::simulated::Time),
}

impl Parts for Tokio {
    type Lock<T> = Mutex<T>;

    fn lock<T>(value: T) -> Mutex<T> {
        Mutex::new(value)
    }

    fn with<T, O>(lock: &Mutex<T>, body: impl FnOnce(&mut T) -> O) -> O {
        body(&mut lock.lock())
    }

    fn now(&self) -> Instant {
        match &self.clock {
            Clock::System => Instant::now(),
            #[cfg(test)]
            Clock::Simulated(time) => time.now(),
        }
    }

    fn wake(&self) {
        self.wake.notify_one();
    }

    async fn wait(&self, until: Option<Instant>) {
        match (&self.clock, until) {
            (Clock::System, Some(at)) => {
                let _ = tokio::time::timeout_at(at.into(), self.wake.notified()).await;
            }
            #[cfg(test)]
            (Clock::Simulated(time), Some(at)) => tokio::select! {
                () = self.wake.notified() => {}
                () = time.until(at) => {}
            },
            (_, None) => self.wake.notified().await,
        }
    }
}

/// A queue that several tasks use. One task at a time may take.
pub(crate) struct SharedQueue<K, R, P: Parts = Tokio> {
    queue: P::Lock<Queue<K, R>>,
    parts: P,
}

impl<K: Clone + Eq + Hash + Debug, R: PartialEq> SharedQueue<K, R> {
    pub(crate) fn new(queue: Queue<K, R>) -> SharedQueue<K, R> {
        SharedQueue::on(Tokio::default(), queue)
    }

    /// A queue on a time that only the test moves on.
    #[cfg(test)]
    pub(crate) fn simulated(time: &super::simulated::Time, queue: Queue<K, R>) -> SharedQueue<K, R> {
        let clock = Clock::Simulated(time.clone());
        SharedQueue::on(Tokio { wake: Notify::new(), clock }, queue)
    }
}

impl<K: Clone + Eq + Hash + Debug, R: PartialEq, P: Parts> SharedQueue<K, R, P> {
    pub(crate) fn on(parts: P, queue: Queue<K, R>) -> SharedQueue<K, R, P> {
        SharedQueue { queue: P::lock(queue), parts }
    }

    pub(crate) fn add(&self, key: K, priority: Priority, reason: R) {
        P::with(&self.queue, |queue| queue.add(key, priority, reason, self.parts.now()));
        self.parts.wake();
    }

    /// Takes an item back; how long its worker had it.
    pub(crate) fn done(&self, key: &K, outcome: Outcome, reason: R) -> Option<Duration> {
        let worked = P::with(&self.queue, |queue| queue.done(key, outcome, reason, self.parts.now()));
        self.parts.wake();
        worked
    }

    pub(crate) fn retain(&self, keep: impl Fn(&K) -> bool) {
        P::with(&self.queue, |queue| queue.retain(keep));
    }

    pub(crate) fn clear(&self) {
        P::with(&self.queue, Queue::clear);
    }

    /// An item that is ready now.
    pub(crate) fn try_take(&self) -> Option<Taken<K, R>> {
        P::with(&self.queue, |queue| queue.take(self.parts.now()))
    }

    /// Waits for an item. Ready ones are handed out without passing through a timer.
    pub(crate) async fn take(&self) -> Taken<K, R> {
        loop {
            let timer = P::with(&self.queue, |queue| {
                let now = self.parts.now();
                queue.take(now).ok_or_else(|| queue.next_timer(now))
            });
            match timer {
                Ok(taken) => return taken,
                // A wake-up between the look and the wait is kept for it.
                Err(timer) => self.parts.wait(timer).await,
            }
        }
    }

    /// Reads figures under the lock.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Queue<K, R>, Instant) -> T) -> T {
        P::with(&self.queue, |queue| read(queue, self.parts.now()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_item_added_by_another_task_is_taken() {
        let queue: Arc<SharedQueue<u8, &str>> =
            Arc::new(SharedQueue::new(Queue::new(Queue::<u8, &str>::BACKOFF)));
        let taker = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.take().await.key }
        });
        queue.add(7, Priority::LIVE, "x");
        assert_eq!(taker.await.unwrap(), 7);
        queue.done(&7, Outcome::After { delay: Duration::from_millis(1), priority: None }, "again");
        assert_eq!(queue.take().await.key, 7);
    }

    /// Counts how often anybody waits, and until when.
    #[derive(Default)]
    struct Counted {
        waits: Mutex<Vec<Option<Instant>>>,
    }

    impl Parts for Counted {
        type Lock<T> = Mutex<T>;

        fn lock<T>(value: T) -> Mutex<T> {
            Tokio::lock(value)
        }

        fn with<T, O>(lock: &Mutex<T>, body: impl FnOnce(&mut T) -> O) -> O {
            Tokio::with(lock, body)
        }

        fn now(&self) -> Instant {
            Instant::now()
        }

        fn wake(&self) {}

        async fn wait(&self, until: Option<Instant>) {
            self.waits.lock().push(until);
            std::future::pending().await
        }
    }

    #[test]
    fn what_is_ready_is_taken_without_a_timer_though_something_else_waits_for_its_time() {
        let queue: SharedQueue<u8, &str, Counted> =
            SharedQueue::on(Counted::default(), Queue::new(Queue::<u8, &str>::BACKOFF));
        let hour = Duration::from_secs(3600);
        queue.add(1, Priority::LIVE, "first");
        assert_eq!(queue.take().now_or_never().unwrap().key, 1);
        queue.done(&1, Outcome::After { delay: hour, priority: None }, "later");
        for key in 2..100 {
            queue.add(key, Priority::LIVE, "now");
            assert_eq!(queue.take().now_or_never().unwrap().key, key);
            queue.done(&key, Outcome::Done, "done");
        }
        assert!(queue.parts.waits.lock().is_empty());
        assert!(queue.take().now_or_never().is_none());
        assert!(queue.parts.waits.lock()[0].is_some_and(|until| until > Instant::now()));
    }
}
