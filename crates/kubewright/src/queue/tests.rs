use super::*;

type Q = Queue<u8, &'static str>;

fn queue() -> Q {
    Queue::new(Q::BACKOFF)
}

/// The keys in the order in which they are handed out.
fn drain<K: Clone + Eq + Hash + Debug>(queue: &mut Queue<K, &'static str>, now: Instant) -> Vec<K> {
    std::iter::from_fn(|| queue.take(now)).map(|taken| taken.key).collect()
}

fn after(delay: Duration) -> Outcome {
    Outcome::After { delay, priority: None }
}

#[test]
fn keys_that_are_not_kept_are_forgotten_wherever_they_are() {
    let now = Instant::now();
    let mut queue = queue();
    for key in [1, 2, 3, 4] {
        queue.add(key, Priority::LIVE, "x", now);
    }
    assert_eq!(queue.take(now).map(|taken| taken.key), Some(1));
    queue.add(1, Priority::LIVE, "again", now);
    assert_eq!(queue.take(now).map(|taken| taken.key), Some(2));
    queue.done(&2, Outcome::After { delay: Duration::from_secs(1), priority: None }, "later", now);
    queue.retain(|key| *key == 4);
    assert_eq!((queue.depth(), queue.next_timer(now)), (1, None));
    assert_eq!(queue.take(now).map(|taken| taken.key), Some(4));
    queue.done(&1, Outcome::Done, "", now);
    queue.done(&4, Outcome::Done, "", now);
    assert!(queue.is_empty() && queue.take(now).is_none());
    queue.add(3, Priority::LOW, "back", now);
    assert_eq!(queue.take(now).map(|taken| taken.key), Some(3));
}

#[test]
fn a_key_added_often_is_handed_out_once_with_its_reasons() {
    let now = Instant::now();
    let mut queue = queue();
    for reason in ["a", "b", "a"] {
        queue.add(1, Priority::LIVE, reason, now);
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
    queue.add(1, Priority::LIVE, "a", now);
    queue.take(now).unwrap();
    queue.add(1, Priority::LIVE, "b", now);
    assert!(queue.take(now).is_none());
    queue.done(&1, Outcome::Failed, "retry", now);
    assert_eq!(queue.take(now).unwrap().failures, 1);
}

#[test]
fn failures_back_off_exponentially_and_success_forgets_them() {
    let mut now = Instant::now();
    let mut queue = queue();
    queue.add(1, Priority::LIVE, "a", now);
    for failures in 0..6u32 {
        let taken = queue.take(now).unwrap();
        assert_eq!(taken.failures, failures);
        queue.done(&1, Outcome::Failed, "retry", now);
        assert!(queue.take(now).is_none());
        let wake = queue.next_timer(now).unwrap();
        assert_eq!(wake - now, Duration::from_millis(5 << failures));
        now = wake;
    }
    queue.take(now).unwrap();
    queue.done(&1, Outcome::Done, "", now);
    queue.add(1, Priority::LIVE, "a", now);
    assert_eq!(queue.take(now).unwrap().failures, 0);
}

#[test]
fn news_does_not_wait_for_a_timer() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add_after(1, Duration::from_secs(60), Priority::LIVE, "later", now);
    assert!(queue.take(now).is_none());
    queue.add(1, Priority::LIVE, "now", now);
    assert!(queue.take(now).is_some());
    assert_eq!(queue.next_timer(now), None);
}

#[test]
fn the_sooner_of_two_timers_counts() {
    let now = Instant::now();
    let mut queue = queue();
    for (seconds, reason) in [(60, "a"), (5, "b"), (90, "c")] {
        queue.add_after(1, Duration::from_secs(seconds), Priority::LIVE, reason, now);
    }
    assert_eq!(queue.next_timer(now), Some(now + Duration::from_secs(5)));
    assert!(queue.take(now + Duration::from_secs(5)).is_some());
    queue.done(&1, after(Duration::from_secs(7)), "again", now);
    assert_eq!(queue.next_timer(now), Some(now + Duration::from_secs(7)));
}

#[test]
fn a_delay_beyond_the_clock_is_as_good_as_never() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(1, Priority::LIVE, "a", now);
    queue.take(now).unwrap();
    queue.done(&1, after(Duration::MAX), "again", now);
    assert_eq!(queue.next_timer(now), Some(now + FAR));
}

#[test]
fn live_events_go_first_and_the_initial_list_still_gets_its_turn() {
    let now = Instant::now();
    let mut queue: Queue<u32, &'static str> = Queue::new(Q::BACKOFF);
    (0..10).for_each(|key| queue.add(key, Priority::LOW, "list", now));
    (100..120).for_each(|key| queue.add(key, Priority::LIVE, "event", now));
    assert_eq!(drain(&mut queue, now)[..10], [100, 101, 102, 103, 104, 105, 106, 107, 0, 108]);
}

#[test]
fn lower_priorities_take_the_ninth_turn_one_after_another() {
    let now = Instant::now();
    let mut queue: Queue<(i32, u32), &'static str> = Queue::new(Q::BACKOFF);
    for priority in [-100, 0, 7, 1000] {
        (0..100).for_each(|key| queue.add((priority, key), Priority(priority), "event", now));
    }
    let order = drain(&mut queue, now);
    let ninth: Vec<i32> = order.iter().skip(8).step_by(9).take(7).map(|(priority, _)| *priority).collect();
    assert_eq!(ninth, [7, 0, -100, 7, 0, -100, 7]);
    assert!(order[..8].iter().all(|(priority, _)| *priority == 1000));
}

