//! Metrics in Prometheus' text format, under controller-runtime's names where they mean the same. Plain
//! atomics and a few histograms; written out when somebody asks.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::cache::{Cache, InformerStats};
use crate::queue::SharedQueue;
use crate::webhook::metrics::WebhookMetrics;

/// Upper bounds of the histograms' buckets, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// How a reconciliation ended; the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Success,
    RequeueAfter,
    Error,
    Panic,
    Terminal,
}

impl Ended {
    const ALL: [Ended; 5] =
        [Ended::Success, Ended::RequeueAfter, Ended::Error, Ended::Panic, Ended::Terminal];

    fn label(self) -> &'static str {
        match self {
            Ended::Success => "success",
            Ended::RequeueAfter => "requeue_after",
            Ended::Error | Ended::Panic | Ended::Terminal => "error",
        }
    }
}

#[derive(Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn write(&self, out: &mut String, name: &str, label: &str) {
        let mut below = 0;
        for (bound, bucket) in BUCKETS.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{label},le=\"{bound}\"}} {below}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}_bucket{{{label},le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{{label}}} {}", self.micros.load(Ordering::Relaxed) as f64 / 1e6);
        let _ = writeln!(out, "{name}_count{{{label}}} {count}");
    }
}

/// The label of another cluster than the manager's own.
fn in_cluster(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(",cluster=\"{name}\""))
}

/// A figure of an informer.
type CacheFigure = fn(&InformerStats) -> u64;

/// Depth, additions and retries of a queue.
type QueueFigures = Box<dyn Fn() -> (usize, u64, u64) + Send + Sync>;

/// A figure that is asked for whenever metrics are.
struct Gauge {
    family: &'static str,
    help: &'static str,
    name: String,
    value: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// The figures of one controller.
pub(crate) struct ControllerMetrics {
    name: String,
    ended: [AtomicU64; Ended::ALL.len()],
    active: AtomicI64,
    concurrency: AtomicU64,
    reconcile: Histogram,
    waited: Histogram,
    queue: OnceLock<QueueFigures>,
}

impl ControllerMetrics {
    pub(crate) fn started(&self, waited: Duration) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.waited.observe(waited);
    }

    pub(crate) fn ended(&self, elapsed: Duration, how: Ended) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        self.reconcile.observe(elapsed);
        self.ended[how as usize].fetch_add(1, Ordering::Relaxed);
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
        let figures = move || queue.read(|queue| (queue.depth(), queue.adds(), queue.retries()));
        // Each controller has one queue; a second one would be a bug that shows in the figures alone.
        let _ = self.queue.set(Box::new(figures));
    }
}

/// What requests are counted by: the cluster, the method and the code.
type Requests = (Option<Arc<str>>, String, u16);

/// The figures of a process.
#[derive(Default)]
pub(crate) struct Metrics {
    controllers: Mutex<Vec<Arc<ControllerMetrics>>>,
    requests: Mutex<BTreeMap<Requests, u64>>,
    caches: Mutex<Vec<(Option<String>, Cache)>>,
    webhooks: Mutex<Option<WebhookMetrics>>,
    gauges: Mutex<Vec<Gauge>>,
}

impl Metrics {
    pub(crate) fn controller(&self, name: &str) -> Arc<ControllerMetrics> {
        let metrics = Arc::new(ControllerMetrics {
            name: name.into(),
            ended: Default::default(),
            active: AtomicI64::new(0),
            concurrency: AtomicU64::new(0),
            reconcile: Histogram::default(),
            waited: Histogram::default(),
            queue: OnceLock::new(),
        });
        self.controllers.lock().push(Arc::clone(&metrics));
        metrics
    }

    /// Counts a request to a cluster, which has a name unless it is the manager's own; without a code when there was no
    /// answer.
    pub(crate) fn request(&self, cluster: Option<&Arc<str>>, method: &http::Method, code: Option<u16>) {
        let counted = (cluster.cloned(), method.to_string(), code.unwrap_or(0));
        *self.requests.lock().entry(counted).or_default() += 1;
    }

    /// Tells of these caches too, each with the name of its cluster unless that is the manager's own.
    pub(crate) fn watch_caches(&self, caches: impl IntoIterator<Item = (Option<String>, Cache)>) {
        self.caches.lock().extend(caches);
    }

    /// Adds a figure with the label `name`. Figures of one family must be added one after another.
    pub(crate) fn gauge(
        &self,
        family: &'static str,
        help: &'static str,
        name: &str,
        value: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.gauges.lock().push(Gauge { family, help, name: name.into(), value: Box::new(value) });
    }

