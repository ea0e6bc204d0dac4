//! A day in the life of a controller that is far slower than the events it gets, from watch bytes to the last
//! reconciliation: what it holds stays within the number of objects, and in the end it has seen the latest of each. The
//! queue's time is simulated, so that the day is over in a moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tower::BoxError;

use super::Lead;
use super::runner::Runner;
use super::{Action, Controller, RawReconciler, Reason};
use crate::cache::{Cache, Cached, Informer, Jitter, Scope};
use crate::context::{Context, Recorder, Scoped, View};
use crate::kind::{Key, Kind};
use crate::manager::metrics::Metrics;
use crate::queue::simulated::Time;
use crate::queue::{Queue, SharedQueue};
use crate::{Error, Result};

const WORKERS: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);
const END_OF_LIST: &str = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;

/// A reconciler that takes its time.
struct Slow {
    time: Time,
    jitter: Mutex<Jitter>,
    /// How long a reconciliation takes, from and to.
    takes: (Duration, Duration),
    /// Whether some fail and some ask to run again.
    unsteady: watch::Receiver<bool>,
    log: Arc<Log>,
}

/// What a reconciler saw.
#[derive(Default)]
struct Log {
    /// The latest state of each object; none of one that is gone.
    latest: Mutex<HashMap<Key, Option<u64>>>,
    /// When each of those under way ends.
    busy: Mutex<BTreeMap<Key, Instant>>,
    runs: Mutex<HashMap<Key, u64>>,
}

impl Slow {
    async fn work(&self, key: &Key, version: Option<u64>) -> Result<Action> {
        let (end, chance) = {
            let mut jitter = self.jitter.lock();
            let takes = self.takes.0 + (self.takes.1 - self.takes.0).mul_f64(jitter.fraction());
            (self.time.now() + takes, jitter.fraction())
        };
        assert!(self.log.busy.lock().insert(key.clone(), end).is_none(), "{key} is worked on twice at once");
        *self.log.runs.lock().entry(key.clone()).or_default() += 1;
        self.log.latest.lock().insert(key.clone(), version);
        self.time.until(end).await;
        self.log.busy.lock().remove(key);
        match *self.unsteady.borrow() {
            true if chance < 0.2 => Err(Error::other("not today")),
            true if chance < 0.5 => Ok(Action::after(MINUTE * 90)),
            _ => Ok(Action::done()),
        }
    }
}

impl RawReconciler for Slow {
    async fn reconcile(&self, object: Arc<Cached>, _: &Context) -> Result<Action> {
        self.work(object.key(), Some(object.resource_version())).await
    }

    async fn deleted(&self, key: &Key, _: &Context) -> Result<Action> {
        self.work(key, None).await
    }
}

/// A controller under way, and the server's side of its watch.
struct Day {
    time: Time,
    queue: Arc<SharedQueue<Key, Reason>>,
    objects: Informer,
    metrics: Metrics,
    events: mpsc::UnboundedSender<String>,
    sent: AtomicU64,
    /// The state of each object as the server has it; none of one that is gone.
    truth: HashMap<Key, Option<u64>>,
    log: Arc<Log>,
    unsteady: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

impl Day {
    async fn begins(takes: (Duration, Duration)) -> Day {
        let (events, lines) = mpsc::unbounded_channel();
        events.send(END_OF_LIST.into()).unwrap();
        let client = server(lines);
        let (cache, kind, time) = (Cache::new(client.clone()), Kind::of::<ConfigMap>(), Time::new());
        let (unsteady, is_unsteady) = watch::channel(true);
        let log = Arc::new(Log::default());
        let jitter = Mutex::new(Jitter::seeded(11));
        let slow = Slow { time: time.clone(), jitter, takes, unsteady: is_unsteady, log: Arc::clone(&log) };
        let controller = Controller::raw(&kind, slow).named("day").concurrency(WORKERS);
        let view = View::open(&cache, &Scope::All, &controller.uses.reads, &controller.uses.indexes);
        let objects = cache.informer(&kind, &Scope::All);
        let metrics = Metrics::default();
        metrics.watch_caches([(None, cache.clone())]);
        let (recorder, _) = Recorder::new(client.clone(), "day");
        let scoped = Scoped {
            manager: "day".into(),
            client,
            view,
            owned: Vec::new(),
            recorder,
            memory: Default::default(),
            mapper: cache.mapper().clone(),
            dry_run: false,
            elsewhere: Default::default(),
        };
        let queue = Queue::new(Queue::<Key, Reason>::BACKOFF);
        let queue = Arc::new(SharedQueue::simulated(&time, queue));
        let figures = metrics.controller("day");
        let runner =
            Runner::with_queue(controller, Arc::new(scoped), objects.clone(), figures, Arc::clone(&queue));
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(runner.run(Lead::always(), stopped));
        objects.synced().await;
        let (sent, truth) = (AtomicU64::new(0), HashMap::new());
        Day { time, queue, objects, metrics, events, sent, truth, log, unsteady, stop, running }
    }

