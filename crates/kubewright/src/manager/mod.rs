//! Runs controllers together, and what users run beside them: the settings. How all of it is started and stopped is in
//! `run`, who works where is agreed upon in `replicas`, and a part that ends on its own stops the whole (`parts`), rather
//! than leaving it half dead.

mod cluster;
mod endpoints;
mod extra;
mod gate;
mod health;
pub(crate) mod metrics;
mod parts;
mod queues;
mod replicas;
mod run;
mod runnable;
mod watchdog;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::net::TcpListener;

pub use self::cluster::Cluster;
pub(crate) use self::extra::Endpoint;
pub(crate) use self::gate::permits as metrics_permits;
use self::health::Health;
pub(crate) use self::metrics::Figures;
pub(crate) use self::run::STOPPING;
pub use self::runnable::{Runnable, Running};
use crate::cache::{Cache, Memory, Namespaces, Scope, Select};
use crate::client::{ClientOptions, Permit, Permits, Verb};
use crate::controller::Controller;
use crate::kind::{Kind, Object};
use crate::leader::LeaderElection;
use crate::limits::Limits;
use crate::logs::LogFilter;
use crate::rate::RateLimit;
use crate::sharding::Sharding;
use crate::webhook::names::DEFAULT_ADDRESS;
use crate::webhook::{Certificates, Webhooks};

/// Controllers that run together, on one cluster or several.
pub struct Manager {
    name: String,
    client: kube::Client,
    cache: Cache,
    controllers: Vec<Controller>,
    runnables: Vec<Runnable>,
    clusters: Vec<Cluster>,
    scope: Scope,
    grace: Duration,
    metrics_address: Option<String>,
    metrics_certificates: Option<Certificates>,
    figures: Vec<Figures>,
    extra: Vec<Endpoint>,
    health_address: Option<String>,
    leader: Option<LeaderElection>,
    webhooks: Webhooks,
    webhook_address: String,
    webhook_listener: Option<TcpListener>,
    own_namespace: String,
    sharding: Option<Sharding>,
    rate_limit: Option<RateLimit>,
    warnings_ignored: bool,
    options: ClientOptions,
    definitions: bool,
    limits: Option<Limits>,
    log_filter: Option<LogFilter>,
    health: Arc<Health>,
}

/// What the runtime itself does with the API on behalf of every operator.
pub(crate) fn own_permits() -> Permits {
    let mut permits = Permits::default();
    permits.add(Permit::on_resource("events.k8s.io", "events", [Verb::Create, Verb::Patch]));
    permits
}

