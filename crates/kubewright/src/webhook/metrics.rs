//! The figures of webhooks, under controller-runtime's names: requests by code, latency, requests in flight, panics; and
//! of the certificate they show. Plain atomics, written out when somebody asks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::conversion::PATH as CONVERSION;
use crate::manager::metrics::Histogram;

/// The figures of one path.
#[derive(Default)]
pub(crate) struct PathMetrics {
    path: String,
    codes: Mutex<BTreeMap<u16, u64>>,
    in_flight: AtomicI64,
    panics: AtomicU64,
    latency: Histogram,
}

impl PathMetrics {
    pub(super) fn new(path: &str) -> PathMetrics {
        PathMetrics { path: path.into(), ..PathMetrics::default() }
    }

    /// A request has come; it is in flight until what is given back is dropped.
    pub(super) fn entered(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(super) fn answered(&self, code: u16, took: Duration) {
        *self.codes.lock().entry(code).or_default() += 1;
        self.latency.observe(took);
    }

    pub(super) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request in flight.
pub(super) struct InFlight(Arc<PathMetrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The figures of the certificate.
#[derive(Default)]
pub(crate) struct CertificateMetrics {
    loaded: AtomicU64,
    failed: AtomicU64,
    not_after: AtomicU64,
}

impl CertificateMetrics {
    pub(super) fn loaded(&self, not_after: SystemTime) {
        let seconds = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.loaded.fetch_add(1, Ordering::Relaxed);
        self.not_after.store(seconds, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a process with webhooks counts.
#[derive(Default)]
pub(crate) struct WebhookMetrics {
    pub(super) paths: Vec<Arc<PathMetrics>>,
    pub(super) certificate: Arc<CertificateMetrics>,
}

impl WebhookMetrics {
    /// In Prometheus' text format.
    pub(crate) fn write(&self, out: &mut String) {
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "controller_runtime_webhook_requests_total";
        head(out, name, "counter", "Admission and conversion requests by HTTP status code.");
        for path in &self.paths {
            for (code, count) in path.codes.lock().iter() {
                let _ = writeln!(out, "{name}{{code=\"{code}\",webhook=\"{}\"}} {count}", path.path);
            }
        }
        let name = "controller_runtime_webhook_latency_seconds";
        head(out, name, "histogram", "Time from a request to its answer.");
        for path in &self.paths {
            path.latency.write(out, name, &format!("webhook=\"{}\"", path.path));
        }
        let name = "controller_runtime_webhook_requests_in_flight";
        head(out, name, "gauge", "Requests that are answered now.");
        for path in &self.paths {
            let _ = writeln!(
                out,
                "{name}{{webhook=\"{}\"}} {}",
                path.path,
                path.in_flight.load(Ordering::Relaxed)
            );
        }
        let name = "controller_runtime_webhook_panics_total";
        head(out, name, "counter", "Caught panics.");
        let (conversions, admission): (Vec<_>, Vec<_>) =
            self.paths.iter().partition(|path| path.path == CONVERSION);
        for path in admission {
            let _ =
                writeln!(out, "{name}{{webhook=\"{}\"}} {}", path.path, path.panics.load(Ordering::Relaxed));
        }
        let name = "controller_runtime_conversion_webhook_panics_total";
        head(out, name, "counter", "Caught panics of conversions.");
        for path in conversions {
            let _ = writeln!(out, "{name} {}", path.panics.load(Ordering::Relaxed));
        }
        let certificate = &self.certificate;
        for (name, kind, help, value) in [
            ("certwatcher_read_certificate_total", "counter", "Certificates loaded.", &certificate.loaded),
            (
                "certwatcher_read_certificate_errors_total",
                "counter",
                "Failures to load or renew a certificate.",
                &certificate.failed,
            ),
            (
                "kubewright_webhook_certificate_not_after_seconds",
                "gauge",
                "When the serving certificate expires, in seconds since the epoch.",
                &certificate.not_after,
            ),
        ] {
            head(out, name, kind, help);
            let _ = writeln!(out, "{name} {}", value.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_path_and_code() {
        let path = Arc::new(PathMetrics::new("/validate--v1-pod"));
        let in_flight = path.entered();
        path.answered(200, Duration::from_millis(3));
        let metrics = WebhookMetrics { paths: vec![path], ..WebhookMetrics::default() };
        metrics.certificate.loaded(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
        let text = || {
            let mut out = String::new();
            metrics.write(&mut out);
            out
        };
        let during = text();
        for line in [
            "controller_runtime_webhook_requests_total{code=\"200\",webhook=\"/validate--v1-pod\"} 1\n",
            "controller_runtime_webhook_latency_seconds_bucket{webhook=\"/validate--v1-pod\",le=\"0.005\"} 1\n",
            "controller_runtime_webhook_requests_in_flight{webhook=\"/validate--v1-pod\"} 1\n",
            "kubewright_webhook_certificate_not_after_seconds 9\n",
        ] {
            assert!(during.contains(line), "{line} is missing in:\n{during}");
        }
        drop(in_flight);
        assert!(text().contains("in_flight{webhook=\"/validate--v1-pod\"} 0\n"));
    }

    #[test]
    fn panics_of_conversions_are_counted_by_themselves() {
        let paths = [CONVERSION, "/validate--v1-pod"].map(|path| Arc::new(PathMetrics::new(path)));
        paths[0].panicked();
        let metrics = WebhookMetrics { paths: paths.to_vec(), ..WebhookMetrics::default() };
        let mut out = String::new();
        metrics.write(&mut out);
        let panics: Vec<&str> =
            out.lines().filter(|line| line.contains("panics_total") && !line.starts_with('#')).collect();
        let expected = [
            "controller_runtime_webhook_panics_total{webhook=\"/validate--v1-pod\"} 0",
            "controller_runtime_conversion_webhook_panics_total 1",
        ];
        assert_eq!(panics, expected);
    }
}