    /// Tells of webhooks too.
    pub(crate) fn watch_webhooks(&self, webhooks: WebhookMetrics) {
        *self.webhooks.lock() = Some(webhooks);
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let controllers = self.controllers.lock();
        let mut family = |name: &str, kind: &str, help: &str, write: &mut dyn FnMut(&mut String, &str)| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            write(&mut out, name);
        };
        let each = |out: &mut String, name: &str, value: &dyn Fn(&ControllerMetrics) -> i64, label: &str| {
            for controller in controllers.iter() {
                let _ = writeln!(out, "{name}{{{label}=\"{}\"}} {}", controller.name, value(controller));
            }
        };
        let load = |counter: &AtomicU64| i64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        family(
            "controller_runtime_reconcile_total",
            "counter",
            "Reconciliations by result.",
            &mut |out, name| {
                for controller in controllers.iter() {
                    let mut results: BTreeMap<&str, i64> = BTreeMap::new();
                    for how in Ended::ALL {
                        *results.entry(how.label()).or_default() += load(&controller.ended[how as usize]);
                    }
                    for (result, count) in results {
                        let _ = writeln!(
                            out,
                            "{name}{{controller=\"{}\",result=\"{result}\"}} {count}",
                            controller.name
                        );
                    }
                }
            },
        );
        let failed = [Ended::Error, Ended::Panic, Ended::Terminal];
        family(
            "controller_runtime_reconcile_errors_total",
            "counter",
            "Failed reconciliations.",
            &mut |out, name| {
                each(
                    out,
                    name,
                    &|one| failed.iter().map(|how| load(&one.ended[*how as usize])).sum(),
                    "controller",
                );
            },
        );
        family("controller_runtime_reconcile_panics_total", "counter", "Caught panics.", &mut |out, name| {
            each(out, name, &|one| load(&one.ended[Ended::Panic as usize]), "controller");
        });
        family(
            "controller_runtime_terminal_reconcile_errors_total",
            "counter",
            "Failures that are not retried.",
            &mut |out, name| {
                each(out, name, &|one| load(&one.ended[Ended::Terminal as usize]), "controller");
            },
        );
        family(
            "controller_runtime_max_concurrent_reconciles",
            "gauge",
            "Objects that may be reconciled at once.",
            &mut |out, name| {
                each(out, name, &|one| load(&one.concurrency), "controller");
            },
        );
        family(
            "controller_runtime_active_workers",
            "gauge",
            "Objects that are reconciled now.",
            &mut |out, name| {
                each(out, name, &|one| one.active.load(Ordering::Relaxed), "controller");
            },
        );
        family(
            "controller_runtime_reconcile_time_seconds",
            "histogram",
            "Time of a reconciliation.",
            &mut |out, name| {
                for controller in controllers.iter() {
                    controller.reconcile.write(out, name, &format!("controller=\"{}\"", controller.name));
                }
            },
        );
        family(
            "workqueue_queue_duration_seconds",
            "histogram",
            "Time from ready to started.",
            &mut |out, name| {
                for controller in controllers.iter() {
                    controller.waited.write(out, name, &format!("name=\"{}\"", controller.name));
                }
            },
        );
        let queue = |one: &ControllerMetrics| one.queue.get().map_or((0, 0, 0), |figures| figures());
        family("workqueue_depth", "gauge", "Keys that are ready.", &mut |out, name| {
            each(out, name, &|one| i64::try_from(queue(one).0).unwrap_or(i64::MAX), "name");
        });
        family("workqueue_adds_total", "counter", "Additions to the queue.", &mut |out, name| {
            each(out, name, &|one| i64::try_from(queue(one).1).unwrap_or(i64::MAX), "name");
        });
        family("workqueue_retries_total", "counter", "Retries after failures.", &mut |out, name| {
            each(out, name, &|one| i64::try_from(queue(one).2).unwrap_or(i64::MAX), "name");
        });
        family(
            "rest_client_requests_total",
            "counter",
            "Requests by method and code; code 0 had no answer.",
            &mut |out, name| {
                for ((cluster, method, code), count) in self.requests.lock().iter() {
                    let cluster = in_cluster(cluster.as_deref());
                    let _ = writeln!(out, "{name}{{method=\"{method}\",code=\"{code}\"{cluster}}} {count}");
                }
            },
        );
        for gauges in self.gauges.lock().chunk_by(|a, b| a.family == b.family) {
            family(gauges[0].family, "gauge", gauges[0].help, &mut |out, name| {
                for gauge in gauges {
                    let _ = writeln!(out, "{name}{{name=\"{}\"}} {}", gauge.name, (gauge.value)());
                }
            });
        }
        let mut informers = Vec::new();
        for (cluster, cache) in self.caches.lock().iter() {
            let cluster = in_cluster(cluster.as_deref());
            informers.extend(
                cache
                    .informers()
                    .into_iter()
                    .map(|informer| (format!("resource=\"{}\"{cluster}", informer.kind()), informer.stats())),
            );
        }
        let figures: [(&str, &str, &str, CacheFigure); 6] = [
            ("kubewright_cache_connected", "gauge", "Whether the watch is open.", |stats| {
                u64::from(stats.connected)
            }),
            ("kubewright_cache_objects", "gauge", "Objects in the cache.", |stats| stats.objects as u64),
            ("kubewright_cache_bytes", "gauge", "Bytes of JSON in the cache.", |stats| stats.bytes as u64),
            ("kubewright_cache_lists_total", "counter", "Lists begun, the first included.", |stats| {
                stats.relists
            }),
            ("kubewright_cache_events_total", "counter", "Changes applied.", |stats| stats.events),
            ("kubewright_cache_undecodable_total", "counter", "Objects that could not be read.", |stats| {
                stats.undecodable
            }),
        ];
        for (name, kind, help, value) in figures {
            family(name, kind, help, &mut |out, name| {
                for (labels, stats) in &informers {
                    let _ = writeln!(out, "{name}{{{labels}}} {}", value(stats));
                }
            });
        }
        if let Some(webhooks) = &*self.webhooks.lock() {
            webhooks.write(&mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(3));
        histogram.observe(Duration::from_secs(2));
        histogram.observe(Duration::from_secs(2000));
        let mut out = String::new();
        histogram.write(&mut out, "t", "a=\"b\"");
        assert!(out.contains("t_bucket{a=\"b\",le=\"0.001\"} 0\n"));
        assert!(out.contains("t_bucket{a=\"b\",le=\"0.005\"} 1\n"));
        assert!(out.contains("t_bucket{a=\"b\",le=\"300\"} 2\n"));
        assert!(
            out.contains("t_bucket{a=\"b\",le=\"+Inf\"} 3\nt_sum{a=\"b\"} 2002.003\nt_count{a=\"b\"} 3\n")
        );
    }
}
