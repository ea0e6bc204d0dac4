//! Runs controllers together: one cache for all of them, started in order (listeners, caches, then
//! controllers as their caches are synced) and stopped in reverse within a grace period. A part that ends
//! on its own stops the whole, rather than leaving it half dead.

mod health;
pub(crate) mod metrics;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use self::health::{Health, Serves, listen, serve};
use self::metrics::Metrics;
use crate::cache::{Cache, Memory, Scope, Select};
use crate::client::{Guard, Limiter, Permit, Permits, RateLimit, Verb, Warnings};
use crate::context::{Recorder, Scoped, View};
use crate::controller::{Controller, Lead, Runner};
use crate::kind::{Kind, Object};
use crate::leader::{self, Candidate, LeaderElection, Standing};
use crate::lease::Fence;
use crate::sharding::{self, Ownership, Sharding, Sharer};
use crate::webhook::names::{DEFAULT_ADDRESS, Names};
use crate::webhook::{Webhook, Webhooks};
use crate::{Error, Result};

/// How long giving the Lease back may take.
const RELEASE: Duration = Duration::from_secs(5);

/// Controllers that run together on one cluster.
pub struct Manager {
    name: String,
    client: kube::Client,
    cache: Cache,
    controllers: Vec<Controller>,
    scope: Scope,
    grace: Duration,
    metrics_address: Option<String>,
    health_address: Option<String>,
    leader: Option<LeaderElection>,
    webhooks: Webhooks,
    webhook_address: String,
    webhook_listener: Option<TcpListener>,
    own_namespace: String,
    sharding: Option<Sharding>,
    rate_limit: Option<RateLimit>,
    health: Arc<Health>,
}

/// What the runtime itself does with the API on behalf of every operator.
pub(crate) fn own_permits() -> Permits {
    let mut permits = Permits::default();
    permits.add(Permit::on_resource("events.k8s.io", "events", [Verb::Create, Verb::Patch]));
    permits
}

impl Manager {
    /// A manager without controllers. The name is the field manager of what they write, and the reporter of
    /// their events. Needs a tokio runtime from [`run`](Self::run) on.
    pub fn new(name: &str, client: kube::Client) -> Manager {
        Manager {
            name: name.into(),
            cache: Cache::new(client.clone()),
            client,
            controllers: Vec::new(),
            scope: Scope::All,
            grace: Duration::from_secs(30),
            metrics_address: None,
            health_address: None,
            leader: None,
            webhooks: Webhooks::default(),
            webhook_address: DEFAULT_ADDRESS.into(),
            webhook_listener: None,
            own_namespace: format!("{name}-system"),
            sharding: None,
            rate_limit: None,
            health: Arc::default(),
        }
    }

    /// Adds a controller.
    #[must_use]
    pub fn controller(mut self, controller: Controller) -> Manager {
        self.controllers.push(controller);
        self
    }

    /// Follows only some objects of a kind, or keeps only parts of them, in all controllers.
    #[must_use]
    pub fn select<K: Object>(self, select: Select) -> Manager {
        self.cache.select(&Kind::of::<K>(), select);
        self
    }

    /// How much memory the cache may take.
    #[must_use]
    pub fn memory(mut self, memory: Memory) -> Manager {
        self.cache.limit(memory);
        self
    }

    /// Looks at one namespace only, in every namespaced kind. All namespaces by default.
    #[must_use]
    pub fn namespace(mut self, namespace: Option<&str>) -> Manager {
        self.scope = namespace.map_or(Scope::All, |namespace| Scope::Namespace(namespace.into()));
        self
    }

