//! A limit of this process's requests to the API server, as a token bucket: a pure value that takes `now`, and the
//! thin service that waits for it. Watches pass freely, as in client-go: they are long-running and rare. There is no
//! limit unless one is set; to be fair among clients is the server's business.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use tower::{BoxError, Service};

use super::request::is_watch;

/// So long a wait is worth a line in the log.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// How many requests a process may send: so many a second, and so many at once after it was quiet.
///
/// ```
/// use kubewright::client::RateLimit;
///
/// let limit = RateLimit::new(20.0, 30); // what controller-runtime once had by default
/// assert!(limit.check().is_ok());
/// assert!(RateLimit::new(0.0, 30).check().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    qps: f64,
    burst: u32,
}

/// A limit that would let nothing through, or makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a limit of {qps} requests a second with bursts of {burst} is none: both must be above 0")]
pub struct InvalidLimit {
    /// Requests a second, as given.
    pub qps: f64,
    /// Requests at once, as given.
    pub burst: u32,
}

impl RateLimit {
    /// `qps` requests a second, and `burst` at once. Checked where it is used.
    pub const fn new(qps: f64, burst: u32) -> RateLimit {
        RateLimit { qps, burst }
    }

    /// Whether it lets anything through.
    ///
    /// # Errors
    /// When it does not, or is not a number.
    pub fn check(self) -> Result<RateLimit, InvalidLimit> {
        let fits = self.qps > 0.0 && self.qps.is_finite() && self.burst > 0;
        if fits { Ok(self) } else { Err(InvalidLimit { qps: self.qps, burst: self.burst }) }
    }

    /// A client whose requests are limited, watches aside. Clones of it share the limit.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn client(self, client: &kube::Client) -> Result<kube::Client, InvalidLimit> {
        Ok(Limiter::new(self)?.client(client))
    }
}

/// A bucket of tokens that fills over time; each request takes one. Requests that come when it is empty are given
/// times to be sent at, in the order in which they ask.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    /// Below zero while requests wait.
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Bucket {
        Bucket { limit, tokens: limit.burst.into(), at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.limit.qps).min(self.limit.burst.into());
    }

    /// Takes a token; the time from which on the request may be sent.
    pub(super) fn reserve(&mut self, now: Instant) -> Instant {
        self.fill(now);
        self.tokens -= 1.0;
        let missing = (-self.tokens).max(0.0) / self.limit.qps;
        // A wait of centuries is as good as any.
        now + Duration::try_from_secs_f64(missing).unwrap_or(Duration::from_secs(u32::MAX.into()))
    }

    /// Takes a token only if there is one.
    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let there = self.tokens >= 1.0;
        self.tokens -= if there { 1.0 } else { 0.0 };
        there
    }

    /// The request was given up before it was sent.
    fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.limit.burst.into());
    }
}

/// A limit that is shared by all clients of a process.
#[derive(Clone, Debug)]
pub(crate) struct Limiter(Arc<Mutex<Bucket>>);

/// A token that goes back unless it is used.
struct Reserved<'a>(&'a Mutex<Bucket>, bool);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.lock().give_back();
        }
    }
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit) -> Result<Limiter, InvalidLimit> {
        let limit = limit.check()?;
        Ok(Limiter(Arc::new(Mutex::new(Bucket::new(limit, Instant::now())))))
    }

    /// Waits until a request may be sent. Dropping the wait gives its place to others.
    pub(crate) async fn pass(&self, request: &http::Uri) {
        if is_watch(request.query()) {
            return;
        }
        let now: Instant = Instant::now();
        let at = self.0.lock().reserve(now);
        if at <= now {
            return;
        }
        let mut reserved = Reserved(&self.0, false);
        let wait = at - now;
        if wait >= WORTH_TELLING {
            tracing::info!(?wait, path = request.path(), "the client's own rate limit holds a request back");
        }
        tokio::time::sleep_until(at.into()).await;
        reserved.1 = true;
    }

    /// The same client, limited.
    pub(crate) fn client(&self, client: &kube::Client) -> kube::Client {
        let service = Limited { client: client.clone(), limiter: self.clone() };
        kube::Client::new(service, client.default_namespace())
    }
}

/// The service that waits.
struct Limited {
    client: kube::Client,
    limiter: Limiter,
}

impl Service<Request<Body>> for Limited {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, limiter) = (self.client.clone(), self.limiter.clone());
        async move {
            limiter.pass(request.uri()).await;
            Ok(client.send(request).await?)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_what_follows_keeps_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RateLimit::new(10.0, 3), start);
        let waits: Vec<Duration> = (0..6).map(|_| bucket.reserve(start) - start).collect();
        let rounded: Vec<u128> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(rounded, [0, 0, 0, 100, 200, 300]);
        // Quiet fills it again, up to the burst and no further.
        let later = start + Duration::from_secs(60);
        let waits: Vec<u128> = (0..4).map(|_| (bucket.reserve(later) - later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100]);
    }

    #[test]
    fn what_is_given_up_makes_room() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RateLimit::new(10.0, 1), start);
        bucket.reserve(start);
        assert!(bucket.reserve(start) > start);
        bucket.give_back();
        assert_eq!((bucket.reserve(start) - start).as_millis(), 100);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let start = Instant::now() + Duration::from_secs(9);
        let mut bucket = Bucket::new(RateLimit::new(10.0, 1), start);
        bucket.reserve(start);
        let earlier = start.checked_sub(Duration::from_secs(5)).unwrap();
        assert!(bucket.reserve(earlier) > earlier);
        assert!((bucket.reserve(start) - start).as_millis() >= 200);
    }

    #[test]
    fn limits_that_let_nothing_through_are_refused() {
        for (qps, burst) in [(0.0, 1), (-1.0, 5), (f64::NAN, 5), (f64::INFINITY, 5), (5.0, 0)] {
            assert!(RateLimit::new(qps, burst).check().is_err(), "{qps} {burst}");
        }
        let error = RateLimit::new(0.0, 3).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "a limit of 0 requests a second with bursts of 3 is none: both must be above 0"
        );
    }

    #[tokio::test]
    async fn calls_wait_for_their_turn_and_watches_do_not() {
        let limiter = Limiter::new(RateLimit::new(0.001, 2)).unwrap();
        let passes = |path: &str| limiter.pass(&path.parse().unwrap()).now_or_never().is_some();
        assert!(passes("/api/v1/pods") && passes("/version"));
        assert!(!passes("/api/v1/pods"));
        assert!((0..100).all(|_| passes("/api/v1/pods?watch=true")));
        // What is dropped while it waits costs nothing: the next one waits no longer than the first.
        (0..100).for_each(|_| assert!(!passes("/version")));
        assert!(limiter.0.lock().tokens > -0.01);
    }

    #[tokio::test]
    async fn what_waited_is_sent() {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let service = tower::service_fn(move |_: Request<Body>| {
            counter.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, BoxError>(Response::new(Body::empty())) }
        });
        let client = RateLimit::new(1000.0, 1).client(&kube::Client::new(service, "team")).unwrap();
        assert_eq!(client.default_namespace(), "team");
        for _ in 0..5 {
            client.send(Request::get("/version").body(Body::empty()).unwrap()).await.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 5);
    }
}
