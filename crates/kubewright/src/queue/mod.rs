//! The queue of keys to reconcile, as a pure state machine that takes `now`: every key is there once,
//! is never handled by two workers at once, waits out its own backoff, and knows why it is there.
//! Live events go before the initial list and resyncs, which still get their turn.

mod shell;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::cache::Backoff;

pub(crate) use self::shell::SharedQueue;

/// How urgent an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Found by a list or a resync: nothing happened just now.
    Low,
    /// Something happened just now.
    Live,
}

/// Items of low priority get every so-manieth turn while live ones wait.
const LOW_TURN: u32 = 8;
/// Reasons kept an item; more are only counted.
const REASONS: usize = 8;

/// Why an item is in the queue: the first few reasons, and how many there were.
#[derive(Clone, Debug)]
pub struct Reasons<R> {
    first: Vec<R>,
    count: u64,
}

impl<R> Default for Reasons<R> {
    fn default() -> Self {
        Reasons { first: Vec::new(), count: 0 }
    }
}

impl<R: PartialEq> Reasons<R> {
    fn add(&mut self, reason: R) {
        self.count += 1;
        if self.first.len() < REASONS && !self.first.contains(&reason) {
            self.first.push(reason);
        }
    }
}

impl<R> Reasons<R> {
    /// The first distinct reasons, at most 8.
    pub fn first(&self) -> &[R] {
        &self.first
    }

    /// How many there were in all, repeated ones included.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// An item handed to a worker.
#[derive(Clone, Debug)]
pub struct Taken<K, R> {
    /// What to reconcile.
    pub key: K,
    /// Why.
    pub reasons: Reasons<R>,
    /// Failures in a row before this attempt.
    pub failures: u32,
    /// How long it waited since it became ready.
    pub waited: Duration,
}

/// How a worker's attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; failures are forgotten.
    Done,
    /// Done, and to be run again after this time.
    After(Duration),
    /// Failed: to be run again after its backoff.
    Failed,
    /// Failed in a way that trying again can't repair.
    GaveUp,
}

#[derive(Debug)]
enum State {
    Idle,
    Ready {
        ticket: u64,
        priority: Priority,
        since: Instant,
    },
    Running,
    /// Running, and wanted again meanwhile.
    RunningAgain {
        priority: Priority,
    },
    Waiting {
        at: Instant,
        ticket: u64,
    },
}

#[derive(Debug)]
struct Item<R> {
    state: State,
    failures: u32,
    reasons: Reasons<R>,
}

/// The queue.
#[derive(Debug)]
pub struct Queue<K, R> {
    items: HashMap<K, Item<R>>,
    live: VecDeque<(K, u64)>,
    low: VecDeque<(K, u64)>,
    timers: BTreeMap<(Instant, u64), K>,
    backoff: Backoff,
    tickets: u64,
    live_in_a_row: u32,
    ready: usize,
    adds: u64,
    retries: u64,
}

impl<K: Clone + Eq + Hash + Debug, R: PartialEq> Queue<K, R> {
    /// The default backoff of an item: 5 ms doubling up to 1000 s, as in client-go's work queue.
    pub const BACKOFF: Backoff = Backoff { first: Duration::from_millis(5), cap: Duration::from_secs(1000) };

    /// An empty queue.
    pub fn new(backoff: Backoff) -> Queue<K, R> {
        Queue {
            items: HashMap::new(),
            live: VecDeque::new(),
            low: VecDeque::new(),
            timers: BTreeMap::new(),
            backoff,
            tickets: 0,
            live_in_a_row: 0,
            ready: 0,
            adds: 0,
            retries: 0,
        }
    }

