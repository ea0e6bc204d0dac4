//! Holds back this process's requests to the API server as a [`RateLimit`] says. Watches pass freely, as in client-go:
//! they are long-running and rare. There is no limit unless one is set; to be fair among clients is the server's business.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request};
use kube::client::Body;
use parking_lot::Mutex;

use super::request::is_watch;
use crate::manager::metrics::Calls;
use crate::rate::{Bucket, RateLimit};

/// So long a wait is worth a line in the log.
const WORTH_TELLING: Duration = Duration::from_secs(1);

impl RateLimit {
    /// A client whose requests are limited, watches aside. Clones of it share the limit.
    pub fn client(self, client: &kube::Client) -> kube::Client {
        Limiter::new(self, None).client(client)
    }
}

/// A limit that is shared by all clients of a process.
#[derive(Clone)]
pub(crate) struct Limiter {
    bucket: Arc<Mutex<Bucket>>,
    /// Where it is told how long requests were held back.
    calls: Option<Calls>,
}

/// A token that goes back unless it is used.
struct Reserved<'a>(&'a Mutex<Bucket>, bool);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.lock().refund();
        }
    }
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit, calls: Option<Calls>) -> Limiter {
        Limiter { bucket: Arc::new(Mutex::new(Bucket::new(limit))), calls }
    }

    /// Waits until a request may be sent. Dropping the wait gives its place to others.
    pub(crate) async fn pass(&self, method: &Method, request: &http::Uri) {
        if is_watch(request.query()) {
            return;
        }
        let now: Instant = Instant::now();
        let at = self.bucket.lock().reserve(now);
        if at > now {
            let mut reserved = Reserved(&self.bucket, false);
            let wait = at - now;
            if wait >= WORTH_TELLING {
                tracing::info!(
                    ?wait,
                    path = request.path(),
                    "the client's own rate limit holds a request back"
                );
            }
            tokio::time::sleep_until(at.into()).await;
            reserved.1 = true;
        }
        if let Some(calls) = &self.calls {
            calls.held_back(method, at.saturating_duration_since(now));
        }
    }

    /// The same client, limited.
    pub(crate) fn client(&self, client: &kube::Client) -> kube::Client {
        let namespace = client.default_namespace();
        let (client, limiter) = (client.clone(), self.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, limiter) = (client.clone(), limiter.clone());
            async move {
                limiter.pass(request.method(), request.uri()).await;
                client.send(request).await
            }
        });
        kube::Client::new(service, namespace)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use http::Response;
    use tower::BoxError;

    use super::*;
    use crate::manager::metrics::Metrics;

    #[tokio::test]
    async fn calls_wait_for_their_turn_and_watches_do_not() {
        let metrics = Metrics::default();
        let limit = RateLimit::every(Duration::from_secs(1000)).burst(2);
        let limiter = Limiter::new(limit, Some(metrics.calls(None)));
        let passes = |path: &str| limiter.pass(&Method::GET, &path.parse().unwrap()).now_or_never().is_some();
        assert!(passes("/api/v1/pods") && passes("/version"));
        assert!(!passes("/api/v1/pods"));
        assert!((0..100).all(|_| passes("/api/v1/pods?watch=true")));
        // What is dropped while it waits costs nothing: the next one waits no longer than the first.
        (0..100).for_each(|_| assert!(!passes("/version")));
        let opens = limiter.bucket.lock().opens(Instant::now()).unwrap();
        assert!(opens <= Instant::now() + Duration::from_secs(1000));
        // What passed is told of, be it at once.
        let told = "rest_client_rate_limiter_duration_seconds_count{verb=\"GET\"} 2\n";
        assert!(metrics.text().contains(told), "{}", metrics.text());
    }

    #[tokio::test]
    async fn what_waited_is_sent() {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let service = tower::service_fn(move |_: Request<Body>| {
            counter.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, BoxError>(Response::new(Body::empty())) }
        });
        let client = RateLimit::per_second(1000).client(&kube::Client::new(service, "team"));
        assert_eq!(client.default_namespace(), "team");
        for _ in 0..5 {
            client.send(Request::get("/version").body(Body::empty()).unwrap()).await.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 5);
    }
}
