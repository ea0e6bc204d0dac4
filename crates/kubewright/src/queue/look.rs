//! A look at what is in a queue: where each item stands, since when, why, and how often it failed. Nothing is changed by it.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::item::State;
use super::{Priority, Queue, Reasons};

/// An item as it is at a moment.
#[derive(Debug)]
pub struct Looked<'a, K, R> {
    /// Which.
    pub key: &'a K,
    /// Where it stands.
    pub stands: Stands,
    /// How urgent it is.
    pub priority: Priority,
    /// Failures in a row so far.
    pub failures: u32,
    /// Why it is there; of one that runs, why it was wanted since.
    pub reasons: &'a Reasons<R>,
    /// Whose turn it takes, where turns go by tenant.
    pub tenant: Option<&'a str>,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stands {
    /// A worker has had it for so long.
    Running(Duration),
    /// It has been ready for so long.
    Ready(Duration),
    /// It will be ready after this time.
    Waiting(Duration),
}

impl<K: Clone + Eq + Hash + Debug, R: PartialEq> Queue<K, R> {
    /// All items, in no order.
    pub fn look(&self, now: Instant) -> impl Iterator<Item = Looked<'_, K, R>> {
        self.items.iter().filter_map(move |(key, item)| {
            let (stands, priority) = match item.state {
                State::Idle => return None,
                State::Running { ticket, priority, .. } => {
                    let since = self.running.get(&ticket).copied().unwrap_or(now);
                    (Stands::Running(now.saturating_duration_since(since)), priority)
                }
                State::Ready { priority, since, .. } => {
                    (Stands::Ready(now.saturating_duration_since(since)), priority)
                }
                State::Waiting { at, priority, .. } => {
                    (Stands::Waiting(at.saturating_duration_since(now)), priority)
                }
            };
            let (failures, reasons, tenant) = (item.failures, &item.reasons, item.tenant.as_deref());
            Some(Looked { key, stands, priority, failures, reasons, tenant })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Outcome;

    #[test]
    fn a_look_tells_where_items_stand_since_when_and_why() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue: Queue<u8, &str> = Queue::new(Queue::<u8, &str>::BACKOFF);
        queue.add(1, Priority::LIVE, "first", start);
        queue.take(start).unwrap();
        queue.done(&1, Outcome::Failed, "retried", start);
        queue.add(2, Priority::LIVE, "second", start);
        queue.take(start).unwrap();
        queue.add(2, Priority::LIVE, "again", at(1));
        queue.add(3, Priority::LOW, "third", at(2));
        let mut looked: Vec<_> = queue.look(at(5)).collect();
        looked.sort_by_key(|item| item.stands);
        let told: Vec<_> =
            looked.iter().map(|item| (*item.key, item.stands, item.failures, item.reasons.first())).collect();
        let seconds = Duration::from_secs;
        assert_eq!(
            told,
            [
                (2, Stands::Running(seconds(5)), 0, &["again"][..]),
                (3, Stands::Ready(seconds(3)), 0, &["third"][..]),
                // Its time has come; nobody has taken anything since.
                (1, Stands::Waiting(Duration::ZERO), 1, &["retried"][..]),
            ]
        );
    }
}