    /// How long running reconciliations may take to finish after the manager was told to stop; 30 s by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Manager {
        self.grace = grace;
        self
    }

    /// Where `/metrics` is served: `HOST:PORT` or `:PORT`; nowhere by default.
    #[must_use]
    pub fn metrics_address(mut self, address: Option<&str>) -> Manager {
        self.metrics_address = address.map(str::to_owned);
        self
    }

    /// Where `/healthz` and `/readyz` are served; nowhere by default. May be the address of the metrics.
    #[must_use]
    pub fn health_address(mut self, address: Option<&str>) -> Manager {
        self.health_address = address.map(str::to_owned);
        self
    }

    /// Elects a leader among the replicas: controllers work in one of them at a time, while the others stand by
    /// with warm caches. No election by default: then there must be one replica.
    #[must_use]
    pub fn leader_election(mut self, election: LeaderElection) -> Manager {
        self.leader = Some(election);
        self
    }

    /// Shares the objects among replicas: all of them work, each on the objects that are its own. Instead of an
    /// election, which this makes needless.
    #[must_use]
    pub fn sharding(mut self, sharding: Sharding) -> Manager {
        self.sharding = Some(sharding);
        self
    }

    /// Limits how many requests this process sends, all controllers together: off by default, as the API server
    /// keeps clients from crowding each other out. Watches and what is agreed on with Leases pass freely.
    #[must_use]
    pub fn rate_limit(mut self, limit: Option<RateLimit>) -> Manager {
        self.rate_limit = limit;
        self
    }

    /// Asks this too whenever `/healthz` is asked; while it says no, only a restart of the process helps.
    #[must_use]
    pub fn healthz_check(self, name: &str, check: impl Fn() -> bool + Send + Sync + 'static) -> Manager {
        let name = name.to_owned();
        self.health.live_check(Box::new(move || (name.clone(), check())));
        self
    }

    /// Asks this too whenever `/readyz` is asked.
    #[must_use]
    pub fn readyz_check(self, name: &str, check: impl Fn() -> bool + Send + Sync + 'static) -> Manager {
        let name = name.to_owned();
        self.health.ready_check(Box::new(move || (name.clone(), check())));
        self
    }

    /// Serves webhooks beside the controllers, in every replica.
    #[must_use]
    pub(crate) fn webhooks(mut self, webhooks: Webhooks) -> Manager {
        self.webhooks = webhooks;
        self
    }

    /// Where webhooks are served, if there are any: `HOST:PORT` or `:PORT`; `:9443` by default.
    #[must_use]
    pub fn webhook_address(mut self, address: &str) -> Manager {
        self.webhook_address = address.into();
        self
    }

    /// Serves webhooks on a socket that is open already, in place of an address.
    #[must_use]
    pub fn webhook_listener(mut self, listener: TcpListener) -> Manager {
        self.webhook_listener = Some(listener);
        self
    }

    /// The namespace that the operator itself lives in, with the Service and Secret of its webhooks; its name and
    /// `-system` by default.
    #[must_use]
    pub fn own_namespace(mut self, namespace: &str) -> Manager {
        self.own_namespace = namespace.into();
        self
    }

    /// Tells whether the process is ready, as `/readyz` does.
    pub fn readiness(&self) -> Readiness {
        Readiness(Arc::clone(&self.health))
    }

    /// The cache its controllers share, for code beside them.
    pub fn cache(&self) -> Cache {
        self.cache.clone()
    }

    /// Runs until `shutdown` is done, then stops gracefully.
    ///
    /// # Errors
    /// When two controllers have one name, a limit lets nothing through, an address can't be bound, or a controller
    /// ends on its own.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result {
        let mut names: Vec<&str> = self.controllers.iter().map(|controller| &*controller.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Usage(format!(
                "two controllers are named {}; give one another name with `.named(..)`",
                pair[0]
            )));
        }
        let limiter = self.rate_limit.map(Limiter::new).transpose();
        let limiter = limiter.map_err(|error| Error::Usage(error.to_string()))?;
        if let Some(limiter) = &limiter {
            self.cache.read_through(limiter.client(&self.client));
        }
        let (metrics, health) = (Arc::new(Metrics::default()), Arc::clone(&self.health));
        // Listeners first: whoever asks while the caches sync gets an answer, and a taken port is known at once.
        let mut servers = JoinSet::new();
        for (listener, serves) in self.listeners().await? {
            servers.spawn(serve(
                listener,
                serves,
                Arc::clone(&health),
                Arc::clone(&metrics),
                self.cache.clone(),
            ));
        }
        let warnings = Arc::new(Warnings::default());
        let limited = |permits: Permits, fence: Option<Arc<Fence>>, limiter: Option<Limiter>| {
            let guard = Guard {
                warnings: Arc::clone(&warnings),
                fence,
                limiter,
                inner: self.client.clone(),
                permits: Arc::new(permits),
                cache: self.cache.clone(),
                metrics: Arc::clone(&metrics),
            };
            kube::Client::new(guard, self.client.default_namespace())
        };
        let guard = |permits, fence| limited(permits, fence, limiter.clone());
        let (recorder, events) = Recorder::new(guard(own_permits(), None), &self.name);
        let mut events = tokio::spawn(events);
        let (stop, stopped) = watch::channel(false);
        let elected = match (&self.leader, &self.sharding) {
            (Some(_), Some(_)) => {
                let both = "replicas either share the objects or elect a leader";
                return Err(Error::Usage(both.into()));
            }
            (Some(config), None) => {
                let (candidate, fence, standing) =
                    Candidate::new(config, limited(leader::permits(), None, None))?;
                watch_election(config, &standing, &health, &metrics);
                Some(Elected { part: Part::Candidate(Box::new(candidate)), fence, standing, ownership: None })
            }
            (None, Some(config)) => {
                let ownership = Ownership::new();
                let (sharer, fence, standing) =
                    Sharer::new(config, limited(sharding::permits(), None, None), &ownership)?;
                watch_sharding(config, &standing, &ownership, &health, &metrics);
                let part = Part::Sharer(Box::new(sharer));
                Some(Elected { part, fence, standing, ownership: Some(ownership) })
            }
            (None, None) => None,
        };
        let mut running = JoinSet::new();
        let mut tasks: HashMap<Id, String> = HashMap::new();
        let mut informers = Vec::new();
        if !self.webhooks.is_empty() {
            let listener = match self.webhook_listener {
                Some(listener) => listener,
                None => listen(&self.webhook_address).await?,
            };
            let names = Names::new(&self.name, &self.own_namespace);
            let mut permits = self.webhooks.permits(&self.name);
            permits.extend(&self.webhooks.own_permits(&names));
            let scoped = |hook: &Webhook| {
                let view = View::open(&self.cache, &self.scope, &hook.reads, &hook.indexes);
                informers.extend(view.informers().cloned());
                Arc::new(Scoped {
                    manager: self.name.clone(),
                    client: guard(hook.permits.clone(), None),
                    view,
                    owned: Vec::new(),
                    recorder: recorder.clone(),
                    memory: Default::default(),
                })
            };
            let serving = self.webhooks.serve(names, listener, guard(permits, None), scoped, &stopped)?;
            metrics.watch_webhooks(serving.metrics);
            let is_ready = serving.is_ready;
            health.ready_check(Box::new(move || ("webhook certificates loaded".into(), is_ready())));
            for (name, task) in serving.tasks {
                let task = running.spawn(task);
                tasks.insert(task.id(), name.into());
            }
        }
        for controller in self.controllers {
            let view = View::open(&self.cache, &self.scope, &controller.reads, &controller.indexes);
            informers.extend(view.informers().cloned());
            let objects = self.cache.informer(&controller.kind, &self.scope);
            let elected = elected.as_ref().filter(|_| !controller.every_replica);
            let lead = elected.map_or_else(Lead::always, |elected| {
                Lead::elected(elected.standing.clone(), elected.ownership.clone())
            });
            let fence = elected.map(|elected| Arc::clone(&elected.fence));
            let scoped = Scoped {
                manager: self.name.clone(),
                client: guard(controller.permits.clone(), fence),
                view,
                owned: controller.owned.clone(),
                recorder: recorder.clone(),
                memory: Default::default(),
            };
            let name = format!("controller {}", controller.name);
            let figures = metrics.controller(&controller.name);
            let runner = Runner::new(controller, Arc::new(scoped), objects, figures);
            let task = running.spawn(runner.run(lead, stopped.clone()));
            tasks.insert(task.id(), name);
        }
        drop(recorder);
        informers.sort_by(|a, b| a.kind().cmp(b.kind()));
        informers.dedup_by(|a, b| a.kind() == b.kind());
        health.started(informers);
        // It stands until the controllers have stopped, so that it is given back only then.
        let (give_back, given_back) = watch::channel(false);
        let alone = elected.is_none();
        let mut candidate = match elected.map(|elected| elected.part) {
            Some(Part::Candidate(candidate)) => tokio::spawn(candidate.run(given_back)),
            Some(Part::Sharer(sharer)) => tokio::spawn(sharer.run(given_back)),
            None => tokio::spawn(std::future::pending()),
        };
        let result = tokio::select! {
            result = supervise(shutdown, &mut running, &tasks, &health) => result,
            _ = &mut candidate => {
                health.ended("the agreement with other replicas");
                Err(Error::TaskEnded("the agreement with other replicas".into()))
            }
        };
        health.stopping();
        stop.send_replace(true);
        let drained = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, drained).await.is_err() {
            tracing::warn!(grace = ?self.grace, "reconciliations did not finish in time and are cancelled");
            running.shutdown().await;
        }
        give_back.send_replace(true);
        if !candidate.is_finished() && (alone || tokio::time::timeout(RELEASE, &mut candidate).await.is_err())
        {
            candidate.abort();
        }
        // Every recorder went with its controller, so this ends once the last event is written.
        if tokio::time::timeout(Duration::from_secs(2), &mut events).await.is_err() {
            events.abort();
        }
        result
    }

    async fn listeners(&self) -> Result<Vec<(TcpListener, Serves)>> {
        let mut wanted: Vec<(&str, Serves)> = Vec::new();
        if let Some(address) = &self.metrics_address {
            wanted.push((address, Serves { metrics: true, health: false }));
        }
        match &self.health_address {
            Some(address) if self.metrics_address.as_ref() == Some(address) => {
                wanted.iter_mut().for_each(|(_, serves)| serves.health = true);
            }
            Some(address) => wanted.push((address, Serves { metrics: false, health: true })),
            None => {}
        }
        let mut listeners = Vec::new();
        for (address, serves) in wanted {
            listeners.push((listen(address).await?, serves));
        }
        Ok(listeners)
    }
}

