//! What holds of a queue whatever is done with it.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

type Q = Queue<u8, &'static str>;

#[derive(Clone, Debug)]
enum Op {
    Add(u8, i32),
    AddAfter(u8, u64, i32),
    Take,
    Done(usize, Outcome),
    Pass(u64),
}

const KEYS: u8 = 12;

/// Four keys a tenant.
fn tenant(key: u8) -> u8 {
    key / 4
}

fn op() -> impl Strategy<Value = Op> {
    let priority = prop_oneof![Just(-100), Just(0), Just(0), -3..3];
    let outcome = prop_oneof![
        Just(Outcome::Done),
        Just(Outcome::Failed),
        Just(Outcome::GaveUp),
        Just(Outcome::Declined),
        (0u64..50, prop::option::of(priority.clone())).prop_map(|(ms, priority)| Outcome::After {
            delay: Duration::from_millis(ms),
            priority: priority.map(Priority),
        }),
    ];
    prop_oneof![
        3 => (0..KEYS, priority.clone()).prop_map(|(key, priority)| Op::Add(key, priority)),
        1 => (0..KEYS, 0u64..40, priority).prop_map(|(key, ms, priority)| Op::AddAfter(key, ms, priority)),
        2 => Just(Op::Take),
        2 => (0usize..4, outcome).prop_map(|(which, outcome)| Op::Done(which, outcome)),
        1 => (0u64..30).prop_map(Op::Pass),
    ]
}

fn queue(fair: bool, limit: Option<u32>) -> Q {
    let queue = Queue::new(Q::BACKOFF);
    let queue = if fair { queue.fair_by(Tenants::by(|key: &u8| tenant(*key).to_string())) } else { queue };
    match limit {
        Some(burst) => queue.limited(RateLimit::per_second(1000).burst(burst)),
        None => queue,
    }
}

proptest! {
    #[test]
    fn no_key_is_lost_or_run_twice_at_once(
        ops in prop::collection::vec(op(), 0..300),
        fair in any::<bool>(),
        limit in prop::option::of(1u32..4),
    ) {
        let mut now = Instant::now();
        let mut queue = queue(fair, limit);
        let mut running: Vec<u8> = Vec::new();
        // Keys that must be handed out again before the queue may be empty, with the least they may be urgent.
        let mut wanted: BTreeMap<u8, Priority> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Add(key, priority) => {
                    let priority = Priority(priority);
                    queue.add(key, priority, "add", now);
                    wanted.entry(key).and_modify(|known| *known = priority.max(*known)).or_insert(priority);
                }
                Op::AddAfter(key, ms, priority) => {
                    queue.add_after(key, Duration::from_millis(ms), Priority(priority), "after", now);
                    if ms == 0 || !running.contains(&key) {
                        wanted.entry(key).or_insert(Priority(priority));
                    }
                }
                Op::Take => if let Some(taken) = queue.take(now) {
                    prop_assert!(!running.contains(&taken.key));
                    let least = wanted.remove(&taken.key);
                    prop_assert!(least.is_some_and(|least| least <= taken.priority), "{} was not wanted so", taken.key);
                    running.push(taken.key);
                },
                Op::Done(which, outcome) => if !running.is_empty() {
                    let key = running.remove(which % running.len());
                    prop_assert!(queue.done(&key, outcome, "retry", now).is_some());
                    if matches!(outcome, Outcome::Failed | Outcome::After { .. }) {
                        wanted.entry(key).or_insert(Priority(i32::MIN));
                    }
                },
                Op::Pass(ms) => now += Duration::from_millis(ms),
            }
            let known: HashSet<u8> = wanted.keys().chain(&running).copied().collect();
            prop_assert_eq!(queue.len(), known.len());
            prop_assert_eq!(queue.running.len(), running.len());
            prop_assert!(queue.timers.len() + queue.depth() <= wanted.len());
            let depths: usize = queue.depths().map(|(_, depth)| depth).sum();
            prop_assert_eq!(depths, queue.depth());
            // Places that were left are never more than half, nor are lanes kept that nobody uses.
            prop_assert!(queue.ready.places() <= 2 * queue.depth(), "{:?}", queue.ready);
            prop_assert!(queue.depths().count() <= queue.depth() + 8);
        }
        for key in running.drain(..) {
            queue.done(&key, Outcome::Done, "", now);
        }
        now += Duration::from_secs(2000);
        while !queue.is_empty() {
            match queue.take(now) {
                Some(taken) => {
                    prop_assert!(wanted.remove(&taken.key).is_some());
                    queue.done(&taken.key, Outcome::Done, "", now);
                }
                None => {
                    let wake = queue.next_timer(now);
                    prop_assert!(wake.is_some_and(|wake| wake > now), "nobody would look again");
                    now = wake.unwrap();
                }
            }
        }
        prop_assert!(wanted.is_empty() && queue.next_timer(now).is_none());
        prop_assert_eq!((queue.ready.places(), queue.timers.len(), queue.running.len()), (0, 0, 0));
    }

    /// A tenant whose key is ready gets a turn of its priority before any other gets a second one.
    #[test]
    fn turns_of_a_priority_go_round_the_tenants(
        keys in prop::collection::hash_set((0u8..8, any::<u8>()), 1..80),
    ) {
        let now = Instant::now();
        let tenants = Tenants::by(|(tenant, _): &(u8, u8)| tenant.to_string());
        let mut queue: Queue<(u8, u8), ()> = Queue::new(Q::BACKOFF).fair_by(tenants);
        keys.iter().for_each(|key| queue.add(*key, Priority::LIVE, (), now));
        let mut left: BTreeMap<u8, usize> = BTreeMap::new();
        keys.iter().for_each(|(tenant, _)| *left.entry(*tenant).or_default() += 1);
        while !left.is_empty() {
            let round: HashSet<u8> = (0..left.len()).map(|_| queue.take(now).unwrap().key.0).collect();
            prop_assert_eq!(round, left.keys().copied().collect::<HashSet<u8>>());
            left.retain(|_, keys| {
                *keys -= 1;
                *keys > 0
            });
        }
    }

    /// With so many priorities in use, the first key of each waits for nine turns of each other at most, however many
    /// keys go on coming.
    #[test]
    fn no_priority_starves(
        priorities in prop::collection::btree_set(-5i32..5, 2..6),
        storm in prop::collection::vec((0usize..6, any::<bool>()), 400),
    ) {
        let now = Instant::now();
        let priorities: Vec<i32> = priorities.into_iter().collect();
        let mut queue: Queue<(i32, u64), ()> = Queue::new(Q::BACKOFF);
        let mut number = 0;
        let mut add = |queue: &mut Queue<(i32, u64), ()>, priority: i32| {
            number += 1;
            queue.add((priority, number), Priority(priority), (), now);
        };
        priorities.iter().for_each(|priority| (0..60).for_each(|_| add(&mut queue, *priority)));
        let mut since: BTreeMap<i32, usize> = priorities.iter().map(|priority| (*priority, 0)).collect();
        for (which, twice) in storm {
            let key = queue.take(now).unwrap().key;
            queue.done(&key, Outcome::Done, (), now);
            for (priority, turns) in &mut since {
                *turns = if *priority == key.0 { 0 } else { *turns + 1 };
                prop_assert!(*turns <= 9 * priorities.len(), "{} waits", priority);
            }
            // Everybody always has a key.
            add(&mut queue, key.0);
            if twice {
                add(&mut queue, priorities[which % priorities.len()]);
            }
        }
    }
}
