//! The queue of keys to reconcile, as a pure state machine that takes `now`: every key is there once,
//! is never handled by two workers at once, waits out its own backoff, and knows why it is there.
//! Which of the ready ones comes next is for `turns` to say, and how fast for [`RateLimit`].

#[cfg(test)]
mod interleavings;
mod item;
mod look;
mod priority;
#[cfg(test)]
mod properties;
mod shell;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod stage;
mod tenants;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use self::item::{Item, State};
pub use self::item::{Outcome, Reasons, Taken};
pub use self::look::{Looked, Stands};
pub use self::priority::Priority;
pub(crate) use self::shell::SharedQueue;
pub use self::tenants::Tenants;
use self::turns::Turns;
use crate::cache::Backoff;
use crate::rate::{Bucket, RateLimit};

/// Seeded anew in every process, as names are what users choose.
type Items<K, R> = HashMap<K, Item<R>, RandomState>;

/// As good as never, where a delay is too long for the clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The queue.
#[derive(Debug)]
pub struct Queue<K, R> {
    items: Items<K, R>,
    ready: Turns<K>,
    timers: BTreeMap<(Instant, u64), K>,
    /// When each item that runs was handed out, by its ticket.
    running: HashMap<u64, Instant, RandomState>,
    backoff: Backoff,
    tenants: Option<Tenants<K>>,
    limit: Option<Bucket>,
    tickets: u64,
    adds: u64,
    retries: u64,
}

impl<K: Clone + Eq + Hash + Debug, R: PartialEq> Queue<K, R> {
    /// The default backoff of an item: 5 ms doubling up to 1000 s, as in client-go's work queue.
    pub const BACKOFF: Backoff = Backoff { first: Duration::from_millis(5), cap: Duration::from_secs(1000) };

    /// An empty queue.
    pub fn new(backoff: Backoff) -> Queue<K, R> {
        Queue {
            items: Items::default(),
            ready: Turns::new(),
            timers: BTreeMap::new(),
            running: HashMap::default(),
            backoff,
            tenants: None,
            limit: None,
            tickets: 0,
            adds: 0,
            retries: 0,
        }
    }

    /// The same queue, whose turns are shared among tenants. Costs a look-up by tenant for an item.
    #[must_use]
    pub fn fair_by(mut self, tenants: Tenants<K>) -> Queue<K, R> {
        self.tenants = Some(tenants);
        self
    }

    /// The same queue, which hands out no faster than this.
    #[must_use]
    pub fn limited(mut self, limit: RateLimit) -> Queue<K, R> {
        self.limit = Some(Bucket::new(limit));
        self
    }

    fn item(&mut self, key: &K) -> &mut Item<R> {
        let tenants = &self.tenants;
        self.items
            .entry(key.clone())
            .or_insert_with(|| Item::new(tenants.as_ref().map(|tenants| tenants.of(key))))
    }

    /// Wants a key reconciled now. A key that waits out a timer becomes ready at once; one that runs
    /// runs again afterwards. Of two priorities the greater counts.
    pub fn add(&mut self, key: K, priority: Priority, reason: R, now: Instant) {
        let item = self.item(&key);
        item.reasons.add(reason);
        match &mut item.state {
            State::Running { again, .. } => {
                *again = Some(again.map_or(priority, |known| known.max(priority)))
            }
            State::Ready { priority: known, .. } if *known >= priority => {}
            State::Ready { priority: known, since, .. } => {
                let (known, since) = (*known, *since);
                let tenant = item.tenant.clone();
                self.make_ready(key, priority, since);
                let items = &self.items;
                self.ready.withdraw(known, tenant.as_ref(), &|key, ticket| is_current(items, key, ticket));
            }
            State::Waiting { at, ticket, priority: known } => {
                let (timer, priority) = ((*at, *ticket), priority.max(*known));
                self.timers.remove(&timer);
                self.make_ready(key, priority, now);
            }
            State::Idle => self.make_ready(key, priority, now),
        }
    }

