//! The fence between a process and the API server: writes pass while the process certainly holds its
//! Lease, and are refused from the moment at which the Lease may be another's. It is judged by clocks alone,
//! right before a request is sent, so a process that was frozen is refused before anybody told it anything.
//!
//! A write is judged again each time its sender gets to run, so that a freeze between the fence and the request is seen,
//! too. What remains is a request that was handed on: the task of its connection may stand still before it writes, and
//! bytes that the kernel has go out whatever becomes of the process. Nothing on this side of the network can take them
//! back; the margin between the renew deadline and the Lease's duration is for them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
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

    /// Lets a write pass, or refuses it. Whoever passes must send at once, by [`Pass::send`].
    pub(crate) fn pass(self: &Arc<Self>, now: Moment) -> Result<Pass, Fenced> {
        let until = self.until.lock();
        match *until {
            Some(until) if !until.is_over(now) => {
                self.in_flight.fetch_add(1, Ordering::SeqCst);
                let deadline = until.after(self.margin);
                Ok(Pass { fence: Arc::clone(self), until, deadline, begun: false, answered: false })
            }
            _ => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> Fenced {
        Fenced { lease: self.lease.clone() }
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

/// Why a write that had passed is over without an answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Late {
    /// Nothing was sent: the Lease may have become another's between the fence and the request.
    #[error(transparent)]
    Fenced(Fenced),
    /// It was sent, and its effect is unknown.
    #[error("the lease may have expired before the API server answered")]
    Unanswered,
}

/// A write that may be sent, or is on its way. Dropped on its way, its effect is unknown.
#[derive(Debug)]
pub(crate) struct Pass {
    fence: Arc<Fence>,
    /// When it may not be sent any more.
    until: Moment,
    /// When it must be given up: others may have the Lease then.
    deadline: Moment,
    begun: bool,
    answered: bool,
}

impl Pass {
    /// Whether its sender may go on, judged whenever it gets to run: it begins in time, and ends in time.
    pub(crate) fn turn(&mut self, now: Moment) -> Result<(), Late> {
        if self.begun {
            return if self.deadline.is_over(now) { Err(Late::Unanswered) } else { Ok(()) };
        }
        if self.until.is_over(now) {
            return Err(Late::Fenced(self.fence.refusal()));
        }
        self.begun = true;
        Ok(())
    }

    /// Sends, and gives up when others may have the Lease. The clock is read before the sender runs, each time: after a
    /// freeze a timer would speak up only when the sender has already gone on.
    pub(crate) async fn send<T, E>(
        mut self,
        send: impl Future<Output = Result<T, E>>,
        clock: impl Fn() -> Moment,
    ) -> Result<Result<T, E>, Late> {
        let mut send = pin!(send);
        let mut deadline = pin!(tokio::time::sleep_until(self.deadline.monotonic.into()));
        let answer = poll_fn(|cx| {
            if let Err(late) = self.turn(clock()) {
                return Poll::Ready(Err(late));
            }
            match send.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Ok(answer)),
                Poll::Pending => deadline.as_mut().poll(cx).map(|()| Err(Late::Unanswered)),
            }
        })
        .await?;
        if answer.is_ok() {
            self.answered();
        }
        Ok(answer)
    }

    /// The server answered.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.begun && !self.answered {
            let (deadline, mut abandoned) = (self.deadline.monotonic, self.fence.abandoned.lock());
            *abandoned = Some(abandoned.map_or(deadline, |until| until.max(deadline)));
        }
        self.fence.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt;

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
        assert_eq!(pass.deadline.monotonic, now.monotonic + Duration::from_secs(15));
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
        let [mut answered, mut abandoned, unsent] = std::array::from_fn(|_| fence.pass(now).unwrap());
        answered.turn(now).unwrap();
        answered.answered();
        abandoned.turn(now).unwrap();
        assert!(!fence.is_quiet(now.monotonic));
        drop(abandoned);
        assert!(!fence.is_quiet(now.monotonic + Duration::from_secs(15)), "one may still be sent");
        drop(unsent);
        assert!(!fence.is_quiet(now.monotonic + Duration::from_secs(14)));
        assert!(fence.is_quiet(now.monotonic + Duration::from_secs(15)));
    }

    #[test]
    fn what_never_began_leaves_nothing_to_wait_for() {
        let (fence, now) = (fence(), Moment::now());
        fence.open(now.after(TEN));
        drop(fence.pass(now).unwrap());
        assert!(fence.is_quiet(now.monotonic));
    }

    /// A send that counts how often it ran and never ends.
    fn endless(runs: &Cell<u32>) -> impl Future<Output = Result<(), ()>> {
        poll_fn(|_| {
            runs.set(runs.get() + 1);
            Poll::Pending
        })
    }

    #[tokio::test]
    async fn a_process_that_was_frozen_between_the_fence_and_the_request_sends_nothing() {
        let (fence, now, runs) = (fence(), Moment::now(), Cell::new(0));
        fence.open(now.after(TEN));
        for thawed in [now.after(TEN), Moment { monotonic: now.monotonic, wall: now.wall + TEN }] {
            let pass = fence.pass(now).unwrap();
            let late = pass.send(endless(&runs), || thawed).await.unwrap_err();
            assert_eq!(late, Late::Fenced(Fenced { lease: "n/l".into() }));
        }
        assert_eq!(runs.get(), 0);
        assert!(fence.is_quiet(now.monotonic), "nothing was sent");
    }

    #[tokio::test]
    async fn a_process_that_was_frozen_while_it_sends_does_not_go_on() {
        let (fence, now, runs) = (fence(), Moment::now(), Cell::new(0));
        fence.open(now.after(TEN));
        let (time, pass) = (Cell::new(now), fence.pass(now).unwrap());
        let mut sending = pin!(pass.send(endless(&runs), || time.get()));
        let mut poll = || sending.as_mut().now_or_never();
        assert!(poll().is_none());
        // It may be answered after the last moment to send, but not after the Lease.
        time.set(now.after(Duration::from_millis(14_999)));
        assert!(poll().is_none());
        time.set(now.after(Duration::from_secs(15)));
        assert_eq!(poll(), Some(Err(Late::Unanswered)));
        assert_eq!(runs.get(), 2);
    }
}
