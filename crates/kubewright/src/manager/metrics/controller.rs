//! The figures of one controller and its queue, and their families, as controller-runtime and client-go name them.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::histogram::Histogram;
use super::{Family, load};
use crate::queue::{Priority, SharedQueue};

/// Priorities that are told apart beside the runtime's own two; the others are counted together.
const PRIORITIES: usize = 25;

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Success,
    RequeueAfter,
    Error,
    Panic,
    Terminal,
    Timeout,
}

impl Ended {
    const ALL: [Ended; 6] =
        [Ended::Success, Ended::RequeueAfter, Ended::Error, Ended::Panic, Ended::Terminal, Ended::Timeout];

    /// The label `result`.
    fn label(self) -> &'static str {
        match self {
            Ended::Success => "success",
            Ended::RequeueAfter => "requeue_after",
            Ended::Error | Ended::Panic | Ended::Terminal | Ended::Timeout => "error",
        }
    }
}

/// What a queue says of itself.
#[derive(Default)]
struct QueueFigures {
    /// Ready keys by priority.
    depths: Vec<(Priority, usize)>,
    adds: u64,
    retries: u64,
    /// Of the keys that are worked on: for how long, together and the longest.
    unfinished: (Duration, Duration),
}

/// The figures of one controller.
#[derive(Default)]
pub(crate) struct ControllerMetrics {
    name: String,
    ended: [AtomicU64; Ended::ALL.len()],
    active: AtomicI64,
    concurrency: AtomicU64,
    reconcile: Histogram,
    waited: Histogram,
    worked: Histogram,
    queue: OnceLock<Box<dyn Fn() -> QueueFigures + Send + Sync>>,
}

impl ControllerMetrics {
    pub(crate) fn new(name: &str) -> ControllerMetrics {
        ControllerMetrics { name: name.into(), ..ControllerMetrics::default() }
    }

    /// A reconciliation begins, of what waited for so long. It is active until the value is dropped.
    pub(crate) fn started(&self, waited: Duration) -> Active<'_> {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.waited.observe(waited);
        Active(self)
    }

    /// A key went back to its queue.
    pub(crate) fn worked(&self, time: Duration) {
        self.worked.observe(time);
    }

    pub(crate) fn concurrency(&self, objects: usize) {
        self.concurrency.store(objects as u64, Ordering::Relaxed);
    }

    pub(crate) fn watch_queue<K, R>(&self, queue: &Arc<SharedQueue<K, R>>)
    where
        K: Clone + Eq + Hash + Debug + Send + 'static,
        R: PartialEq + Send + 'static,
    {
        let queue = Arc::clone(queue);
        let figures = move || {
            queue.read(|queue, now| QueueFigures {
                depths: queue.depths().collect(),
                adds: queue.adds(),
                retries: queue.retries(),
                unfinished: queue.unfinished(now),
            })
        };
        // Each controller has one queue; a second one would be a bug that shows in the figures alone.
        let _ = self.queue.set(Box::new(figures));
    }

    fn count(&self, how: Ended) -> u64 {
        load(&self.ended[how as usize])
    }

    fn figures(&self) -> QueueFigures {
        self.queue.get().map(|figures| figures()).unwrap_or_default()
    }
}

/// A reconciliation under way. One that is cancelled ends without a result.
#[must_use = "it is active until this is dropped"]
pub(crate) struct Active<'a>(&'a ControllerMetrics);