    fn make_ready(&mut self, key: K, priority: Priority, since: Instant) {
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(item) = self.items.get_mut(&key) else { return };
        self.adds += u64::from(!matches!(item.state, State::Ready { .. }));
        item.state = State::Ready { ticket, priority, since };
        self.ready.push(priority, item.tenant.as_ref(), key, ticket);
    }

    fn make_wait(&mut self, key: K, priority: Priority, delay: Duration, now: Instant) {
        self.tickets += 1;
        self.retries += 1;
        let (ticket, at) = (self.tickets, now.checked_add(delay).unwrap_or(now + FAR));
        if let Some(item) = self.items.get_mut(&key) {
            item.state = State::Waiting { at, ticket, priority };
            self.timers.insert((at, ticket), key);
        }
    }

    /// Wants a key reconciled after a delay, unless it is ready or running, or waits for less already.
    pub fn add_after(&mut self, key: K, delay: Duration, priority: Priority, reason: R, now: Instant) {
        if delay.is_zero() {
            return self.add(key, priority, reason, now);
        }
        let item = self.item(&key);
        let priority = match &mut item.state {
            State::Ready { .. } | State::Running { .. } => return,
            State::Waiting { at, priority: known, .. } if at.saturating_duration_since(now) <= delay => {
                *known = priority.max(*known);
                return;
            }
            State::Waiting { at, ticket, priority: known } => {
                let (timer, priority) = ((*at, *ticket), priority.max(*known));
                item.reasons.add(reason);
                self.timers.remove(&timer);
                priority
            }
            State::Idle => {
                item.reasons.add(reason);
                priority
            }
        };
        self.make_wait(key, priority, delay, now);
    }

