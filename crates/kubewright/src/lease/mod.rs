//! What leader election and sharding have in common: the timing of a Lease, the fence that keeps writes
//! from being sent once a Lease may have expired, and identities. Nothing here talks to a server.

mod fence;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

pub use self::fence::Fenced;
#[cfg(test)]
pub(crate) use self::fence::Pass;
pub(crate) use self::fence::{Fence, Late, Moment};
use crate::{Error, Result};

/// How long a Lease is held and how often it is renewed. The default is that of Kubernetes' own
/// components: 15 s, 10 s and 2 s.
///
/// ```
/// use std::time::Duration;
///
/// use kubewright::LeaseTiming;
///
/// let timing = LeaseTiming::default();
/// assert_eq!(timing.lease, Duration::from_secs(15));
/// assert!(timing.check().is_ok());
/// // A lease that expires before its holder gives up renewing it would have two holders.
/// assert!(LeaseTiming { lease: Duration::from_secs(5), ..timing }.check().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How long others wait, since they last saw the Lease change, before they take it. Rounded up to seconds.
    pub lease: Duration,
    /// How long after its last renewal a holder goes on trying, and writing. What is between this and
    /// [`lease`](Self::lease) is the time that a request may be on its way, and clocks may differ in speed.
    pub renew_deadline: Duration,
    /// Time between two attempts.
    pub retry: Duration,
}

impl Default for LeaseTiming {
    fn default() -> LeaseTiming {
        LeaseTiming {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl LeaseTiming {
    /// Whether the times fit each other.
    ///
    /// # Errors
    /// When they are not `lease > renew_deadline > 1.2 × retry > 0`, the rule of client-go.
    pub fn check(&self) -> Result {
        let wrong = |what: String| Err(Error::Usage(format!("leases: {what}")));
        if self.retry.is_zero() {
            return wrong("the retry period must be more than zero".into());
        }
        if self.renew_deadline <= self.retry.mul_f64(1.2) {
            return wrong(format!(
                "the renew deadline {:?} must be more than 1.2 times the retry period {:?}",
                self.renew_deadline, self.retry
            ));
        }
        if self.lease <= self.renew_deadline {
            return wrong(format!(
                "the lease duration {:?} must be more than the renew deadline {:?}",
                self.lease, self.renew_deadline
            ));
        }
        Ok(())
    }

    /// The lease duration as a Lease has it.
    pub(crate) fn seconds(&self) -> i32 {
        let whole = self.lease.as_secs() + u64::from(self.lease.subsec_nanos() > 0);
        i32::try_from(whole).unwrap_or(i32::MAX)
    }

    /// What a request may take after the last moment at which it may be sent.
    pub(crate) fn margin(&self) -> Duration {
        self.lease.saturating_sub(self.renew_deadline)
    }
}

/// An identity that no other process has: the host's name and 64 random bits.
pub(crate) fn unique_identity() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{}_{random:016x}", host())
}

/// The host's name; a pod's is the pod's.
fn host() -> String {
    let named = std::env::var("HOSTNAME").ok();
    let file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = named.or_else(file).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    host.unwrap_or_else(|| "localhost".into())
}

/// Who holds a Lease; empty when nobody does.
pub(crate) fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// How long a Lease is valid since its last change, as its holder wrote it.
pub(crate) fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_unique() {
        let identities: std::collections::HashSet<String> = (0..100).map(|_| unique_identity()).collect();
        assert_eq!(identities.len(), 100);
    }

    #[test]
    fn times_that_do_not_fit_are_refused_with_the_rule() {
        let timing = LeaseTiming { retry: Duration::from_secs(9), ..LeaseTiming::default() };
        assert!(timing.check().unwrap_err().to_string().contains("1.2 times the retry period"));
        let timing = LeaseTiming { retry: Duration::ZERO, ..timing };
        assert!(timing.check().is_err());
    }

    #[test]
    fn a_lease_never_says_less_than_its_duration() {
        let timing = LeaseTiming { lease: Duration::from_millis(14_001), ..LeaseTiming::default() };
        assert_eq!(timing.seconds(), 15);
    }
}