impl Active<'_> {
    /// It ended by itself.
    pub(crate) fn ended(self, elapsed: Duration, how: Ended) {
        self.0.reconcile.observe(elapsed);
        self.0.ended[how as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How deep a queue is by the label `priority`: always for the runtime's own two, and for others while they wait.
fn by_label(depths: &[(Priority, usize)]) -> Vec<(String, usize)> {
    let own = [Priority::LIVE, Priority::LOW];
    let of = |priority: Priority| {
        depths.iter().find(|(known, _)| *known == priority).map_or(0, |(_, depth)| *depth)
    };
    let mut labels: Vec<(String, usize)> =
        own.into_iter().map(|priority| (priority.to_string(), of(priority))).collect();
    let mut others = depths.iter().filter(|(priority, depth)| *depth > 0 && !own.contains(priority));
    labels.extend(others.by_ref().take(PRIORITIES).map(|(priority, depth)| (priority.to_string(), *depth)));
    let rest: usize = others.map(|(_, depth)| depth).sum();
    if rest > 0 {
        labels.push(("other".into(), rest));
    }
    labels
}

/// Writes the families of all controllers.
pub(super) fn write(controllers: &[Arc<ControllerMetrics>], out: &mut String) {
    reconciliations(controllers, out);
    queues(controllers, out);
}

type Figure<'a> = &'a dyn Fn(&ControllerMetrics) -> String;
type Times = fn(&ControllerMetrics) -> &Histogram;
type QueueFigure = fn(&QueueFigures) -> String;

fn reconciliations(controllers: &[Arc<ControllerMetrics>], out: &mut String) {
    let label = |one: &ControllerMetrics| format!("controller=\"{}\"", one.name);
    Family::counter("controller_runtime_reconcile_total", "Reconciliations by result.").write(
        out,
        |out, name| {
            for one in controllers {
                let mut results: BTreeMap<&str, u64> = BTreeMap::new();
                for how in Ended::ALL {
                    *results.entry(how.label()).or_default() += one.count(how);
                }
                for (result, count) in results {
                    let _ = writeln!(out, "{name}{{{},result=\"{result}\"}} {count}", label(one));
                }
            }
        },
    );
    let failed = [Ended::Error, Ended::Panic, Ended::Terminal, Ended::Timeout];
    let figures: [(Family, Figure<'_>); 6] = [
        (Family::counter("controller_runtime_reconcile_errors_total", "Failed reconciliations."), &|one| {
            failed.iter().map(|how| one.count(*how)).sum::<u64>().to_string()
        }),
        (Family::counter("controller_runtime_reconcile_panics_total", "Caught panics."), &|one| {
            one.count(Ended::Panic).to_string()
        }),
        (
            Family::counter(
                "controller_runtime_terminal_reconcile_errors_total",
                "Failures that are not retried.",
            ),
            &|one| one.count(Ended::Terminal).to_string(),
        ),
        (
            Family::counter(
                "controller_runtime_reconcile_timeouts_total",
                "Reconciliations cancelled because they took longer than their controller allows.",
            ),
            &|one| one.count(Ended::Timeout).to_string(),
        ),
        (
            Family::gauge(
                "controller_runtime_max_concurrent_reconciles",
                "Objects that may be reconciled at once.",
            ),
            &|one| load(&one.concurrency).to_string(),
        ),
        (Family::gauge("controller_runtime_active_workers", "Objects that are reconciled now."), &|one| {
            one.active.load(Ordering::Relaxed).to_string()
        }),
    ];
    for (family, figure) in figures {
        family.write(out, |out, name| {
            for one in controllers {
                let _ = writeln!(out, "{name}{{{}}} {}", label(one), figure(one));
            }
        });
    }
    Family::histogram("controller_runtime_reconcile_time_seconds", "Time of a reconciliation.")
        .write(out, |out, name| {
            controllers.iter().for_each(|one| one.reconcile.write(out, name, &label(one)))
        });
}

fn queues(controllers: &[Arc<ControllerMetrics>], out: &mut String) {
    let label = |one: &ControllerMetrics| format!("name=\"{0}\",controller=\"{0}\"", one.name);
    let times: [(Family, Times); 2] = [
        (Family::histogram("workqueue_queue_duration_seconds", "Time from ready to started."), |one| {
            &one.waited
        }),
        (Family::histogram("workqueue_work_duration_seconds", "Time from started to done."), |one| {
            &one.worked
        }),
    ];
    for (family, histogram) in times {
        family.write(out, |out, name| {
            controllers.iter().for_each(|one| histogram(one).write(out, name, &label(one)));
        });
    }
    let figures: Vec<(String, QueueFigures)> =
        controllers.iter().map(|one| (label(one), one.figures())).collect();
    Family::gauge("workqueue_depth", "Keys that are ready, by priority.").write(out, |out, name| {
        for (label, queue) in &figures {
            for (priority, depth) in by_label(&queue.depths) {
                let _ = writeln!(out, "{name}{{{label},priority=\"{priority}\"}} {depth}");
            }
        }
    });
    let each: [(Family, QueueFigure); 4] = [
        (Family::counter("workqueue_adds_total", "How often a key became ready."), |queue| {
            queue.adds.to_string()
        }),
        (
            Family::counter(
                "workqueue_retries_total",
                "How often a key was made to wait: failed, or asked to.",
            ),
            |queue| queue.retries.to_string(),
        ),
        (
            Family::gauge(
                "workqueue_unfinished_work_seconds",
                "How long the keys that are worked on have been, together.",
            ),
            |queue| queue.unfinished.0.as_secs_f64().to_string(),
        ),
        (
            Family::gauge(
                "workqueue_longest_running_processor_seconds",
                "How long the oldest of them has been.",
            ),
            |queue| queue.unfinished.1.as_secs_f64().to_string(),
        ),
    ];
    for (family, figure) in each {
        family.write(out, |out, name| {
            for (label, queue) in &figures {
                let _ = writeln!(out, "{name}{{{label}}} {}", figure(queue));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::simulated::Time;
    use crate::queue::{Outcome, Queue};

    fn text(metrics: ControllerMetrics) -> String {
        let mut out = String::new();
        write(&[Arc::new(metrics)], &mut out);
        out
    }

    #[test]
    fn every_way_to_end_is_counted_under_its_names() {
        let metrics = ControllerMetrics::new("web");
        for how in Ended::ALL {
            metrics.started(Duration::ZERO).ended(Duration::from_millis(2), how);
        }
        let text = text(metrics);
        for line in [
            "controller_runtime_reconcile_total{controller=\"web\",result=\"error\"} 4",
            "controller_runtime_reconcile_total{controller=\"web\",result=\"requeue_after\"} 1",
            "controller_runtime_reconcile_errors_total{controller=\"web\"} 4",
            "controller_runtime_reconcile_panics_total{controller=\"web\"} 1",
            "controller_runtime_terminal_reconcile_errors_total{controller=\"web\"} 1",
            "controller_runtime_reconcile_timeouts_total{controller=\"web\"} 1",
            "controller_runtime_active_workers{controller=\"web\"} 0",
            "controller_runtime_reconcile_time_seconds_count{controller=\"web\"} 6",
            "# TYPE controller_runtime_reconcile_timeouts_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_reconciliation_that_is_cancelled_is_active_no_more() {
        let metrics = ControllerMetrics::new("web");
        let active = metrics.started(Duration::ZERO);
        assert_eq!(metrics.active.load(Ordering::Relaxed), 1);
        drop(active);
        let text = text(metrics);
        for line in [
            "controller_runtime_active_workers{controller=\"web\"} 0",
            "controller_runtime_reconcile_time_seconds_count{controller=\"web\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_queue_tells_of_what_waits_by_priority_and_of_what_is_worked_on() {
        let metrics = ControllerMetrics::new("web");
        let time = Time::new();
        let queue = Arc::new(SharedQueue::simulated(&time, Queue::<u8, ()>::new(Queue::<u8, ()>::BACKOFF)));
        metrics.watch_queue(&queue);
        (0..3).for_each(|key| queue.add(key, Priority::LOW, ()));
        queue.add(9, Priority(7), ());
        let first = queue.try_take().unwrap();
        time.pass(Duration::from_secs(3));
        queue.try_take().unwrap();
        time.pass(Duration::from_secs(2));
        metrics.worked(queue.done(&first.key, Outcome::Failed, ()).unwrap());
        queue.add(10, Priority(7), ());
        let text = text(metrics);
        for line in [
            "workqueue_depth{name=\"web\",controller=\"web\",priority=\"-100\"} 2",
            "workqueue_depth{name=\"web\",controller=\"web\",priority=\"0\"} 0",
            "workqueue_depth{name=\"web\",controller=\"web\",priority=\"7\"} 1",
            "workqueue_adds_total{name=\"web\",controller=\"web\"} 5",
            "workqueue_retries_total{name=\"web\",controller=\"web\"} 1",
            "workqueue_unfinished_work_seconds{name=\"web\",controller=\"web\"} 2",
            "workqueue_longest_running_processor_seconds{name=\"web\",controller=\"web\"} 2",
            "workqueue_work_duration_seconds_bucket{name=\"web\",controller=\"web\",le=\"5\"} 1",
            "workqueue_work_duration_seconds_sum{name=\"web\",controller=\"web\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn many_priorities_are_counted_together() {
        let depths: Vec<(Priority, usize)> = (1..=40).map(|priority| (Priority(priority), 2)).collect();
        let labels = by_label(&depths);
        assert_eq!(labels.len(), 2 + PRIORITIES + 1);
        assert_eq!(labels.last(), Some(&("other".to_owned(), 30)));
    }
}