    /// Wants a key reconciled now. A key that waits out a timer becomes ready at once; one that runs
    /// runs again afterwards.
    pub fn add(&mut self, key: K, priority: Priority, reason: R, now: Instant) {
        self.adds += 1;
        let item = self.items.entry(key.clone()).or_insert_with(|| Item {
            state: State::Idle,
            failures: 0,
            reasons: Reasons::default(),
        });
        item.reasons.add(reason);
        match &mut item.state {
            State::Running => item.state = State::RunningAgain { priority },
            State::RunningAgain { priority: wanted } => *wanted = priority.max(*wanted),
            State::Ready { priority: wanted, .. } if *wanted >= priority => {}
            State::Ready { since, .. } => {
                let since = *since;
                self.make_ready(key, priority, since);
            }
            State::Waiting { at, ticket } => {
                self.timers.remove(&(*at, *ticket));
                self.make_ready(key, priority, now);
            }
            State::Idle => self.make_ready(key, priority, now),
        }
    }

    fn make_ready(&mut self, key: K, priority: Priority, since: Instant) {
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(item) = self.items.get_mut(&key) else { return };
        if !matches!(item.state, State::Ready { .. }) {
            self.ready += 1;
        }
        item.state = State::Ready { ticket, priority, since };
        match priority {
            Priority::Live => self.live.push_back((key, ticket)),
            Priority::Low => self.low.push_back((key, ticket)),
        }
    }

    fn make_wait(&mut self, key: K, at: Instant) {
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(item) = self.items.get_mut(&key) {
            item.state = State::Waiting { at, ticket };
            self.timers.insert((at, ticket), key);
        }
    }

    /// Wants a key reconciled after a delay, unless it is ready or running, or waits for less already.
    pub fn add_after(&mut self, key: K, delay: Duration, reason: R, now: Instant) {
        if delay.is_zero() {
            return self.add(key, Priority::Live, reason, now);
        }
        let at = now + delay;
        match self.items.get(&key).map(|item| &item.state) {
            Some(State::Ready { .. } | State::Running | State::RunningAgain { .. }) => return,
            Some(State::Waiting { at: sooner, .. }) if *sooner <= at => return,
            Some(State::Waiting { at, ticket }) => {
                self.timers.remove(&(*at, *ticket));
            }
            Some(State::Idle) | None => {}
        }
        let item = self.items.entry(key.clone()).or_insert_with(|| Item {
            state: State::Idle,
            failures: 0,
            reasons: Reasons::default(),
        });
        item.reasons.add(reason);
        self.make_wait(key, at);
    }

