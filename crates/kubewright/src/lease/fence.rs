//! The fence between a process and the API server: writes pass while the process certainly holds its
//! Lease, and are refused from the moment at which the Lease may be another's. It is judged by clocks alone,
//! right before a request is sent, so a process that was frozen is refused before anybody told it anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// A write that was refused because the process may no longer hold its Lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is written: this process does not hold the lease {lease}")]
pub struct Fenced {
    /// The Lease, as `namespace/name`.
    pub lease: String,
}

/// A time on both clocks. The monotonic one can't be set, but may stand still while a machine is
/// suspended; the other one goes on then. A deadline has passed when either says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub monotonic: Instant,
    pub wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Moment {
        Moment { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    pub(crate) fn after(self, time: Duration) -> Moment {
        Moment { monotonic: self.monotonic + time, wall: self.wall + time }
    }

    /// Whether this deadline has passed.
    pub(crate) fn is_over(self, now: Moment) -> bool {
        now.monotonic >= self.monotonic || now.wall >= self.wall
    }
}

/// The fence of one Lease.
#[derive(Debug)]
pub(crate) struct Fence {
    lease: String,
    /// What a request may take after the last moment at which it may be sent.
    margin: Duration,
    until: Mutex<Option<Moment>>,
    in_flight: AtomicUsize,
    /// Until when requests that were given up may still arrive: their effect is unknown.
    abandoned: Mutex<Option<Instant>>,
}

impl Fence {
    /// A closed fence.
    pub(crate) fn new(lease: String, margin: Duration) -> Arc<Fence> {
        Arc::new(Fence {
            lease,
            margin,
            until: Mutex::new(None),
            in_flight: AtomicUsize::new(0),
            abandoned: Mutex::new(None),
        })
    }

    /// Opens it until then. It closes by itself.
    pub(crate) fn open(&self, until: Moment) {
        *self.until.lock() = Some(until);
    }

    /// Closes it now.
    pub(crate) fn close(&self) {
        *self.until.lock() = None;
    }

    /// Lets a write pass, or refuses it. Whoever passes must send at once.
    pub(crate) fn pass(self: &Arc<Self>, now: Moment) -> Result<Pass, Fenced> {
        let until = self.until.lock();
        match *until {
            Some(until) if !until.is_over(now) => {
                self.in_flight.fetch_add(1, Ordering::SeqCst);
                let deadline = until.monotonic + self.margin;
                Ok(Pass { fence: Arc::clone(self), deadline, answered: false })
            }
            _ => Err(Fenced { lease: self.lease.clone() }),
        }
    }

    /// Whether no write of this process can arrive any more, so that another may have the Lease at once.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0 && self.is_settled(now)
    }

    /// Whether no write that was given up can arrive any more.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.abandoned.lock().is_none_or(|until| now >= until)
    }
}

/// A write on its way. Dropped without an answer, its effect is unknown.
#[derive(Debug)]
pub(crate) struct Pass {
    fence: Arc<Fence>,
    deadline: Instant,
    answered: bool,
}

impl Pass {
    /// When the request must be given up: others may have the Lease then.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The server answered.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.answered {
            let mut abandoned = self.fence.abandoned.lock();
            *abandoned = Some(abandoned.map_or(self.deadline, |until| until.max(self.deadline)));
        }
        self.fence.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn fence() -> Arc<Fence> {
        Fence::new("n/l".into(), Duration::from_secs(5))
    }

    #[test]
    fn writes_pass_until_the_lease_may_have_expired() {
        let (fence, now) = (fence(), Moment::now());
        assert_eq!(fence.pass(now).unwrap_err().lease, "n/l");
        fence.open(now.after(TEN));
        let pass = fence.pass(now.after(Duration::from_millis(9_999))).unwrap();
        assert_eq!(pass.deadline(), now.monotonic + Duration::from_secs(15));
        assert!(fence.pass(now.after(TEN)).is_err());
        fence.close();
        assert!(fence.pass(now).is_err());
    }

    #[test]
    fn a_machine_that_slept_is_fenced_by_the_clock_that_went_on() {
        let (fence, now) = (fence(), Moment::now());
        fence.open(now.after(TEN));
        let slept = Moment { monotonic: now.monotonic, wall: now.wall + TEN };
        assert!(fence.pass(slept).is_err());
        let set_back = Moment { monotonic: now.monotonic + TEN, wall: now.wall - TEN };
        assert!(fence.pass(set_back).is_err());
    }

    #[test]
    fn a_lease_is_given_back_only_when_no_write_is_on_its_way() {
        let (fence, now) = (fence(), Moment::now());
        fence.open(now.after(TEN));
        let (answered, abandoned) = (fence.pass(now).unwrap(), fence.pass(now).unwrap());
        answered.answered();
        assert!(!fence.is_quiet(now.monotonic));
        drop(abandoned);
        assert!(!fence.is_quiet(now.monotonic + Duration::from_secs(14)));
        assert!(fence.is_quiet(now.monotonic + Duration::from_secs(15)));
    }
}
