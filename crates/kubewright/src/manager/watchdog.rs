//! Whether the process makes progress, as far as that can be told from inside: the runtime wakes its tasks in time, and no
//! reconciliation holds on to its thread. What is late is judged by a time that the caller gives.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the runtime is tried.
const BEAT: Duration = Duration::from_secs(1);
/// A task that is woken later than this is not late because there is much to do.
const LATE: Duration = Duration::from_secs(30);
/// A reconciliation whose time is over is cancelled as soon as it lets go of its thread. One that still runs after this
/// time never did.
const HELD: Duration = Duration::from_secs(60);

/// The last sign of life of a runtime.
#[derive(Debug, Default)]
pub(super) struct Watchdog(Mutex<Option<Instant>>);

impl Watchdog {
    /// Gives signs of life, for ever.
    pub(super) async fn beat(&self) {
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.beaten(Instant::now());
        }
    }

    fn beaten(&self, now: Instant) {
        *self.0.lock() = Some(now);
    }

    /// What `/healthz` tells of the runtime, and whether it is well.
    pub(super) fn judge(&self, now: Instant) -> (String, bool) {
        // Before the first beat nothing is late yet.
        let late = self.0.lock().map(|last| now.saturating_duration_since(last)).filter(|late| *late > LATE);
        match late {
            None => ("the runtime wakes its tasks".into(), true),
            Some(late) => (format!("the runtime wakes its tasks: not for {} s", late.as_secs()), false),
        }
    }
}

/// What `/healthz` tells of a controller, from the time for which its longest reconciliation has run and the time that one
/// may take.
pub(super) fn progress(controller: &str, longest: Duration, limit: Duration) -> (String, bool) {
    match longest > limit.saturating_add(HELD) {
        false => (format!("controller {controller} makes progress"), true),
        true => (
            format!(
                "controller {controller} makes progress: a reconciliation holds on to its thread for {} s, of {} s that it \
                 may take",
                longest.as_secs(),
                limit.as_secs()
            ),
            false,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_wakes_nobody_for_half_a_minute_is_dead() {
        let (dog, start) = (Watchdog::default(), Instant::now());
        assert!(dog.judge(start + Duration::from_secs(3600)).1, "it has not begun");
        dog.beaten(start);
        assert!(dog.judge(start + LATE).1);
        let (text, well) = dog.judge(start + Duration::from_secs(34));
        assert_eq!((text.as_str(), well), ("the runtime wakes its tasks: not for 34 s", false));
        dog.beaten(start + Duration::from_secs(35));
        assert!(dog.judge(start + Duration::from_secs(36)).1);
    }

    #[test]
    fn a_reconciliation_that_outlives_its_time_by_a_minute_holds_its_thread() {
        let limit = Duration::from_secs(300);
        assert!(progress("web", limit + HELD, limit).1);
        let (text, well) = progress("web", Duration::from_secs(361), limit);
        assert!(!well && text.contains("holds on to its thread for 361 s"), "{text}");
        assert!(progress("web", Duration::from_secs(361), Duration::MAX).1);
    }

    #[tokio::test]
    async fn a_runtime_that_works_beats_at_once() {
        let dog = std::sync::Arc::new(Watchdog::default());
        let beating = tokio::spawn({
            let dog = std::sync::Arc::clone(&dog);
            async move { dog.beat().await }
        });
        while dog.0.lock().is_none() {
            tokio::task::yield_now().await;
        }
        beating.abort();
    }
}
