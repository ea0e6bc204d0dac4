//! Events that come from outside of the cluster: a webhook of another system, a timer, a message. They enter
//! a controller's queue like any other, and may be sent before it runs and while it stands by.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Reason;
use crate::kind::Key;
use crate::queue::{Priority, SharedQueue};

/// Keys kept for a controller that doesn't run yet; more are dropped and the oldest go first.
const WAITING: usize = 65_536;

#[derive(Default)]
struct State {
    queue: Option<Arc<SharedQueue<Key, Reason>>>,
    waiting: Vec<(Key, Priority, String)>,
}

/// A way to make a controller look at an object. Clones lead to the same controller.
///
/// Where replicas share the objects ([`Sharding`](crate::Sharding)), an event has to reach all replicas, or the one that owns the
/// object: it works on it, and the others leave the event alone. The same goes for replicas that elect a leader.
///
/// ```no_run
/// # use kubewright::{Controller, External, Key};
/// # fn build(controller: Controller) -> Controller {
/// let payments = External::new();
/// let sender = payments.clone(); // goes to whatever hears of payments
/// std::thread::spawn(move || sender.trigger(Key::new("shop", "order-7"), "paid"));
/// controller.external(&payments)
/// # }
/// ```
#[derive(Clone)]
pub struct External {
    state: Arc<Mutex<State>>,
    priority: Priority,
}

impl Default for External {
    fn default() -> External {
        External { state: Arc::default(), priority: Priority::LIVE }
    }
}

impl External {
    /// One that leads nowhere yet.
    pub fn new() -> External {
        External::default()
    }

    /// How urgent is what comes through this value and its clones from now on; [`Priority::LIVE`] by default. Another
    /// clone may be as urgent as before.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> External {
        self.priority = priority;
        self
    }

    /// Has an object reconciled, as soon as its controller runs; `why` is told to the reconciler. Never waits.
    pub fn trigger(&self, key: Key, why: &str) {
        let mut state = self.state.lock();
        match &state.queue {
            Some(queue) => queue.add(key, self.priority, Reason::External(why.to_owned())),
            None if state.waiting.len() < WAITING => state.waiting.push((key, self.priority, why.to_owned())),
            None => {
                tracing::warn!(object = %key, why, "too many events wait for a controller that doesn't run")
            }
        }
    }

    pub(crate) fn connect(&self, queue: &Arc<SharedQueue<Key, Reason>>) {
        let mut state = self.state.lock();
        for (key, priority, why) in std::mem::take(&mut state.waiting) {
            queue.add(key, priority, Reason::External(why));
        }
        state.queue = Some(Arc::clone(queue));
    }

    pub(crate) fn disconnect(&self) {
        self.state.lock().queue = None;
    }
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("External")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;

    #[tokio::test]
    async fn what_is_sent_before_the_controller_runs_is_kept() {
        let external = External::new();
        external.trigger("a".into(), "paid");
        let queue = Arc::new(SharedQueue::new(Queue::new(Queue::<Key, Reason>::BACKOFF)));
        external.connect(&queue);
        external.clone().trigger("b".into(), "refunded");
        let (first, second) = (queue.take().await, queue.take().await);
        assert_eq!((first.key.name(), first.reasons.first()), ("a", &[Reason::External("paid".into())][..]));
        assert_eq!(second.key.name(), "b");
        external.trigger("c".into(), "idle");
        external.clone().priority(Priority(5)).trigger("d".into(), "urgent");
        assert_eq!((queue.take().await.key.name(), queue.take().await.key.name()), ("d", "c"));
        external.disconnect();
        external.trigger("e".into(), "late");
        assert_eq!(queue.read(|queue, _| queue.depth()), 0);
    }
}
