//! Starting and stopping, in order: listeners, agreement with other replicas, webhooks, caches; then whatever works, each
//! part as its caches are synced. It stops in reverse: what works, then the Lease and the webhooks, which may be asked about
//! what is written until then, then the events that are still to be written.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::watch;

use super::cluster::Place;
use super::endpoints::{Endpoints, addresses, private};
use super::extra::Endpoint;
use super::gate::Gate;
use super::health::Health;
use super::metrics::Metrics;
use super::parts::Parts;
use super::queues::Queues;
use super::replicas::Elected;
use super::watchdog::{Watchdog, progress};
use super::{Manager, metrics_permits, own_permits};
use crate::cache::Informer;
use crate::client::{ClientOptions, Guard, Limiter, Permits, Warnings};
use crate::context::{Recorder, Scoped, Uses, View};
use crate::controller::{Lead, Runner};
use crate::kind::Kind;
use crate::lease::Fence;
use crate::limits::Limits;
use crate::serving::{Secured, listen, serve};
use crate::webhook::Webhook;
use crate::webhook::certificates::Alone;
use crate::webhook::names::Names;
use crate::{Error, Result};

/// How long giving the Lease back may take.
const RELEASE: Duration = Duration::from_secs(5);
/// How long writing the last events may take.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// How long stopping may take beyond the grace period, the last log lines included.
pub(crate) const STOPPING: Duration = Duration::from_secs(RELEASE.as_secs() + LAST_EVENTS.as_secs() + 2);

/// What guarded clients are made of.
struct Guards {
    warnings: Arc<Warnings>,
}

impl Guards {
    /// A client of a cluster that may do this much.
    fn client(&self, place: &Place, permits: Permits, fence: Option<Arc<Fence>>) -> kube::Client {
        self.limited(place, permits, fence, place.limiter.clone())
    }

    fn limited(
        &self,
        place: &Place,
        permits: Permits,
        fence: Option<Arc<Fence>>,
        limiter: Option<Limiter>,
    ) -> kube::Client {
        let guard = Guard {
            warnings: Arc::clone(&self.warnings),
            fence,
            limiter,
            inner: place.client.clone(),
            permits: Arc::new(permits),
            cache: place.cache.clone(),
            calls: place.calls.clone(),
        };
        kube::Client::new(guard, place.client.default_namespace())
    }
}

/// What all parts are started with.
struct Start {
    manager: String,
    guards: Guards,
    home: Place,
    others: BTreeMap<String, Place>,
    recorder: Recorder,
    options: ClientOptions,
    /// What has to be synced before the process is ready.
    informers: Vec<(Option<String>, Informer)>,
}

impl Start {
    /// What code that declares this much shares; `who` it is, for errors, and the client that it has of its own.
    fn scoped(
        &mut self,
        (who, own): (&str, Option<kube::Client>),
        uses: Uses,
        owned: Vec<Kind>,
        elsewhere: BTreeMap<String, Uses>,
        fence: Option<&Arc<Fence>>,
    ) -> Result<Arc<Scoped>> {
        let mut others = BTreeMap::new();
        for (name, uses) in elsewhere {
            let Some(place) = self.others.get(&name) else {
                return Err(Error::Usage(format!(
                    "{who} uses a cluster \"{name}\" that the manager does not have; add it with `.cluster(..)`"
                )));
            };
            let scoped =
                open(&self.manager, &self.guards, place, &self.recorder, &mut self.informers, uses, fence);
            others.insert(name, Arc::new(scoped));
        }
        let home = match own {
            Some(client) => &Place { client, ..self.home.clone() },
            None => &self.home,
        };
        let home = open(&self.manager, &self.guards, home, &self.recorder, &mut self.informers, uses, fence);
        let scoped = Scoped { owned, elsewhere: others, ..home };
        Ok(Arc::new(if self.options.is_empty() { scoped } else { scoped.with(&self.options) }))
    }
}