/// What replicas agree on, and this process's part in it.
struct Elected {
    part: Part,
    fence: Arc<Fence>,
    standing: watch::Receiver<Standing>,
    ownership: Option<Arc<Ownership>>,
}

enum Part {
    Candidate(Box<Candidate>),
    Sharer(Box<Sharer>),
}

/// Health and metrics of an election.
fn watch_election(
    config: &LeaderElection,
    standing: &watch::Receiver<Standing>,
    health: &Health,
    metrics: &Metrics,
) {
    let leads = standing.clone();
    let help = "Whether this process holds the lease.";
    metrics.gauge("leader_election_master_status", help, &config.id, move || leads.borrow().leads.into());
    watch_standing(config.id.clone(), config.timing.lease, standing, health, ["leading", "standing by"]);
}

/// Health and metrics of sharing.
fn watch_sharding(
    config: &Sharding,
    standing: &watch::Receiver<Standing>,
    ownership: &Ownership,
    health: &Health,
    metrics: &Metrics,
) {
    let slots = ownership.changes();
    let help = "Slots of 64 whose objects this process works on.";
    metrics.gauge("kubewright_shard_slots", help, &config.id, move || slots.borrow().count_ones().into());
    watch_standing(config.id.clone(), config.timing.lease, standing, health, ["sharing", "joining"]);
}

