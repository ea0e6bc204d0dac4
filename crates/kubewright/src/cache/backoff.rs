//! Exponential backoff with jitter, as a pure value: the caller gives the clock and the randomness.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A small pseudo-random generator (xorshift64*), for jitter only.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A generator that repeats itself for the same seed.
    pub fn seeded(seed: u64) -> Jitter {
        Jitter(seed | 1)
    }

    /// A generator with a seed from the operating system.
    pub fn random() -> Jitter {
        Jitter::seeded(RandomState::new().build_hasher().finish())
    }

    /// The next number in 0..1.
    pub fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

/// Exponential growth from a first delay to a cap.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The delay after the first failure.
    pub first: Duration,
    /// The longest delay.
    pub cap: Duration,
}

impl Backoff {
    /// The delay after this many failures in a row (1 is the first), doubled each time.
    pub fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(40);
        let nanos = self.first.as_nanos().saturating_mul(1 << doublings).min(self.cap.as_nanos());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The same, spread evenly over its upper half, so that clients do not return in step.
    pub fn jittered(&self, failures: u32, jitter: &mut Jitter) -> Duration {
        self.delay(failures).mul_f64(0.5 + jitter.fraction() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let backoff = Backoff { first: Duration::from_millis(5), cap: Duration::from_secs(1000) };
        assert_eq!(backoff.delay(1), Duration::from_millis(5));
        assert_eq!(backoff.delay(4), Duration::from_millis(40));
        assert_eq!(backoff.delay(18), Duration::from_millis(655_360));
        assert_eq!(backoff.delay(19), Duration::from_secs(1000));
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(1000));
    }

    #[test]
    fn jitter_stays_in_the_upper_half_and_moves() {
        let backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(8) };
        let mut jitter = Jitter::seeded(7);
        let delays: Vec<Duration> = (0..50).map(|_| backoff.jittered(3, &mut jitter)).collect();
        assert!(delays.iter().all(|delay| (2.0..=4.0).contains(&delay.as_secs_f64())));
        assert!(delays.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
