//! Further clusters of a manager: each with a client, a cache and permits of its own. What controllers and runnables do
//! there is declared with [`Uses`](crate::Uses), and goes through the same fences as what they do at home.

use std::fmt;

use crate::Result;
use crate::cache::{Cache, Memory, Namespaces, Scope, Select};
use crate::client::{Connect, Limiter, counted};
use crate::kind::{Kind, Object};
use crate::manager::metrics::{Calls, Metrics};
use crate::rate::RateLimit;

/// Another cluster than the manager's own, under a name.
///
/// ```no_run
/// use k8s_openapi::api::core::v1::{ConfigMap, Secret};
/// use kubewright::client::Connect;
/// use kubewright::{Access, Cluster, Controller, Key, Manager, Reconciler, Result, Trigger, Uses, Verb};
///
/// async fn run(home: kube::Client, controller: Controller) -> Result {
///     let edge = Connect { kubeconfig: Some("edge.kubeconfig".into()), context: None };
///     let uses = Uses::new().writes::<ConfigMap>([Verb::Create, Verb::Patch, Verb::Delete]);
///     let controller = controller
///         .uses_in("edge", uses)
///         .trigger(Trigger::mapped::<ConfigMap>(|map, _| Ok(vec![Key::of(map)])).in_cluster("edge"));
///     Manager::new("op", home).cluster(Cluster::at("edge", edge)).controller(controller).run(std::future::pending()).await
/// }
/// ```
///
/// The Lease of an election, events, and the webhooks stay in the manager's own cluster. While another cluster can't be
/// reached, controllers that use it wait for its caches, and the process is not ready.
pub struct Cluster {
    name: String,
    way: Way,
    scope: Scope,
    memory: Memory,
    pub(crate) selects: Vec<(Kind, Select)>,
    pub(crate) definitions: bool,
}

enum Way {
    Client(kube::Client),
    Connect(Connect),
}

/// A cluster as the parts of a manager see it. The manager's own has no name.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) name: Option<String>,
    pub(super) client: kube::Client,
    pub(super) cache: Cache,
    pub(super) scope: Scope,
    /// What requests to this cluster wait for, where the process limits itself.
    pub(super) limiter: Option<Limiter>,
    /// What counts them.
    pub(super) calls: Calls,
    /// Whether definitions are followed there.
    pub(super) definitions: bool,
}

impl Place {
    /// A cluster, to which this process sends no more requests than the limit says, all of them counted.
    pub(super) fn new(
        name: Option<String>,
        client: kube::Client,
        mut cache: Cache,
        scope: Scope,
        (limit, metrics): (Option<RateLimit>, &Metrics),
    ) -> Place {
        let calls = metrics.calls(name.as_deref());
        let limiter = limit.map(|limit| Limiter::new(limit, Some(calls.clone())));
        let sends = counted(&client, calls.clone());
        cache.read_through(limiter.as_ref().map_or_else(|| sends.clone(), |limiter| limiter.client(&sends)));
        Place { name, client, cache, scope, limiter, calls, definitions: false }
    }
}

impl Cluster {
    /// A cluster that a client reaches.
    pub fn new(name: &str, client: kube::Client) -> Cluster {
        Cluster::by(name, Way::Client(client))
    }

    /// A cluster that is connected to when the manager starts.
    pub fn at(name: &str, connect: Connect) -> Cluster {
        Cluster::by(name, Way::Connect(connect))
    }

    fn by(name: &str, way: Way) -> Cluster {
        Cluster {
            name: name.into(),
            way,
            scope: Scope::All,
            memory: Memory::default(),
            selects: Vec::new(),
            definitions: false,
        }
    }

    /// Its name: in [`Context::cluster`](crate::Context::cluster), readiness and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks at one namespace only, in every namespaced kind. All namespaces by default.
    #[must_use]
    pub fn namespace(mut self, namespace: Option<&str>) -> Cluster {
        self.scope = namespace.map_or(Scope::All, |namespace| Scope::Namespace(namespace.into()));
        self
    }

    /// Looks at these namespaces only, as they change while the manager runs: see [`Namespaces`].
    #[must_use]
    pub fn namespaces(mut self, namespaces: &Namespaces) -> Cluster {
        self.scope = Scope::Namespaces(namespaces.clone());
        self
    }

    /// How much memory the cache of this cluster may take.
    #[must_use]
    pub fn memory(mut self, memory: Memory) -> Cluster {
        self.memory = memory;
        self
    }

    /// Follows only some objects of a kind, or keeps only parts of them.
    #[must_use]
    pub fn select<K: Object>(mut self, select: Select) -> Cluster {
        self.selects.push((Kind::of::<K>(), select));
        self
    }

    /// Follows CustomResourceDefinitions and APIServices of this cluster, as
    /// [`Manager::follow_definitions`](crate::Manager::follow_definitions) does those of the manager's own: kinds that come,
    /// change and go there are known at once. Needs the right to list and watch both, which
    /// [`Operator::manifests_of_cluster`](crate::Operator::manifests_of_cluster) grants.
    #[must_use]
    pub fn follow_definitions(mut self) -> Cluster {
        self.definitions = true;
        self
    }

    /// Connects, where nobody has.
    pub(super) async fn open(self, limited: (Option<RateLimit>, &Metrics)) -> Result<(String, Place)> {
        let client = match self.way {
            Way::Client(client) => client,
            Way::Connect(connect) => connect.client().await?,
        };
        let cache = Cache::with_memory(client.clone(), self.memory);
        for (kind, select) in self.selects {
            cache.select(&kind, select);
        }
        let place = Place::new(Some(self.name.clone()), client, cache, self.scope, limited);
        Ok((self.name, Place { definitions: self.definitions, ..place }))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({} in {})", self.name, self.scope)
    }
}
