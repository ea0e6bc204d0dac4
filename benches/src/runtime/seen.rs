//! What a no-op reconciler tells the measurement: how often it ran, and when it ran last.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Notify, mpsc};

/// Counts reconciliations.
pub struct Seen {
    count: AtomicUsize,
    target: AtomicUsize,
    reached: Notify,
    each: mpsc::UnboundedSender<Instant>,
}

impl Seen {
    /// A counter, and the times of the reconciliations it counts.
    pub fn new() -> (Seen, mpsc::UnboundedReceiver<Instant>) {
        let (each, times) = mpsc::unbounded_channel();
        let seen = Seen {
            count: AtomicUsize::new(0),
            target: AtomicUsize::new(usize::MAX),
            reached: Notify::new(),
            each,
        };
        (seen, times)
    }

    /// A reconciliation began at this time.
    pub fn note(&self, now: Instant) {
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        // Whoever measures rates does not listen; then this costs next to nothing.
        let _ = self.each.send(now);
        if count >= self.target.load(Ordering::Acquire) {
            self.reached.notify_one();
        }
    }

    /// Waits until there were so many.
    pub async fn reach(&self, target: usize) {
        self.target.store(target, Ordering::Release);
        while self.count.load(Ordering::Acquire) < target {
            self.reached.notified().await;
        }
    }
}