    /// Something happens to an object: it appears or changes, or goes.
    fn event(&mut self, key: &Key, goes: bool) {
        let version = self.sent.fetch_add(1, Ordering::Relaxed) + 2;
        let exists = self.truth.get(key).copied().flatten().is_some();
        if goes && !exists {
            self.sent.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let what = match (exists, goes) {
            (false, _) => "ADDED",
            (true, false) => "MODIFIED",
            (true, true) => "DELETED",
        };
        self.truth.insert(key.clone(), (!goes).then_some(version));
        let (namespace, name) = (key.namespace().unwrap_or_default(), key.name());
        let line = format!(
            r#"{{"type":"{what}","object":{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"{namespace}","uid":"u","resourceVersion":"{version}"}},"data":{{"at":"{version}"}}}}}}"#
        );
        self.events.send(line).unwrap();
    }

    /// Lets everything happen that can without more time.
    async fn settles(&self) {
        loop {
            tokio::task::yield_now().await;
            let now = self.time.now();
            let (ready, due, running) = self.queue.read(|queue, now| {
                (queue.depth(), queue.next_timer(now).is_some_and(|at| at <= now), queue.held().running)
            });
            let at_work = self.log.busy.lock().values().filter(|end| **end > now).count();
            let heard = self.objects.stats().events == self.sent.load(Ordering::Relaxed);
            if heard && running == at_work && (running == WORKERS || (ready == 0 && !due)) {
                return;
            }
        }
    }

    /// What the queue and the cache hold is bounded by the number of objects, and they say so themselves.
    fn is_bounded_by(&self, objects: usize) {
        let held = self.queue.read(|queue, _| queue.held());
        assert!(held.keys <= objects, "{held:?}");
        assert!(held.places <= 2 * objects && held.timers <= objects && held.running <= WORKERS, "{held:?}");
        assert!(held.reasons <= 8 * objects, "{held:?}");
        let figures = self.metrics.text();
        let figure = |name: &str| -> f64 {
            let of_name = figures.lines().filter(|line| line.starts_with(name));
            of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        assert!(figure("workqueue_depth{") as usize <= objects);
        assert!(figure("kubewright_cache_objects{") as usize <= objects);
        assert!(figure("kubewright_cache_bytes{") as usize <= objects * 300);
        assert!(figure("controller_runtime_active_workers{") as usize <= WORKERS);
    }

    /// No more events: what is left to do is done, and every object was seen as it is.
    async fn ends(self) -> Arc<Log> {
        self.unsteady.send_replace(false);
        let mut hours = 0;
        loop {
            self.settles().await;
            if self.queue.read(|queue, _| queue.is_empty()) {
                break;
            }
            self.time.pass(MINUTE);
            hours += 1;
            assert!(hours < 60 * 100, "the queue does not come to an end");
        }
        assert_eq!(*self.log.latest.lock(), self.truth);
        assert_eq!(self.queue.read(|queue, _| queue.held()), Default::default());
        self.stop.send_replace(true);
        self.running.await.unwrap();
        self.log
    }
}

/// A server that answers the watch of a collection with these lines.
fn server(lines: mpsc::UnboundedReceiver<String>) -> kube::Client {
    let lines = Arc::new(Mutex::new(Some(lines)));
    let service = tower::service_fn(move |_: Request<Body>| {
        let lines = lines.lock().take();
        async move {
            let lines = lines.ok_or("there is one watch")?;
            let frames = stream::unfold(lines, |mut lines| async {
                let line = lines.recv().await?;
                Some((Ok::<_, BoxError>(Frame::data(Bytes::from(format!("{line}\n")))), lines))
            });
            Ok::<_, BoxError>(Response::new(StreamBody::new(frames)))
        }
    });
    kube::Client::new(service, "default")
}

#[tokio::test]
async fn a_slow_handler_gets_through_a_day_of_events_in_bounded_memory() {
    const OBJECTS: usize = 300;
    let keys: Vec<Key> =
        (0..OBJECTS).map(|number| Key::new(&format!("n{}", number % 7), &format!("c{number}"))).collect();
    let mut day = Day::begins((MINUTE, MINUTE * 5)).await;
    keys.iter().for_each(|key| day.event(key, false));
    let mut chance = Jitter::seeded(7);
    for second in (0..24 * 60 * 60).step_by(20) {
        for _ in 0..5 {
            let key = &keys[(chance.fraction() * OBJECTS as f64) as usize];
            let goes = chance.fraction() < 0.1;
            day.event(key, goes);
        }
        day.time.pass(Duration::from_secs(20));
        day.settles().await;
        if second % 600 == 0 {
            day.is_bounded_by(OBJECTS);
        }
    }
    let sent = day.sent.load(Ordering::Relaxed);
    let log = day.ends().await;
    let runs: u64 = log.runs.lock().values().sum();
    assert!(sent > 20_000 && runs * 5 < sent, "{runs} reconciliations of {sent} events are no slow handler");
    assert_eq!(log.runs.lock().len(), OBJECTS);
}

#[tokio::test]
async fn a_storm_on_one_object_costs_no_memory_and_holds_up_no_other() {
    const OTHERS: usize = 20;
    let (hot, others): (Key, Vec<Key>) =
        (Key::new("n", "hot"), (0..OTHERS).map(|number| Key::new("n", &format!("c{number}"))).collect());
    let mut day = Day::begins((MINUTE * 2, MINUTE * 2)).await;
    day.unsteady.send_replace(false);
    let mut minutes = 0;
    for round in 0..4 {
        others.iter().for_each(|key| day.event(key, false));
        for _ in 0..30 {
            (0..500).for_each(|_| day.event(&hot, false));
            day.time.pass(MINUTE);
            minutes += 1;
            day.settles().await;
            day.is_bounded_by(OTHERS + 1);
        }
        // Four workers of two minutes: each of the others had its turn within the half hour.
        let runs = day.log.runs.lock();
        assert!(others.iter().all(|key| runs.get(key).is_some_and(|runs| *runs > round)), "{runs:?}");
    }
    let log = day.ends().await;
    let runs = log.runs.lock()[&hot];
    assert!(runs <= minutes / 2 + 2, "{runs} reconciliations of 2 min in {minutes} min");
}
