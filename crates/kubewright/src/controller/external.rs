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
    waiting: Vec<(Key, String)>,
}

/// A way to make a controller look at an object. Clones lead to the same controller.
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
#[derive(Clone, Default)]
pub struct External(Arc<Mutex<State>>);

impl External {
    /// One that leads nowhere yet.
    pub fn new() -> External {
        External::default()
    }

    /// Has an object reconciled, as soon as its controller runs; `why` is told to the reconciler. Never waits.
    pub fn trigger(&self, key: Key, why: &str) {
        let mut state = self.0.lock();
        match &state.queue {
            Some(queue) => queue.add(key, Priority::LIVE, Reason::External(why.to_owned())),
            None if state.waiting.len() < WAITING => state.waiting.push((key, why.to_owned())),
            None => {
                tracing::warn!(object = %key, why, "too many events wait for a controller that doesn't run")
            }
        }
    }

    pub(crate) fn connect(&self, queue: &Arc<SharedQueue<Key, Reason>>) {
        let mut state = self.0.lock();
        for (key, why) in std::mem::take(&mut state.waiting) {
            queue.add(key, Priority::LIVE, Reason::External(why));
        }
        state.queue = Some(Arc::clone(queue));
    }

    pub(crate) fn disconnect(&self) {
        self.0.lock().queue = None;
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
        external.disconnect();
        external.trigger("c".into(), "late");
        assert_eq!(queue.read(|queue, _| queue.depth()), 0);
    }
}
