//! Metrics in Prometheus' text format, under controller-runtime's names where they mean the same. Plain
//! atomics and a few histograms; written out when somebody asks.

mod calls;
mod controller;
mod histogram;
mod own;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub(crate) use self::calls::Calls;
use self::calls::Requests;
pub(crate) use self::controller::{ControllerMetrics, Ended};
pub(crate) use self::histogram::Histogram;
pub(crate) use self::own::Figures;
use crate::cache::{Cache, InformerStats};
use crate::webhook::metrics::WebhookMetrics;

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Figures of one name.
#[derive(Clone, Copy)]
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

impl Family {
    fn counter(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: "counter", help }
    }

    fn gauge(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: "gauge", help }
    }

    fn histogram(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: "histogram", help }
    }

    fn write(self, out: &mut String, figures: impl FnOnce(&mut String, &str)) {
        let Family { name, kind, help } = self;
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        figures(out, name);
    }
}

/// The label of another cluster than the manager's own.
fn in_cluster(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(",cluster=\"{name}\""))
}

/// A figure of an informer.
type CacheFigure = fn(&InformerStats) -> f64;

/// What is told of caches: name, type and meaning of each family, and the figure.
const CACHE: [(&str, &str, &str, CacheFigure); 11] = [
    ("kubewright_cache_connected", "gauge", "Whether the watch is open.", |stats| f64::from(stats.connected)),
    (
        "kubewright_cache_lag_seconds",
        "gauge",
        "How long the server has said nothing; on an open watch it says something about once a minute.",
        |stats| stats.lag.as_secs_f64(),
    ),
    (
        "kubewright_cache_resource_version",
        "gauge",
        "The revision up to which everything is in the cache.",
        |stats| stats.resource_version as f64,
    ),
    (
        "kubewright_cache_own_writes",
        "gauge",
        "Writes of this process that the cache does not show yet.",
        |stats| stats.own_writes as f64,
    ),
    ("kubewright_cache_objects", "gauge", "Objects in the cache.", |stats| stats.objects as f64),
    ("kubewright_cache_bytes", "gauge", "Bytes of JSON in the cache.", |stats| stats.bytes as f64),
    (
        "kubewright_cache_uncompressed_bytes",
        "gauge",
        "Bytes of JSON in the cache that are not compressed.",
        |stats| stats.hot_bytes as f64,
    ),
    ("kubewright_cache_lists_total", "counter", "Lists begun, the first included.", |stats| {
        stats.relists as f64
    }),
    ("kubewright_cache_events_total", "counter", "Changes applied.", |stats| stats.events as f64),
    (
        "kubewright_cache_failures_total",
        "counter",
        "Requests of the cache that failed, and watches that were cut off.",
        |stats| stats.failures as f64,
    ),
    ("kubewright_cache_undecodable_total", "counter", "Objects that could not be read.", |stats| {
        stats.undecodable as f64
    }),
];

/// A figure that is asked for whenever metrics are.
struct Gauge {
    family: &'static str,
    help: &'static str,
    name: String,
    value: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// The figures of a process.
#[derive(Default)]
pub(crate) struct Metrics {
    controllers: Mutex<Vec<Arc<ControllerMetrics>>>,
    requests: Arc<Requests>,
    caches: Mutex<Vec<(Option<String>, Cache)>>,
    webhooks: Mutex<Option<WebhookMetrics>>,
    gauges: Mutex<Vec<Gauge>>,
    own: Mutex<Vec<Figures>>,
}

impl Metrics {
    pub(crate) fn controller(&self, name: &str) -> Arc<ControllerMetrics> {
        let metrics = Arc::new(ControllerMetrics::new(name));
        self.controllers.lock().push(Arc::clone(&metrics));
        metrics
    }

    /// Counts requests to a cluster, which has a name unless it is the manager's own.
    pub(crate) fn calls(&self, cluster: Option<&str>) -> Calls {
        Calls::new(&self.requests, cluster)
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

    /// Tells of the program's own figures too.
    pub(crate) fn own(&self, figures: Vec<Figures>) {
        self.own.lock().extend(figures);
    }

    /// Tells of webhooks too.
    pub(crate) fn watch_webhooks(&self, webhooks: WebhookMetrics) {
        *self.webhooks.lock() = Some(webhooks);
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        controller::write(&self.controllers.lock(), &mut out);
        self.requests.write(&mut out);
        for gauges in self.gauges.lock().chunk_by(|a, b| a.family == b.family) {
            Family::gauge(gauges[0].family, gauges[0].help).write(&mut out, |out, name| {
                for gauge in gauges {
                    let _ = writeln!(out, "{name}{{name=\"{}\"}} {}", gauge.name, (gauge.value)());
                }
            });
        }
        if let Some(dropped) = crate::logs::dropped() {
            let help = "Log lines that were not written because stderr was not read fast enough.";
            Family::counter("kubewright_log_lines_dropped_total", help).write(&mut out, |out, name| {
                let _ = writeln!(out, "{name} {dropped}");
            });
        }
        // Of one resource there may be several, in other scopes or versions; a series stands for all of them.
        let mut informers: BTreeMap<String, InformerStats> = BTreeMap::new();
        for (cluster, cache) in self.caches.lock().iter() {
            let cluster = in_cluster(cluster.as_deref());
            for informer in cache.informers() {
                let labels = format!("resource=\"{}\"{cluster}", informer.kind());
                let stats = informer.stats();
                informers.entry(labels).and_modify(|known| *known = known.and(stats)).or_insert(stats);
            }
        }
        for (name, kind, help, value) in CACHE {
            Family { name, kind, help }.write(&mut out, |out, name| {
                for (labels, stats) in &informers {
                    let _ = writeln!(out, "{name}{{{labels}}} {}", value(stats));
                }
            });
        }
        if let Some(webhooks) = &*self.webhooks.lock() {
            webhooks.write(&mut out);
        }
        own::write(&self.own.lock(), &mut out);
        out
    }
}
