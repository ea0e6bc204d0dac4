//! The figures of a process's requests to API servers, as client-go names them: how many by method and code, how long
//! answers took, how long requests were held back by the process's own limit, and how many were sent again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;

use super::histogram::Histogram;
use super::{Family, in_cluster};

/// The figures of one cluster and method.
#[derive(Default)]
struct Figures {
    codes: BTreeMap<u16, u64>,
    /// By the code of what was sent again.
    retries: BTreeMap<u16, u64>,
    took: Histogram,
    held_back: Option<Histogram>,
}

/// Figures by code.
type Counts = fn(&Figures) -> &BTreeMap<u16, u64>;

/// Figures of times, where there are any.
type Times = fn(&Figures) -> Option<&Histogram>;

/// A cluster, which has a name unless it is the manager's own, and a method.
type Slot = (Option<Arc<str>>, String);

/// The figures of all requests of a process.
#[derive(Default)]
pub(super) struct Requests(Mutex<BTreeMap<Slot, Figures>>);

/// The figures of requests to one cluster. Clones count together. Requests without an answer have the code 0.
#[derive(Clone)]
pub(crate) struct Calls {
    requests: Arc<Requests>,
    cluster: Option<Arc<str>>,
}

impl Calls {
    pub(super) fn new(requests: &Arc<Requests>, cluster: Option<&str>) -> Calls {
        Calls { requests: Arc::clone(requests), cluster: cluster.map(Arc::from) }
    }

    /// A request was answered, or failed. How long that took counts unless it is a watch, whose answer lasts.
    pub(crate) fn answered(&self, method: &Method, code: Option<u16>, took: Option<Duration>) {
        self.note(method, |figures| {
            *figures.codes.entry(code.unwrap_or(0)).or_default() += 1;
            if let Some(took) = took {
                figures.took.observe(took);
            }
        });
    }

    /// A request is sent again after an answer of this code.
    pub(crate) fn sent_again(&self, method: &Method, code: Option<u16>) {
        self.note(method, |figures| *figures.retries.entry(code.unwrap_or(0)).or_default() += 1);
    }

    /// The process's own limit let a request pass after so long.
    pub(crate) fn held_back(&self, method: &Method, time: Duration) {
        self.note(method, |figures| figures.held_back.get_or_insert_default().observe(time));
    }

    fn note(&self, method: &Method, note: impl FnOnce(&mut Figures)) {
        note(self.requests.0.lock().entry((self.cluster.clone(), method.to_string())).or_default());
    }
}

impl Requests {
    pub(super) fn write(&self, out: &mut String) {
        let requests = self.0.lock();
        let counters: [(Family, &str, Counts); 2] = [
            (
                Family::counter(
                    "rest_client_requests_total",
                    "Requests by method and code; code 0 had no answer.",
                ),
                "method",
                |figures| &figures.codes,
            ),
            (
                Family::counter(
                    "rest_client_request_retries_total",
                    "Requests that were sent again, by the code before.",
                ),
                "verb",
                |figures| &figures.retries,
            ),
        ];
        for (family, label, counts) in counters {
            family.write(out, |out, name| {
                for ((cluster, method), figures) in requests.iter() {
                    let cluster = in_cluster(cluster.as_deref());
                    for (code, count) in counts(figures) {
                        let _ =
                            writeln!(out, "{name}{{{label}=\"{method}\",code=\"{code}\"{cluster}}} {count}");
                    }
                }
            });
        }
        let times: [(Family, Times); 2] = [
            (
                Family::histogram(
                    "rest_client_request_duration_seconds",
                    "Time from a request to the start of its answer, watches aside.",
                ),
                |figures| Some(&figures.took),
            ),
            (
                Family::histogram(
                    "rest_client_rate_limiter_duration_seconds",
                    "Time for which the process's own limit held a request back.",
                ),
                |figures| figures.held_back.as_ref(),
            ),
        ];
        for (family, times) in times {
            family.write(out, |out, name| {
                for ((cluster, method), figures) in requests.iter() {
                    if let Some(histogram) = times(figures) {
                        let cluster = in_cluster(cluster.as_deref());
                        histogram.write(out, name, &format!("verb=\"{method}\"{cluster}"));
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_cluster_method_and_code() {
        let requests = Arc::<Requests>::default();
        let home = Calls::new(&requests, None);
        let edge = Calls::new(&requests, Some("edge"));
        home.answered(&Method::GET, Some(200), Some(Duration::from_millis(3)));
        home.answered(&Method::GET, Some(200), None);
        home.answered(&Method::PATCH, None, Some(Duration::from_secs(1)));
        home.sent_again(&Method::PATCH, None);
        edge.answered(&Method::GET, Some(429), Some(Duration::from_secs(1)));
        edge.held_back(&Method::GET, Duration::ZERO);
        edge.held_back(&Method::GET, Duration::from_secs(2));
        let mut text = String::new();
        requests.write(&mut text);
        for line in [
            "rest_client_requests_total{method=\"GET\",code=\"200\"} 2",
            "rest_client_requests_total{method=\"PATCH\",code=\"0\"} 1",
            "rest_client_requests_total{method=\"GET\",code=\"429\",cluster=\"edge\"} 1",
            "rest_client_request_retries_total{verb=\"PATCH\",code=\"0\"} 1",
            "rest_client_request_duration_seconds_count{verb=\"GET\"} 1",
            "rest_client_request_duration_seconds_bucket{verb=\"GET\",cluster=\"edge\",le=\"1\"} 1",
            "rest_client_rate_limiter_duration_seconds_bucket{verb=\"GET\",cluster=\"edge\",le=\"0.001\"} 1",
            "rest_client_rate_limiter_duration_seconds_sum{verb=\"GET\",cluster=\"edge\"} 2",
            "# TYPE rest_client_rate_limiter_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let unlimited = "rest_client_rate_limiter_duration_seconds_count{verb=\"GET\"}";
        assert!(!text.contains(unlimited), "{text}");
    }
}