    fn fire(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            let due = entry.key().0;
            if due > now {
                return;
            }
            let key = entry.remove();
            if let Some(State::Waiting { priority, .. }) = self.items.get(&key).map(|item| &item.state) {
                let priority = *priority;
                self.make_ready(key, priority, due);
            }
        }
    }

    /// Hands out the next ready item, if there is one and the limit allows it. Nobody else gets its key until
    /// [`done`](Self::done).
    pub fn take(&mut self, now: Instant) -> Option<Taken<K, R>> {
        self.fire(now);
        if self.limit.as_ref().is_some_and(|limit| limit.opens(now).is_some()) {
            return None;
        }
        let items = &self.items;
        let key = self.ready.next(&|key, ticket| is_current(items, key, ticket))?;
        let item = self.items.get_mut(&key)?;
        let State::Ready { ticket, priority, since } = item.state else { return None };
        item.state = State::Running { ticket, priority, again: None };
        self.running.insert(ticket, now);
        if let Some(limit) = &mut self.limit {
            limit.spend(now);
        }
        Some(Taken {
            reasons: std::mem::take(&mut item.reasons),
            failures: item.failures,
            waited: now.saturating_duration_since(since),
            priority,
            key,
        })
    }

    /// Takes an item back from its worker. How long that had it; nothing when it was not handed out.
    ///
    /// What happened meanwhile is news, and news does not wait: the item is ready at once whatever the outcome.
    pub fn done(&mut self, key: &K, outcome: Outcome, reason: R, now: Instant) -> Option<Duration> {
        let item = self.items.get_mut(key)?;
        let State::Running { ticket, priority, again } = item.state else { return None };
        item.state = State::Idle;
        item.failures = match outcome {
            Outcome::Failed => item.failures.saturating_add(1),
            Outcome::Done | Outcome::After { .. } | Outcome::GaveUp | Outcome::Declined => 0,
        };
        let failures = item.failures;
        let later = match outcome {
            Outcome::Done | Outcome::GaveUp | Outcome::Declined => None,
            Outcome::After { delay, priority: wanted } => Some((delay, wanted.unwrap_or(priority))),
            Outcome::Failed => Some((self.backoff.delay(failures), priority)),
        };
        if outcome == Outcome::Declined
            && let Some(limit) = &mut self.limit
        {
            limit.refund();
        }
        match (again, later) {
            (Some(again), later) => {
                let priority = later.map_or(again, |(_, wanted)| wanted.max(again));
                self.make_ready(key.clone(), priority, now);
            }
            (None, Some((delay, priority))) => {
                item.reasons.add(reason);
                self.make_wait(key.clone(), priority, delay, now);
            }
            (None, None) => {
                self.items.remove(key);
            }
        }
        Some(now.saturating_duration_since(self.running.remove(&ticket)?))
    }

    /// Forgets the keys that are not to be kept. One that is handed out is not wanted again afterwards.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        let gone: Vec<K> = self.items.keys().filter(|key| !keep(key)).cloned().collect();
        for key in gone {
            if let Some(item) = self.items.get_mut(&key)
                && let State::Running { again, .. } = &mut item.state
            {
                *again = None;
                item.reasons = Reasons::default();
                continue;
            }
            let Some(item) = self.items.remove(&key) else { continue };
            match item.state {
                State::Waiting { at, ticket, .. } => {
                    self.timers.remove(&(at, ticket));
                }
                State::Ready { priority, .. } => {
                    let items = &self.items;
                    let current = |key: &K, ticket| is_current(items, key, ticket);
                    self.ready.withdraw(priority, item.tenant.as_ref(), &current);
                }
                State::Idle | State::Running { .. } => {}
            }
        }
    }

    /// Forgets everything. What is handed out is nobody's business any more.
    pub fn clear(&mut self) {
        self.items.clear();
        self.ready = Turns::new();
        self.timers.clear();
        self.running.clear();
    }

    /// When [`take`](Self::take) is worth another try that nothing else leads to: a timer fires, or the limit allows
    /// what is ready.
    pub fn next_timer(&self, now: Instant) -> Option<Instant> {
        let opens = self.limit.as_ref().and_then(|limit| limit.opens(now));
        match opens.filter(|_| self.ready.len() > 0) {
            Some(opens) => Some(opens),
            None => self.timers.first_key_value().map(|((at, _), _)| *at),
        }
    }

    /// Items that could be taken now (timers that are due but not fired yet aside, and whatever the limit says).
    pub fn depth(&self) -> usize {
        self.ready.len()
    }

    /// The same by priority, the highest first. Some priorities may have none.
    pub fn depths(&self) -> impl Iterator<Item = (Priority, usize)> {
        self.ready.by_priority()
    }

    /// Keys known: ready, running or waiting.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How often a key became ready so far.
    pub fn adds(&self) -> u64 {
        self.adds
    }

    /// How often a key was made to wait so far: after failures, and because it was asked for.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// How much of everything there is.
    #[cfg(test)]
    pub(crate) fn held(&self) -> Held {
        Held {
            keys: self.items.len(),
            places: self.ready.places(),
            timers: self.timers.len(),
            running: self.running.len(),
            reasons: self.items.values().map(|item| item.reasons.first().len()).sum(),
        }
    }

    /// How long the items that are handed out have been with their workers: together, and the longest.
    pub fn unfinished(&self, now: Instant) -> (Duration, Duration) {
        let ages = || self.running.values().map(|since| now.saturating_duration_since(*since));
        (ages().sum(), ages().max().unwrap_or_default())
    }
}

/// What a queue holds.
#[cfg(test)]
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) keys: usize,
    pub(crate) places: usize,
    pub(crate) timers: usize,
    pub(crate) running: usize,
    pub(crate) reasons: usize,
}

fn is_current<K: Eq + Hash, R>(items: &Items<K, R>, key: &K, ticket: u64) -> bool {
    items.get(key).is_some_and(|item| item.is_ready_under(ticket))
}
