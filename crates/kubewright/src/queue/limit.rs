//! How fast a queue hands out: a token bucket that takes `now`.

use std::time::{Duration, Instant};

/// Longer than this nothing is made to wait for a single item.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How many items a queue hands out a second at most, whatever put them there: a token bucket. Nothing is limited
/// unless one is set.
///
/// client-go's default limiter (10 a second with a burst of 100) holds up retries alone, and since controller-runtime
/// has a priority queue it has none either: each key's own backoff does that. This one limits how often reconciliations
/// *begin*, so that a storm of events, a restart with many objects and retries alike stay within what the API server
/// or a system outside of the cluster can bear. Urgent items are still handed out first. (Requests are limited by
/// [`client::RateLimit`](crate::client::RateLimit).)
///
/// ```
/// use std::time::Duration;
/// use kubewright::queue::RateLimit;
///
/// let as_client_go = RateLimit::per_second(10).burst(100);
/// let slowly = RateLimit::every(Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    every: Duration,
    burst: u32,
}

impl RateLimit {
    /// So many items a second, at least one; no burst.
    pub fn per_second(items: u32) -> RateLimit {
        RateLimit::every(Duration::from_secs(1) / items.max(1))
    }

    /// An item in this time, which is at most a day; no burst.
    pub fn every(time: Duration) -> RateLimit {
        RateLimit { every: time.min(LONGEST), burst: 1 }
    }

    /// How many may be handed out at once after a time of rest; at least one.
    #[must_use]
    pub fn burst(mut self, items: u32) -> RateLimit {
        self.burst = items.max(1);
        self
    }

    /// How far ahead of its rate a queue may be.
    fn ahead(&self) -> Duration {
        self.every.saturating_mul(self.burst - 1)
    }
}

/// The bucket of one queue, held as the moment from which it is full again. It starts full.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    full: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(limit: RateLimit) -> Bucket {
        Bucket { limit, full: None }
    }

    /// When the next item may be handed out, if that is later than `now`.
    pub(super) fn opens(&self, now: Instant) -> Option<Instant> {
        let opens = self.full?.checked_sub(self.limit.ahead())?;
        (opens > now).then_some(opens)
    }

    /// An item was handed out.
    pub(super) fn spend(&mut self, now: Instant) {
        self.full = Some(self.full.map_or(now, |full| full.max(now)) + self.limit.every);
    }

    /// The item handed out last does not count.
    pub(super) fn refund(&mut self) {
        self.full = self.full.and_then(|full| full.checked_sub(self.limit.every));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_one_by_one() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RateLimit::per_second(10).burst(3));
        for _ in 0..3 {
            assert_eq!(bucket.opens(start), None);
            bucket.spend(start);
        }
        let next = start + Duration::from_millis(100);
        assert_eq!(bucket.opens(start), Some(next));
        assert_eq!(bucket.opens(next), None);
        bucket.spend(next);
        assert_eq!(bucket.opens(next), Some(start + Duration::from_millis(200)));
        bucket.refund();
        assert_eq!(bucket.opens(next), None);
    }

    #[test]
    fn impossible_rates_are_brought_into_range() {
        let now = Instant::now();
        assert_eq!(RateLimit::per_second(0), RateLimit::per_second(1));
        assert_eq!(RateLimit::every(Duration::MAX), RateLimit::every(LONGEST));
        let mut bucket = Bucket::new(RateLimit::every(Duration::MAX).burst(u32::MAX));
        bucket.spend(now);
        assert_eq!(bucket.opens(now), None);
        let mut unlimited = Bucket::new(RateLimit::every(Duration::ZERO).burst(0));
        unlimited.spend(now);
        assert_eq!(unlimited.opens(now), None);
    }

    proptest! {
        #[test]
        fn in_no_span_of_time_go_more_than_the_burst_and_the_rate(
            steps in prop::collection::vec(0u64..400, 1..200),
            burst in 1u32..8,
        ) {
            let every = Duration::from_millis(100);
            let mut bucket = Bucket::new(RateLimit::every(every).burst(burst));
            let start = Instant::now();
            let mut now = start;
            let mut gone: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                match bucket.opens(now) {
                    None => {
                        bucket.spend(now);
                        gone.push(now);
                    }
                    Some(opens) => prop_assert!(opens > now && opens - now <= every),
                }
            }
            for (first, from) in gone.iter().enumerate() {
                for (last, to) in gone.iter().enumerate().skip(first) {
                    let allowed = u128::from(burst) + (*to - *from).as_nanos() / every.as_nanos();
                    prop_assert!((last - first + 1) as u128 <= allowed);
                }
            }
        }
    }
}