fn open(
    manager: &str,
    guards: &Guards,
    place: &Place,
    recorder: &Recorder,
    informers: &mut Vec<(Option<String>, Informer)>,
    uses: Uses,
    fence: Option<&Arc<Fence>>,
) -> Scoped {
    let view = View::open(&place.cache, &place.scope, &uses.reads, &uses.indexes);
    informers.extend(view.informers().map(|informer| (place.name.clone(), informer.clone())));
    Scoped {
        manager: manager.to_owned(),
        client: guards.client(place, uses.permits, fence.cloned()),
        view,
        owned: Vec::new(),
        recorder: recorder.clone(),
        memory: Default::default(),
        mapper: place.cache.mapper().clone(),
        dry_run: false,
        elsewhere: BTreeMap::new(),
    }
}

impl Manager {
    /// The kinds of which a replica needs its share only: they are reconciled, and nothing else reads them.
    fn kinds_to_share(&self) -> HashSet<Kind> {
        let hooks = self.webhooks.hooks.iter().flat_map(|hook| &hook.uses.reads);
        let runnables = self.runnables.iter().flat_map(|runnable| &runnable.uses.reads);
        let mut whole: HashSet<&Kind> = hooks.chain(runnables).collect();
        for controller in &self.controllers {
            let other = |kind: &&Kind| controller.every_replica || **kind != controller.kind;
            whole.extend(controller.uses.reads.iter().filter(other));
        }
        let shared = self.controllers.iter().filter(|controller| !controller.every_replica);
        let kinds = shared.map(|controller| &controller.kind).filter(|kind| !whole.contains(kind));
        kinds.cloned().collect()
    }