#[test]
fn an_event_promotes_a_key_of_the_initial_list() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(1, Priority::LOW, "list", now);
    queue.add(2, Priority::LOW, "list", now);
    queue.add(2, Priority::LIVE, "event", now);
    queue.add(1, Priority(-200), "event", now);
    let taken = [queue.take(now).unwrap(), queue.take(now).unwrap()];
    assert_eq!(taken.map(|taken| (taken.key, taken.priority)), [(2, Priority::LIVE), (1, Priority::LOW)]);
    assert!(queue.take(now).is_none());
    assert_eq!(queue.depth(), 0);
}

#[test]
fn a_key_that_runs_again_is_as_urgent_as_it_was_unless_told_otherwise() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let mut queue = queue();
    queue.add(1, Priority(5), "a", now);
    queue.take(now).unwrap();
    let mut round = |outcome| {
        queue.done(&1, outcome, "again", now);
        queue.take(now + second).unwrap().priority
    };
    assert_eq!(round(after(second)), Priority(5));
    assert_eq!(round(Outcome::Failed), Priority(5));
    assert_eq!(round(Outcome::After { delay: second, priority: Some(Priority::LOW) }), Priority::LOW);
}

#[test]
fn news_makes_what_waits_or_runs_more_urgent_and_never_less() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add_after(1, Duration::from_secs(60), Priority(5), "later", now);
    queue.add(1, Priority::LOW, "list", now);
    assert_eq!(queue.take(now).unwrap().priority, Priority(5));
    queue.add(1, Priority::LOW, "list", now);
    queue.add(1, Priority::LIVE, "event", now);
    queue.done(&1, Outcome::Done, "", now);
    assert_eq!(queue.take(now).unwrap().priority, Priority::LIVE);
    queue.add(1, Priority::LOW, "list", now);
    queue.done(&1, Outcome::Failed, "retry", now);
    assert_eq!(queue.take(now).unwrap().priority, Priority::LIVE);
}

#[test]
fn a_tenant_with_ten_thousand_keys_delays_another_by_one_turn() {
    let now = Instant::now();
    let tenants = Tenants::by(|(tenant, _): &(&'static str, u32)| *tenant);
    let mut queue: Queue<(&'static str, u32), &'static str> = Queue::new(Q::BACKOFF).fair_by(tenants);
    (0..10_000).for_each(|key| queue.add(("many", key), Priority::LIVE, "event", now));
    queue.add(("few", 0), Priority::LIVE, "event", now);
    queue.add(("few", 1), Priority::LIVE, "event", now);
    let order: Vec<_> = (0..5).filter_map(|_| queue.take(now)).map(|taken| taken.key).collect();
    assert_eq!(order, [("many", 0), ("few", 0), ("many", 1), ("few", 1), ("many", 2)]);
    queue.add(("few", 2), Priority::LIVE, "event", now);
    assert_eq!(queue.take(now).unwrap().key, ("many", 3));
    assert_eq!(queue.take(now).unwrap().key, ("few", 2));
}

#[test]
fn tenants_share_the_turns_of_each_priority() {
    let now = Instant::now();
    let tenants = Tenants::by(|key: &&'static str| key[..1].to_owned());
    let mut queue: Queue<&'static str, &'static str> = Queue::new(Q::BACKOFF).fair_by(tenants);
    ["a1", "a2", "b1"].into_iter().for_each(|key| queue.add(key, Priority::LOW, "list", now));
    ["a8", "a9", "b9"].into_iter().for_each(|key| queue.add(key, Priority::LIVE, "event", now));
    assert_eq!(drain(&mut queue, now), ["a8", "b9", "a9", "a1", "b1", "a2"]);
}

#[test]
fn a_limit_holds_up_what_is_ready_and_hands_out_the_most_urgent_first() {
    let now = Instant::now();
    let mut queue = queue().limited(RateLimit::per_second(10).burst(2));
    (0..3).for_each(|key| queue.add(key, Priority::LOW, "list", now));
    assert_eq!(drain(&mut queue, now), [0, 1]);
    let opens = now + Duration::from_millis(100);
    assert_eq!((queue.depth(), queue.next_timer(now)), (1, Some(opens)));
    queue.add(9, Priority::LIVE, "event", now);
    assert_eq!(drain(&mut queue, opens), [9]);
    // What is not this queue's concern leaves its place to the next.
    queue.done(&9, Outcome::Declined, "", opens);
    assert_eq!(drain(&mut queue, opens), [2]);
    // With nothing ready there is nothing to wait for.
    assert_eq!(queue.next_timer(opens), None);
}

#[test]
fn figures_count_as_client_go_counts() {
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut queue = queue();
    // The first that is added is handed out last.
    queue.add(2, Priority::LOW, "a", start);
    ["a", "b"].into_iter().for_each(|reason| queue.add(1, Priority::LIVE, reason, start));
    assert_eq!((queue.adds(), queue.depth()), (2, 2));
    assert_eq!(queue.depths().collect::<Vec<_>>(), [(Priority::LIVE, 1), (Priority::LOW, 1)]);
    queue.take(start).unwrap();
    queue.take(later(4)).unwrap();
    let (together, longest) = queue.unfinished(later(10));
    assert_eq!((together.as_secs(), longest.as_secs()), (16, 10));
    assert_eq!(queue.done(&1, Outcome::Failed, "", later(10)), Some(Duration::from_secs(10)));
    assert_eq!(queue.done(&1, Outcome::Failed, "", later(10)), None);
    assert_eq!(queue.unfinished(later(10)).1.as_secs(), 6);
    queue.done(&2, after(Duration::from_secs(1)), "", later(10));
    assert_eq!((queue.retries(), queue.unfinished(later(10)).0), (2, Duration::ZERO));
}