fn watch_standing(
    id: String,
    lease: Duration,
    standing: &watch::Receiver<Standing>,
    health: &Health,
    [leading, otherwise]: [&'static str; 2],
) {
    let standing = standing.clone();
    health.ready_check(Box::new(move || {
        let standing = standing.borrow();
        let in_touch = standing.contact.is_some_and(|contact| contact.elapsed() < lease);
        let role = match (in_touch, standing.leads) {
            (true, true) => leading,
            (true, false) => otherwise,
            (false, _) => "the API server does not answer",
        };
        (format!("lease {id}: {role}"), in_touch)
    }));
}

/// Waits for the end: the wanted one, or a controller's own.
async fn supervise(
    shutdown: impl Future<Output = ()>,
    running: &mut JoinSet<()>,
    tasks: &HashMap<Id, String>,
    health: &Health,
) -> Result {
    tokio::select! {
        () = shutdown => Ok(()),
        Some(ended) = running.join_next_with_id() => {
            let id = match &ended {
                Ok((id, ())) => *id,
                Err(error) => error.id(),
            };
            let name = tasks.get(&id).cloned().unwrap_or_else(|| "a controller".into());
            health.ended(&name);
            Err(Error::TaskEnded(name))
        }
    }
}

/// Whether a manager that runs is ready, from outside of it.
#[derive(Clone)]
pub struct Readiness(Arc<Health>);

impl Readiness {
    /// Whether it does its work now: caches are synced, and certificates of webhooks loaded and known to the API
    /// server.
    pub fn is_ready(&self) -> bool {
        self.0.ready().0
    }

    /// What `/readyz` answers: a line for everything that has to be, marked `+` or `-`.
    pub fn report(&self) -> String {
        self.0.ready().1
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readiness({})", self.is_ready())
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manager({}: {:?})", self.name, self.controllers)
    }
}