    /// Runs until `shutdown` is done, then stops gracefully.
    ///
    /// # Errors
    /// When two controllers, runnables or clusters have one name, an address can't be
    /// bound, a cluster can't be found, or a part ends on its own.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result {
        unique("controllers", self.controllers.iter().map(|controller| &*controller.name))?;
        unique("runnables", self.runnables.iter().map(|runnable| &*runnable.name))?;
        unique("clusters", self.clusters.iter().map(super::Cluster::name))?;
        unique("endpoints", self.extra.iter().map(|endpoint| &*endpoint.path))?;
        self.extra.iter().try_for_each(Endpoint::check)?;
        let (metrics, health) = (Arc::new(Metrics::default()), Arc::clone(&self.health));
        let (limit, to_share) = (self.rate_limit, self.kinds_to_share());
        let (client, cache, scope) = (self.client.clone(), self.cache.clone(), self.scope.clone());
        let home = Place::new(None, client, cache, scope, (limit, &metrics));
        let home = Place { definitions: self.definitions, ..home };
        metrics.own(std::mem::take(&mut self.figures));
        if let Some(limits) = &self.limits {
            watch_limits(limits, &self.name, &metrics);
        }
        let guards = Guards { warnings: Arc::new(Warnings::ignored(self.warnings_ignored)) };
        let mut served = self.serve_endpoints(&guards, &home, &health, &metrics).await?;
        let mut others = BTreeMap::new();
        for cluster in self.clusters {
            let (name, place) = cluster.open((limit, &metrics)).await?;
            others.insert(name, place);
        }
        let places = std::iter::once(&home).chain(others.values());
        metrics.watch_caches(places.map(|place| (place.name.clone(), place.cache.clone())));
        let (recorder, events) = Recorder::new(guards.client(&home, own_permits(), None), &self.name);
        // Every recorder goes with its part, so that it ends once the last event is written.
        let mut writing = Parts::default();
        writing.start_what_may_end("the writer of events".into(), events.map(Ok));
        let (stop, stopped) = watch::channel(false);
        // Once nothing works any more, and so nothing is written any more that webhooks may be asked about.
        let (rest, at_rest) = watch::channel(false);
        let elected = Elected::new(
            (self.leader.as_ref(), self.sharding.as_ref()),
            // What is agreed on with Leases must not wait.
            |permits| guards.limited(&home, permits, None, None),
            &health,
            &metrics,
        )?;
        let mut start = Start {
            manager: self.name.clone(),
            guards,
            home,
            others,
            recorder,
            options: self.options.clone(),
            informers: Vec::new(),
        };
        let places = std::iter::once(&start.home).chain(start.others.values());
        for place in places.filter(|place| place.definitions) {
            self.webhooks
                .hooks
                .iter()
                .filter(|_| place.name.is_none())
                .map(|hook| &hook.uses)
                .chain(self.runnables.iter().filter_map(|one| of(place, &one.uses, &one.elsewhere)))
                .chain(self.controllers.iter().filter_map(|one| of(place, &one.uses, &one.elsewhere)))
                .flat_map(|uses| &uses.reads)
                .for_each(|kind| place.cache.keep_whole(kind));
            let followed = place.cache.follow_definitions().into_iter();
            start.informers.extend(followed.map(|informer| (place.name.clone(), informer)));
        }
        if let Some(ownership) = elected.as_ref().and_then(Elected::selected) {
            for kind in &to_share {
                start.home.cache.share(kind, ownership);
            }
        }
        let (mut parts, mut answering) = (Parts::default(), Parts::default());
        if !self.webhooks.is_empty() {
            let listener = match self.webhook_listener {
                Some(listener) => listener,
                None => listen(&self.webhook_address).await?,
            };
            let names = Names::new(&self.name, &self.own_namespace);
            let mut permits = self.webhooks.permits(&self.name);
            permits.extend(&self.webhooks.own_permits(&names));
            let client = start.guards.client(&start.home, permits, None);
            let scoped = |hook: &Webhook| {
                start.scoped(("a webhook", None), hook.uses.clone(), Vec::new(), BTreeMap::new(), None)
            };
            let serving = self.webhooks.serve(names, listener, client, scoped, &at_rest)?;
            metrics.watch_webhooks(serving.metrics);
            let is_ready = serving.is_ready;
            health.ready_check(Box::new(move || ("webhook certificates loaded".into(), is_ready())));
            for (name, task) in serving.tasks {
                answering.start(name.into(), task.map(Ok));
            }
        }
        // Whoever leads, or whoever works on every replica.
        let lead = |every_replica: bool| match elected.as_ref().filter(|_| !every_replica) {
            Some(elected) => (elected.lead(), Some(elected.fence())),
            None => (Lead::always(), None),
        };
        for runnable in self.runnables {
            let (lead, fence) = lead(runnable.every_replica);
            let name = format!("runnable {}", runnable.name);
            let (uses, elsewhere) = (runnable.uses.clone(), runnable.elsewhere.clone());
            let own = runnable.client.clone();
            let scoped = start.scoped((&name, own), uses, Vec::new(), elsewhere, fence.as_ref())?;
            let may_end = runnable.may_end;
            let task = runnable.drive(lead, scoped, stopped.clone(), &health);
            if may_end {
                parts.start_what_may_end(name, task);
            } else {
                parts.start(name, task);
            }
        }
        for mut controller in self.controllers {
            let (lead, fence) = lead(controller.every_replica);
            let name = format!("controller {}", controller.name);
            let (uses, elsewhere) =
                (std::mem::take(&mut controller.uses), std::mem::take(&mut controller.elsewhere));
            let own = controller.client.take();
            let scoped =
                start.scoped((&name, own), uses, controller.owned.clone(), elsewhere, fence.as_ref())?;
            let cache = &start.home.cache;
            let objects =
                cache.informer(&controller.kind, &cache.scope_of(&controller.kind, &start.home.scope));
            let figures = metrics.controller(&controller.name);
            let (called, limit) = (controller.name.clone(), controller.timeout);
            let runner = Runner::new(controller, scoped, objects, figures);
            let queue = runner.queue();
            served.queues.watch(&called, Arc::clone(&queue));
            health.live_check(Box::new(move || {
                progress(&called, queue.read(|queue, now| queue.unfinished(now).1), limit)
            }));
            let stopped = stopped.clone();
            parts.start(name, async move {
                runner.run(lead, stopped).await;
                Ok(())
            });
        }
        let Start { informers, recorder, .. } = start;
        drop(recorder);
        health.started(informers);
        // It stands until the parts have stopped, so that it is given back only then.
        let (give_back, given_back) = watch::channel(false);
        let alone = elected.is_none();
        let mut standing = match elected {
            Some(elected) => tokio::spawn(elected.run(given_back)),
            None => tokio::spawn(std::future::pending()),
        };
        let result = tokio::select! {
            () = shutdown => Ok(()),
            error = parts.failed(&health) => Err(error),
            error = answering.failed(&health) => Err(error),
            error = served.servers.failed(&health) => Err(error),
            error = writing.failed(&health) => Err(error),
            _ = &mut standing => {
                health.ended("the agreement with other replicas");
                Err(Error::TaskEnded("the agreement with other replicas".into()))
            }
        };
        health.stopping();
        stop.send_replace(true);
        let began = Instant::now();
        parts.drain(self.grace).await;
        rest.send_replace(true);
        give_back.send_replace(true);
        // No longer than giving the Lease back may take, if the grace period is over.
        let answers = answering.drain(self.grace.saturating_sub(began.elapsed()).max(RELEASE));
        let release = async {
            if !standing.is_finished()
                && (alone || tokio::time::timeout(RELEASE, &mut standing).await.is_err())
            {
                standing.abort();
            }
        };
        tokio::join!(answers, release);
        writing.drain(LAST_EVENTS).await;
        result
    }
}