    fn fire(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let due = entry.key().0;
            let key = entry.remove();
            self.make_ready(key, Priority::Live, due);
        }
    }

    /// Hands out the next ready item, if there is one. Nobody else gets its key until [`done`](Self::done).
    pub fn take(&mut self, now: Instant) -> Option<Taken<K, R>> {
        self.fire(now);
        loop {
            let low_turn = self.live_in_a_row >= LOW_TURN && !self.low.is_empty();
            let (key, ticket, was_live) = match (low_turn, self.live.pop_front()) {
                (false, Some((key, ticket))) => (key, ticket, true),
                (_, live) => {
                    if let Some(live) = live {
                        self.live.push_front(live);
                    }
                    let (key, ticket) = self.low.pop_front()?;
                    (key, ticket, false)
                }
            };
            let Some(item) = self.items.get_mut(&key) else { continue };
            let State::Ready { ticket: current, since, .. } = item.state else { continue };
            if current != ticket {
                continue;
            }
            self.live_in_a_row = if was_live { self.live_in_a_row.saturating_add(1) } else { 0 };
            self.ready -= 1;
            item.state = State::Running;
            return Some(Taken {
                reasons: std::mem::take(&mut item.reasons),
                failures: item.failures,
                waited: now.saturating_duration_since(since),
                key,
            });
        }
    }

    /// Takes an item back from its worker.
    pub fn done(&mut self, key: &K, outcome: Outcome, reason: R, now: Instant) {
        let Some(item) = self.items.get_mut(key) else { return };
        let again = match item.state {
            State::Running => None,
            State::RunningAgain { priority } => Some(priority),
            State::Idle | State::Ready { .. } | State::Waiting { .. } => return,
        };
        item.state = State::Idle;
        item.failures = match outcome {
            Outcome::Failed => item.failures.saturating_add(1),
            Outcome::Done | Outcome::After(_) | Outcome::GaveUp => 0,
        };
        let failures = item.failures;
        // What happened meanwhile is news, and news does not wait.
        if let Some(priority) = again {
            return self.make_ready(key.clone(), priority, now);
        }
        match outcome {
            Outcome::Done | Outcome::GaveUp => {
                self.items.remove(key);
            }
            Outcome::After(delay) => {
                item.reasons.add(reason);
                self.make_wait(key.clone(), now + delay);
            }
            Outcome::Failed => {
                self.retries += 1;
                item.reasons.add(reason);
                let delay = self.backoff.delay(failures);
                self.make_wait(key.clone(), now + delay);
            }
        }
    }

    /// Forgets everything. What is handed out is nobody's business any more.
    pub fn clear(&mut self) {
        self.items.clear();
        self.live.clear();
        self.low.clear();
        self.timers.clear();
        self.ready = 0;
        self.live_in_a_row = 0;
    }

    /// When the next timer fires.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Items that could be taken now (timers that are due but not fired yet aside).
    pub fn depth(&self) -> usize {
        self.ready
    }

    /// Keys known: ready, running or waiting.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Additions so far.
    pub fn adds(&self) -> u64 {
        self.adds
    }

    /// Retries after failures so far.
    pub fn retries(&self) -> u64 {
        self.retries
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    type Q = Queue<u8, &'static str>;

    fn queue() -> Q {
        Queue::new(Q::BACKOFF)
    }

    #[test]
    fn a_key_added_often_is_handed_out_once_with_its_reasons() {
        let now = Instant::now();
        let mut queue = queue();
        for reason in ["a", "b", "a"] {
            queue.add(1, Priority::Live, reason, now);
        }
        let taken = queue.take(now).unwrap();
        assert_eq!((taken.reasons.first(), taken.reasons.count()), (&["a", "b"][..], 3));
        assert!(queue.take(now).is_none());
        queue.done(&1, Outcome::Done, "", now);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_key_wanted_while_it_runs_runs_again_and_never_twice_at_once() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add(1, Priority::Live, "a", now);
        queue.take(now).unwrap();
        queue.add(1, Priority::Live, "b", now);
        assert!(queue.take(now).is_none());
        queue.done(&1, Outcome::Failed, "retry", now);
        assert_eq!(queue.take(now).unwrap().failures, 1);
    }

    #[test]
    fn failures_back_off_exponentially_and_success_forgets_them() {
        let mut now = Instant::now();
        let mut queue = queue();
        queue.add(1, Priority::Live, "a", now);
        for failures in 0..6u32 {
            let taken = queue.take(now).unwrap();
            assert_eq!(taken.failures, failures);
            queue.done(&1, Outcome::Failed, "retry", now);
            assert!(queue.take(now).is_none());
            let wake = queue.next_timer().unwrap();
            assert_eq!(wake - now, Duration::from_millis(5 << failures));
            now = wake;
        }
        queue.take(now).unwrap();
        queue.done(&1, Outcome::Done, "", now);
        queue.add(1, Priority::Live, "a", now);
        assert_eq!(queue.take(now).unwrap().failures, 0);
    }

    #[test]
    fn news_does_not_wait_for_a_timer() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add_after(1, Duration::from_secs(60), "later", now);
        assert!(queue.take(now).is_none());
        queue.add(1, Priority::Live, "now", now);
        assert!(queue.take(now).is_some());
        assert_eq!(queue.next_timer(), None);
    }

    #[test]
    fn the_sooner_of_two_timers_counts() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add_after(1, Duration::from_secs(60), "a", now);
        queue.add_after(1, Duration::from_secs(5), "b", now);
        queue.add_after(1, Duration::from_secs(90), "c", now);
        assert_eq!(queue.next_timer(), Some(now + Duration::from_secs(5)));
        assert!(queue.take(now + Duration::from_secs(5)).is_some());
        queue.done(&1, Outcome::After(Duration::from_secs(7)), "again", now);
        assert_eq!(queue.next_timer(), Some(now + Duration::from_secs(7)));
    }

    #[test]
    fn live_events_go_first_and_the_initial_list_still_gets_its_turn() {
        let now = Instant::now();
        let mut queue: Queue<u32, &'static str> = Queue::new(Q::BACKOFF);
        (0..10).for_each(|key| queue.add(key, Priority::Low, "list", now));
        (100..120).for_each(|key| queue.add(key, Priority::Live, "event", now));
        let order: Vec<u32> = (0..10).filter_map(|_| queue.take(now)).map(|taken| taken.key).collect();
        assert_eq!(order, [100, 101, 102, 103, 104, 105, 106, 107, 0, 108]);
    }

    #[test]
    fn an_event_promotes_a_key_of_the_initial_list() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add(1, Priority::Low, "list", now);
        queue.add(2, Priority::Low, "list", now);
        queue.add(2, Priority::Live, "event", now);
        assert_eq!(queue.take(now).unwrap().key, 2);
        assert_eq!(queue.take(now).unwrap().key, 1);
        assert!(queue.take(now).is_none());
        assert_eq!(queue.depth(), 0);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Add(u8, bool),
        AddAfter(u8, u64),
        Take,
        Done(usize, Outcome),
        Pass(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let outcome = prop_oneof![
            Just(Outcome::Done),
            Just(Outcome::Failed),
            Just(Outcome::GaveUp),
            (1u64..50).prop_map(|ms| Outcome::After(Duration::from_millis(ms))),
        ];
        prop_oneof![
            (0u8..6, any::<bool>()).prop_map(|(key, live)| Op::Add(key, live)),
            (0u8..6, 0u64..40).prop_map(|(key, ms)| Op::AddAfter(key, ms)),
            Just(Op::Take),
            (0usize..4, outcome).prop_map(|(which, outcome)| Op::Done(which, outcome)),
            (0u64..30).prop_map(Op::Pass),
        ]
    }

    proptest! {
        #[test]
        fn no_key_is_lost_or_run_twice_at_once(ops in prop::collection::vec(op(), 0..200)) {
            let mut now = Instant::now();
            let mut queue = queue();
            let mut running: Vec<u8> = Vec::new();
            // Keys that must be handed out again before the queue may be empty.
            let mut wanted: HashSet<u8> = HashSet::new();
            for op in ops {
                match op {
                    Op::Add(key, live) => {
                        queue.add(key, if live { Priority::Live } else { Priority::Low }, "add", now);
                        wanted.insert(key);
                    }
                    Op::AddAfter(key, ms) => {
                        queue.add_after(key, Duration::from_millis(ms), "after", now);
                        if ms == 0 || !running.contains(&key) {
                            wanted.insert(key);
                        }
                    }
                    Op::Take => if let Some(taken) = queue.take(now) {
                        prop_assert!(!running.contains(&taken.key));
                        prop_assert!(wanted.remove(&taken.key), "{} was not wanted", taken.key);
                        running.push(taken.key);
                    },
                    Op::Done(which, outcome) => if !running.is_empty() {
                        let key = running.remove(which % running.len());
                        queue.done(&key, outcome, "retry", now);
                        if matches!(outcome, Outcome::Failed | Outcome::After(_)) {
                            wanted.insert(key);
                        }
                    },
                    Op::Pass(ms) => now += Duration::from_millis(ms),
                }
                let known: HashSet<u8> = wanted.iter().chain(&running).copied().collect();
                prop_assert_eq!(queue.len(), known.len());
            }
            for key in running.drain(..) {
                queue.done(&key, Outcome::Done, "", now);
            }
            now += Duration::from_secs(2000);
            while let Some(taken) = queue.take(now) {
                prop_assert!(wanted.remove(&taken.key));
                queue.done(&taken.key, Outcome::Done, "", now);
            }
            prop_assert!(wanted.is_empty() && queue.is_empty() && queue.next_timer().is_none());
        }
    }
}