/// What following definitions does with the API.
pub(crate) fn definition_permits() -> Permits {
    let mut permits = Permits::default();
    for (group, resource) in
        [("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")]
    {
        permits.add(Permit::on_resource(group, resource, [Verb::List, Verb::Watch]));
    }
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
            runnables: Vec::new(),
            clusters: Vec::new(),
            scope: Scope::All,
            grace: Duration::from_secs(30),
            metrics_address: None,
            metrics_certificates: None,
            figures: Vec::new(),
            extra: Vec::new(),
            health_address: None,
            leader: None,
            webhooks: Webhooks::default(),
            webhook_address: DEFAULT_ADDRESS.into(),
            webhook_listener: None,
            own_namespace: format!("{name}-system"),
            sharding: None,
            rate_limit: None,
            warnings_ignored: false,
            options: ClientOptions::new(),
            definitions: false,
            limits: None,
            log_filter: None,
            health: Arc::default(),
        }
    }

    /// Adds a controller.
    #[must_use]
    pub fn controller(mut self, controller: Controller) -> Manager {
        self.controllers.push(controller);
        self
    }

    /// Adds something that runs beside the controllers.
    #[must_use]
    pub fn runnable(mut self, runnable: Runnable) -> Manager {
        self.runnables.push(runnable);
        self
    }

    /// Adds another cluster, for controllers and runnables that [use](crate::Controller::uses_in) it.
    #[must_use]
    pub fn cluster(mut self, cluster: Cluster) -> Manager {
        self.clusters.push(cluster);
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

    /// Looks at these namespaces only, in every namespaced kind, as they change while the manager runs: see
    /// [`Namespaces`].
    ///
    /// ```no_run
    /// # use kubewright::{Manager, Result, cache::Namespaces};
    /// # async fn run(client: kube::Client) -> Result {
    /// let tenants = Namespaces::of(["team-a", "team-b"]);
    /// let manager = Manager::new("my-operator", client).namespaces(&tenants);
    /// tokio::spawn(async move {
    ///     // Whenever a tenant comes or goes:
    ///     tenants.add("team-c");
    /// });
    /// manager.run(std::future::pending()).await
    /// # }
    /// ```
    #[must_use]
    pub fn namespaces(mut self, namespaces: &Namespaces) -> Manager {
        self.scope = Scope::Namespaces(namespaces.clone());
        self
    }

    /// Follows CustomResourceDefinitions and APIServices, so that kinds that come, change and go are known at once
    /// rather than when they are asked for: see [`Context::mapper`](crate::Context::mapper). Needs the right to list
    /// and watch both, which [`Operator::follow_definitions`](crate::Operator::follow_definitions) declares. Other clusters
    /// have [`Cluster::follow_definitions`].
    #[must_use]
    pub fn follow_definitions(mut self) -> Manager {
        self.definitions = true;
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

    /// Serves the program's own figures beside the runtime's: whenever somebody asks for metrics, this writes them in
    /// Prometheus' text format. Any library of metrics will do, or atomics and `write!`.
    ///
    /// ```no_run
    /// # use std::fmt::Write;
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # use kubewright::Manager;
    /// static SENT: AtomicU64 = AtomicU64::new(0);
    ///
    /// # fn example(manager: Manager) -> Manager {
    /// manager.metrics(|out| {
    ///     let _ = writeln!(out, "# TYPE mails_sent_total counter\nmails_sent_total {}", SENT.load(Ordering::Relaxed));
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn metrics(mut self, figures: impl Fn(&mut String) + Send + Sync + 'static) -> Manager {
        self.figures.push(Box::new(figures));
        self
    }

    /// Serves something of the program's own at a path of the address of the metrics, and to whom these are: with
    /// [`secure_metrics`](Self::secure_metrics), those who may do what they ask (`get`, `post`, ..) at that path, for which
    /// no role is printed. Bodies of requests may have 1 MiB.
    ///
    /// ```no_run
    /// # use bytes::Bytes;
    /// # use http::Response;
    /// # use kubewright::Manager;
    /// # fn example(manager: Manager) -> Manager {
    /// manager.endpoint("/version", |_| async { Response::new(Bytes::from_static(b"1.4.2\n")) })
    /// # }
    /// ```
    #[must_use]
    pub fn endpoint<F, Fut>(mut self, path: &str, answer: F) -> Manager
    where
        F: Fn(Request<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.extra.push(Endpoint::new(path, answer));
        self
    }

    pub(crate) fn endpoints(mut self, endpoints: Vec<Endpoint>) -> Manager {
        self.extra.extend(endpoints);
        self
    }

    /// Serves metrics over HTTPS with these certificates, and only to those who may: the API server says whom a bearer
    /// token stands for, and whether that user may `get` the path `/metrics`. [`Certificates::own`] are made by each
    /// process for itself, and [`Certificates::files`] can be of an authority that scrapers know. Plain HTTP for
    /// everybody by default.
    ///
    /// Without a token that somebody vouches for the answer is 401; for those who may not, 403; and 500 while the API
    /// server does not say. What it says is remembered: about tokens for a minute, what is allowed for five, what is not
    /// for half a minute.
    #[must_use]
    pub fn secure_metrics(mut self, certificates: Certificates) -> Manager {
        self.metrics_certificates = Some(certificates);
        self
    }

    /// Where `/healthz` and `/readyz` are served; nowhere by default. May be the address of the metrics, unless these
    /// are secured.
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

    /// Changes every request of controllers, runnables and webhooks, as [`Context::with`](crate::Context::with) does it
    /// for one: an operator that writes nothing that stays, for instance, to see in its logs what it would do. What the
    /// runtime itself writes (Leases, certificates of webhooks) is not concerned.
    #[must_use]
    pub fn client_options(mut self, options: ClientOptions) -> Manager {
        self.options = options;
        self
    }

    /// Limits how many requests this process sends to each cluster, all controllers together: off by default, as the API
    /// server keeps clients from crowding each other out. Watches and what is agreed on with Leases pass freely.
    #[must_use]
    pub fn rate_limit(mut self, limit: Option<RateLimit>) -> Manager {
        self.rate_limit = limit;
        self
    }

    /// Does not log what the API server warns of, such as deprecated versions: for what looks at every kind there is, as a
    /// garbage collector does.
    #[must_use]
    pub fn ignore_warnings(mut self) -> Manager {
        self.warnings_ignored = true;
        self
    }

    /// Tells in metrics what this process may use.
    pub(crate) fn limits(mut self, limits: Limits) -> Manager {
        self.limits = Some(limits);
        self
    }

    /// Lets the filter of the logs be changed over HTTP, by those who may.
    pub(crate) fn log_filter(mut self, filter: LogFilter) -> Manager {
        self.log_filter = Some(filter);
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