impl Manager {
    /// Serves what tells of the process. First of all: whoever asks while the caches sync gets an answer, and a taken port
    /// is known at once.
    async fn serve_endpoints(
        &self,
        guards: &Guards,
        home: &Place,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
    ) -> Result<Served> {
        let (queues, watchdog) = (Arc::new(Queues::default()), Arc::new(Watchdog::default()));
        let mut servers = Parts::default();
        servers.start("the watchdog".into(), {
            let watchdog = Arc::clone(&watchdog);
            async move { watchdog.beat().await }.map(Ok)
        });
        health.live_check(Box::new(move || watchdog.judge(Instant::now())));
        let (end, ended) = watch::channel(false);
        for (address, serves) in addresses(self.metrics_address.as_deref(), self.health_address.as_deref()) {
            let listener = listen(&address).await?;
            let (mut secured, mut gate) = (None, None);
            if let Some(certificates) = self.metrics_certificates.as_ref().filter(|_| serves.metrics) {
                if serves.health {
                    return Err(Error::Usage(format!(
                        "{address}: probes can't show a token; health needs another address than secured metrics"
                    )));
                }
                let names = Names::new(&self.name, &self.own_namespace);
                let certificate = Alone::new("metrics", names.dns_of(&names.metrics_service()), certificates);
                secured = Some(Secured { shown: certificate.shown().tls(), callers: None });
                servers.start("the certificate of metrics".into(), certificate.run(ended.clone()).map(Ok));
                gate = Some(Gate::new(guards.client(home, metrics_permits(), None)));
            }
            let endpoints = Endpoints {
                serves,
                gate,
                private: private(&listener),
                log_filter: self.log_filter.clone(),
                queues: Arc::clone(&queues),
                extra: self.extra.clone(),
                health: Arc::clone(health),
                metrics: Arc::clone(metrics),
            };
            let what = if serves.metrics { "metrics" } else { "health" };
            let server = serve(listener, secured, what, Arc::new(endpoints), ended.clone());
            servers.start(format!("the server of {what}"), server.map(Ok));
        }
        Ok(Served { queues, servers, _end: end })
    }
}

/// What is served to the last: whoever asks while the process stops is told so.
struct Served {
    queues: Arc<Queues>,
    servers: Parts,
    _end: watch::Sender<bool>,
}

/// What this process may use, and uses.
fn watch_limits(limits: &Limits, name: &str, metrics: &Metrics) {
    if let Some(memory) = limits.memory {
        let help = "Bytes of memory that the container may use.";
        metrics.gauge("kubewright_memory_limit_bytes", help, name, move || memory);
        let help = "Bytes of memory in use that count against the limit.";
        let limits = limits.clone();
        metrics.gauge("kubewright_memory_working_set_bytes", help, name, move || limits.working_set());
    }
}

/// What is declared for a cluster: that of the manager itself, or another.
fn of<'a>(place: &Place, home: &'a Uses, elsewhere: &'a BTreeMap<String, Uses>) -> Option<&'a Uses> {
    place.name.as_ref().map_or(Some(home), |name| elsewhere.get(name))
}

/// Things of one sort need names of their own.
fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Usage(format!("two {what} are named {}; give one another name", pair[0]))),
        None => Ok(()),
    }
}
