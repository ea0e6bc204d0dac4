//! A time that moves on when a test says so, for queues whose day is to be over in a moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The time. Clones show the same one.
#[derive(Clone)]
pub(crate) struct Time(Arc<watch::Sender<Instant>>);

impl Time {
    pub(crate) fn new() -> Time {
        Time(Arc::new(watch::Sender::new(Instant::now())))
    }

    pub(crate) fn now(&self) -> Instant {
        *self.0.borrow()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.0.send_modify(|now| *now += time);
    }

    pub(crate) async fn until(&self, at: Instant) {
        // The sender is held here, so that this ends only as wished.
        let _ = self.0.subscribe().wait_for(|now| *now >= at).await;
    }
}
