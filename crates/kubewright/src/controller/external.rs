//! Events that come from outside of the cluster: a webhook of another system, a timer, a message. They enter
//! a controller's queue like any other, and may be sent before it runs and while it stands by.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Reason;
use crate::kind::Key;
use crate::queue::{Priority, SharedQueue};

/// Keys kept for a controller that doesn't run yet. When there are more, the one that has waited longest is dropped.
const WAITING: usize = 65_536;
/// Reasons kept of each; a reconciler is told no more of them.
const REASONS: usize = 8;

#[derive(Default)]
struct State {
    queue: Option<Arc<SharedQueue<Key, Reason>>>,
    waiting: HashMap<Key, Waiting>,
    /// The keys that wait, the first of them longest.
    order: VecDeque<Key>,
}

/// What waits for a controller, of one key.
struct Waiting {
    /// The highest of its events.
    priority: Priority,
    /// The first few distinct ones.
    reasons: Vec<String>,
}

impl State {
    fn wait(&mut self, key: Key, priority: Priority, why: &str) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.priority = waiting.priority.max(priority);
            if waiting.reasons.len() < REASONS && !waiting.reasons.iter().any(|known| known == why) {
                waiting.reasons.push(why.to_owned());
            }
            return;
        }
        if self.waiting.len() >= WAITING
            && let Some(dropped) = self.order.pop_front()
        {
            self.waiting.remove(&dropped);
            tracing::warn!(object = %dropped, "too many events wait for a controller that doesn't run");
        }
        self.order.push_back(key.clone());
        self.waiting.insert(key, Waiting { priority, reasons: vec![why.to_owned()] });
    }
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

    /// Has an object reconciled, as soon as its controller runs; `why` is told to the reconciler. Never waits. For a controller
    /// that doesn't run yet, the latest 65,536 objects are kept.
    pub fn trigger(&self, key: Key, why: &str) {
        let mut state = self.state.lock();
        match &state.queue {
            Some(queue) => queue.add(key, self.priority, Reason::External(why.to_owned())),
            None => state.wait(key, self.priority, why),
        }
    }

    pub(crate) fn connect(&self, queue: &Arc<SharedQueue<Key, Reason>>) {
        let mut state = self.state.lock();
        let mut waiting = std::mem::take(&mut state.waiting);
        for key in std::mem::take(&mut state.order) {
            let Some(Waiting { priority, reasons }) = waiting.remove(&key) else { continue };
            for why in reasons {
                queue.add(key.clone(), priority, Reason::External(why));
            }
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

    fn queue() -> Arc<SharedQueue<Key, Reason>> {
        Arc::new(SharedQueue::new(Queue::new(Queue::<Key, Reason>::BACKOFF)))
    }

    #[tokio::test]
    async fn an_object_waits_once_with_its_reasons_and_as_urgently_as_any_of_them() {
        let external = External::new();
        external.trigger("a".into(), "ordered");
        let urgent = external.clone().priority(Priority(5));
        (0..1000).for_each(|_| urgent.trigger("b".into(), "paid"));
        external.trigger("b".into(), "shipped");
        assert_eq!(external.state.lock().order, [Key::from("a"), Key::from("b")]);
        let queue = queue();
        external.connect(&queue);
        let first = queue.take().await;
        let reasons = ["paid", "shipped"].map(|why| Reason::External(why.into()));
        assert_eq!(
            (first.key.name(), first.priority, first.reasons.first()),
            ("b", Priority(5), &reasons[..])
        );
        assert_eq!((first.reasons.count(), queue.take().await.key.name()), (2, "a"));
    }

    #[tokio::test]
    async fn of_too_many_objects_the_one_that_has_waited_longest_goes() {
        let external = External::new();
        (0..=WAITING).for_each(|number| external.trigger(Key::new("n", &number.to_string()), "paid"));
        let queue = queue();
        external.connect(&queue);
        assert_eq!(queue.read(|queue, _| queue.depth()), WAITING);
        assert_eq!(queue.take().await.key.name(), "1");
    }

    #[tokio::test]
    async fn what_is_sent_before_the_controller_runs_is_kept() {
        let external = External::new();
        external.trigger("a".into(), "paid");
        let queue = queue();
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
