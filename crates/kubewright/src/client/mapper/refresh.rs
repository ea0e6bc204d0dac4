//! When discovery is fetched anew, as a pure decision: once a definition changed, on a miss as long as misses are rare,
//! and at ever longer intervals while somebody waits for a kind.

use std::time::{Duration, Instant};

use crate::cache::Backoff;
use crate::rate::{Bucket, RateLimit};

/// Misses that may fetch: a few at once, then one in two seconds.
const MISSES: RateLimit = RateLimit::every(Duration::from_secs(2)).burst(5);
/// Between two looks for what is waited for.
const LOOKS: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(10) };

#[derive(Debug)]
pub(super) struct Refresh {
    /// Changes of definitions so far.
    generation: u64,
    /// The generation at which the last good fetch began.
    loaded: Option<u64>,
    /// Fetches since the last change, good or failed, and when the last of them ended.
    looks: u32,
    looked: Instant,
    misses: Bucket,
}

impl Refresh {
    pub(super) fn new(now: Instant) -> Refresh {
        Refresh { generation: 0, loaded: None, looks: 0, looked: now, misses: Bucket::new(MISSES) }
    }

    /// A definition changed.
    pub(super) fn changed(&mut self) {
        self.generation += 1;
        self.looks = 0;
    }

    /// A fetch begins; what it shows is as new as this.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// A fetch ended that began at this generation.
    pub(super) fn loaded(&mut self, generation: u64, now: Instant) {
        self.loaded = Some(generation);
        self.failed(now);
    }

    /// A fetch ended without a result.
    pub(super) fn failed(&mut self, now: Instant) {
        self.looks = self.looks.saturating_add(1);
        self.looked = now;
    }

    /// Whether what is known may be old.
    pub(super) fn is_stale(&self) -> bool {
        self.loaded != Some(self.generation)
    }

    /// Something was looked up that is not there: whether that may fetch.
    pub(super) fn miss(&mut self, now: Instant) -> bool {
        self.misses.try_spend(now)
    }

    /// When those that wait for a kind look again.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        if self.looks == 0 { now } else { self.looked + LOOKS.delay(self.looks) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_makes_stale_what_was_fetched_before_it_or_meanwhile() {
        let now = Instant::now();
        let mut refresh = Refresh::new(now);
        assert!(refresh.is_stale());
        let began = refresh.generation();
        refresh.loaded(began, now);
        assert!(!refresh.is_stale());
        refresh.changed();
        let began = refresh.generation();
        refresh.changed();
        refresh.loaded(began, now);
        assert!(refresh.is_stale());
    }

    #[test]
    fn misses_fetch_a_few_times_and_then_rarely() {
        let now = Instant::now();
        let mut refresh = Refresh::new(now);
        assert_eq!((0..100).filter(|_| refresh.miss(now)).count(), 5);
        let later = now + Duration::from_secs(10);
        assert_eq!((0..100).filter(|_| refresh.miss(later)).count(), 5);
        assert_eq!((0..100).filter(|_| refresh.miss(later + Duration::from_millis(2001))).count(), 1);
    }

    #[test]
    fn whoever_waits_looks_ever_more_rarely_until_something_changes() {
        let now = Instant::now();
        let mut refresh = Refresh::new(now);
        assert_eq!(refresh.next_look(now), now);
        let mut waits = Vec::new();
        for round in 0..6 {
            // A server that can't be asked is not asked more often.
            if round % 2 == 0 {
                refresh.failed(now)
            } else {
                refresh.loaded(refresh.generation(), now)
            }
            waits.push((refresh.next_look(now) - now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        refresh.changed();
        assert_eq!(refresh.next_look(now), now);
        refresh.loaded(refresh.generation(), now);
        assert_eq!(refresh.next_look(now), now + Duration::from_secs(1));
    }
}
