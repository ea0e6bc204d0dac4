//! How often something may happen: [`RateLimit`] says it, and a [`Bucket`] of tokens, which takes `now`, keeps to it. Queues
//! limit what they hand out by it, and clients what they send.

use std::time::{Duration, Instant};

/// Longer than this nothing is made to wait for a single turn.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How often something may happen at most: a token bucket. Nothing is limited unless one is set.
///
/// [`Controller::rate_limit`](crate::Controller::rate_limit) limits how often reconciliations *begin*, whatever leads to
/// them, so that a storm of events, a restart with many objects and retries alike stay within what the API server or a
/// system outside of the cluster can bear; urgent items are still handed out first. client-go's default limiter (10 a
/// second with a burst of 100) holds up retries alone, and since controller-runtime has a priority queue it has none
/// either: each key's own backoff does that.
///
/// [`Manager::rate_limit`](crate::Manager::rate_limit) and [`client`](Self::client) limit the requests of a process, watches
/// aside.
///
/// ```
/// use std::time::Duration;
/// use kubewright::RateLimit;
///
/// let as_client_go = RateLimit::per_second(10).burst(100);
/// let slowly = RateLimit::every(Duration::from_secs(30));
/// assert_eq!(RateLimit::new(0.5, 1)?, RateLimit::every(Duration::from_secs(2)));
/// assert!(RateLimit::new(0.0, 30).is_err());
/// # Ok::<_, kubewright::InvalidLimit>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    every: Duration,
    burst: u32,
}

/// A limit that would let nothing through, or makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a limit of {rate} a second with bursts of {burst} is none: both must be above 0")]
pub struct InvalidLimit {
    /// How many a second, as given.
    pub rate: f64,
    /// How many at once, as given.
    pub burst: u32,
}

impl RateLimit {
    /// So many a second, be it a part of one, and so many at once, as somebody typed them in.
    ///
    /// # Errors
    /// When one of them is not above 0, or not a number.
    pub fn new(rate: f64, burst: u32) -> Result<RateLimit, InvalidLimit> {
        if !(rate > 0.0 && rate.is_finite() && burst > 0) {
            return Err(InvalidLimit { rate, burst });
        }
        let every = Duration::try_from_secs_f64(rate.recip()).unwrap_or(LONGEST);
        Ok(RateLimit::every(every).burst(burst))
    }

    /// So many a second, at least one; no burst.
    pub fn per_second(times: u32) -> RateLimit {
        RateLimit::every(Duration::from_secs(1) / times.max(1))
    }

    /// Once in this time, which is at most a day; no burst.
    pub const fn every(time: Duration) -> RateLimit {
        let every = if time.as_secs() < LONGEST.as_secs() { time } else { LONGEST };
        RateLimit { every, burst: 1 }
    }

    /// How many may go at once after a time of rest; at least one.
    #[must_use]
    pub const fn burst(mut self, times: u32) -> RateLimit {
        self.burst = if times == 0 { 1 } else { times };
        self
    }

    /// How far ahead of the rate one may be.
    fn ahead(&self) -> Duration {
        self.every.saturating_mul(self.burst - 1)
    }
}

/// A bucket, held as the moment from which it is full again. It starts full.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: RateLimit,
    full: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(limit: RateLimit) -> Bucket {
        Bucket { limit, full: None }
    }

    /// When there is a token, if that is later than `now`.
    pub(crate) fn opens(&self, now: Instant) -> Option<Instant> {
        let opens = self.full?.checked_sub(self.limit.ahead())?;
        (opens > now).then_some(opens)
    }

    /// Takes a token.
    pub(crate) fn spend(&mut self, now: Instant) {
        self.full = Some(self.full.map_or(now, |full| full.max(now)) + self.limit.every);
    }

    /// Takes a token if there is one.
    pub(crate) fn try_spend(&mut self, now: Instant) -> bool {
        let there = self.opens(now).is_none();
        if there {
            self.spend(now);
        }
        there
    }

    /// Takes a token that may have yet to come: the time from which on it is there. Who asks later is told a later one.
    pub(crate) fn reserve(&mut self, now: Instant) -> Instant {
        let at = self.opens(now).unwrap_or(now);
        self.spend(now);
        at
    }

    /// Puts a token back that was not used.
    pub(crate) fn refund(&mut self) {
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

    #[test]
    fn a_burst_goes_at_once_and_what_follows_keeps_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RateLimit::per_second(10).burst(3));
        let waits: Vec<Duration> = (0..6).map(|_| bucket.reserve(start) - start).collect();
        let rounded: Vec<u128> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(rounded, [0, 0, 0, 100, 200, 300]);
        // Quiet fills it again, up to the burst and no further.
        let later = start + Duration::from_secs(60);
        let waits: Vec<u128> = (0..4).map(|_| (bucket.reserve(later) - later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100]);
    }

    #[test]
    fn what_is_given_up_makes_room() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RateLimit::per_second(10));
        bucket.reserve(start);
        assert!(bucket.reserve(start) > start);
        bucket.refund();
        assert_eq!((bucket.reserve(start) - start).as_millis(), 100);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let start = Instant::now() + Duration::from_secs(9);
        let mut bucket = Bucket::new(RateLimit::per_second(10));
        bucket.reserve(start);
        let earlier = start.checked_sub(Duration::from_secs(5)).unwrap();
        assert!(bucket.reserve(earlier) > earlier);
        assert!((bucket.reserve(start) - start).as_millis() >= 200);
    }

    #[test]
    fn limits_that_let_nothing_through_are_refused() {
        for (rate, burst) in [(0.0, 1), (-1.0, 5), (f64::NAN, 5), (f64::INFINITY, 5), (5.0, 0)] {
            assert!(RateLimit::new(rate, burst).is_err(), "{rate} {burst}");
        }
        let error = RateLimit::new(0.0, 3).unwrap_err();
        assert_eq!(error.to_string(), "a limit of 0 a second with bursts of 3 is none: both must be above 0");
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
