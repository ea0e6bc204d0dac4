//! An operator: its controllers and what belongs to them. As a program (`program`) it has the subcommands `run`, `manifests`
//! and `version`.

mod deployment;
mod flags;
mod manifests;
mod orphans;
mod program;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use tracing_subscriber::{Layer, Registry};

use self::manifests::Places;
use crate::cache::{Memory, Select};
use crate::client::{ClientOptions, Permits};
use crate::controller::Controller;
use crate::kind::{Kind, Object};
use crate::leader::LeaderElection;
use crate::logs::BoxedLayer;
use crate::manager::{
    Cluster, Endpoint, Figures, Manager, Runnable, definition_permits, metrics_permits, own_permits,
};
use crate::sharding;
use crate::webhook::names::Names;
use crate::webhook::{Certificates, Conversion, Webhook, Webhooks};
use crate::{Error, Result};

/// An operator: a name and its controllers. See the [crate's example](crate).
pub struct Operator {
    name: String,
    version: Option<String>,
    controllers: Vec<Controller>,
    runnables: Vec<Runnable>,
    clusters: Vec<Cluster>,
    definitions: Vec<CustomResourceDefinition>,
    grace: Duration,
    memory: Option<Memory>,
    follow_definitions: bool,
    options: ClientOptions,
    selects: Vec<(Kind, Select)>,
    leader: Option<LeaderElection>,
    webhooks: Webhooks,
    layers: Vec<BoxedLayer>,
    figures: Vec<Figures>,
    endpoints: Vec<Endpoint>,
}

impl Operator {
    /// An operator. Its name is the field manager of its writes, and names its service account and role.
    pub fn new(name: &str) -> Operator {
        Operator {
            name: name.into(),
            version: None,
            controllers: Vec::new(),
            runnables: Vec::new(),
            clusters: Vec::new(),
            definitions: Vec::new(),
            grace: Duration::from_secs(30),
            memory: None,
            follow_definitions: false,
            options: ClientOptions::new(),
            selects: Vec::new(),
            leader: None,
            webhooks: Webhooks::default(),
            layers: Vec::new(),
            figures: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// What `version` prints: usually `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: &str) -> Operator {
        self.version = Some(version.into());
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a controller.
    #[must_use]
    pub fn controller(mut self, controller: Controller) -> Operator {
        self.controllers.push(controller);
        self
    }

    /// Adds something that runs beside the controllers.
    #[must_use]
    pub fn runnable(mut self, runnable: Runnable) -> Operator {
        self.runnables.push(runnable);
        self
    }

    /// Adds another cluster, for controllers and runnables that [use](Controller::uses_in) it. What they need there is
    /// printed by `manifests --cluster NAME`.
    #[must_use]
    pub fn cluster(mut self, cluster: Cluster) -> Operator {
        self.clusters.push(cluster);
        self
    }

    /// Adds a custom kind that no controller of this operator reconciles to its manifests.
    #[must_use]
    pub fn crd<K: CustomResourceExt>(mut self) -> Operator {
        self.definitions.push(K::crd());
        self
    }

    /// Adds a webhook. See [`webhook`](crate::webhook).
    #[must_use]
    pub fn webhook(mut self, webhook: Webhook) -> Operator {
        self.webhooks.hooks.push(webhook);
        self
    }

    /// Converts a custom kind between its versions. Its definition in the manifests has all of them.
    #[must_use]
    pub fn conversion<H: Object>(mut self, conversion: Conversion<H>) -> Operator {
        self.webhooks.conversions.push(Arc::new(conversion));
        self
    }

    /// Where the certificates of the webhooks come from; the operator makes its own by default.
    #[must_use]
    pub fn webhook_certificates(mut self, certificates: Certificates) -> Operator {
        self.webhooks.certificates = certificates;
        self
    }

    /// Answers only those webhook calls whose caller shows a certificate that one of these authorities vouches for: a file of
    /// certificates as PEM, read when the operator starts. By default whoever reaches the port may ask. API servers show a
    /// certificate only where they are configured to (`--admission-control-config-file`), and none for conversions.
    #[must_use]
    pub fn webhook_client_ca(mut self, file: impl Into<PathBuf>) -> Operator {
        self.webhooks.callers = Some(file.into());
        self
    }

    /// How long running reconciliations may take to finish when the operator stops; 30 s by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Operator {
        self.grace = grace;
        self
    }

    /// Elects a leader among replicas, whatever the command line says; see [`Manager::leader_election`]. Without
    /// this, `run --leader-elect` does.
    #[must_use]
    pub fn leader_election(mut self, election: LeaderElection) -> Operator {
        self.leader = Some(election);
        self
    }

    /// Follows only some objects of a kind, or keeps only parts of them, in all controllers: see [`Select`].
    #[must_use]
    pub fn select<K: Object>(mut self, select: Select) -> Operator {
        self.selects.push((Kind::of::<K>(), select));
        self
    }

    /// How much memory the cache may take. By default everything stays uncompressed, or, where [`main`](Self::main) finds
    /// the container's memory limited, two fifths of the limit do.
    #[must_use]
    pub fn memory(mut self, memory: Memory) -> Operator {
        self.memory = Some(memory);
        self
    }

    /// Adds a layer of `tracing` to the logs that [`main`](Self::main) sets up, such as one that exports spans: every
    /// reconciliation is a span `reconcile` with its controller, object, reason and id. It sees everything; give it a
    /// filter of its own.
    #[must_use]
    pub fn layer(mut self, layer: impl Layer<Registry> + Send + Sync) -> Operator {
        self.layers.push(layer.boxed());
        self
    }

    /// Serves the program's own figures beside the runtime's: see [`Manager::metrics`].
    #[must_use]
    pub fn metrics(mut self, figures: impl Fn(&mut String) + Send + Sync + 'static) -> Operator {
        self.figures.push(Box::new(figures));
        self
    }

    /// Serves something of the program's own where metrics are: see [`Manager::endpoint`].
    #[must_use]
    pub fn endpoint<F, Fut>(mut self, path: &str, answer: F) -> Operator
    where
        F: Fn(Request<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.endpoints.push(Endpoint::new(path, answer));
        self
    }

    /// Changes every request of controllers, runnables and webhooks: see [`Manager::client_options`].
    #[must_use]
    pub fn client_options(mut self, options: ClientOptions) -> Operator {
        self.options = options;
        self
    }

    /// Follows definitions of kinds, and declares the rights that it takes: see [`Manager::follow_definitions`].
    #[must_use]
    pub fn follow_definitions(mut self) -> Operator {
        self.follow_definitions = true;
        self
    }

    /// What its controllers and the runtime may do, together.
    pub fn permits(&self) -> Permits {
        let mut permits = own_permits();
        if self.follow_definitions {
            permits.extend(&definition_permits());
        }
        self.controllers.iter().for_each(|controller| permits.extend(&controller.uses.permits));
        self.runnables.iter().for_each(|runnable| permits.extend(&runnable.uses.permits));
        permits.extend(&metrics_permits());
        permits.extend(&self.webhooks.permits(&self.name));
        permits
    }

    /// Everything the cluster needs before the operator can run, as a multi-document YAML: definitions of its
    /// custom kinds, a service account in `namespace`, and roles derived from what the controllers declare.
    /// With namespaces in `watched`, namespaced kinds are granted in those only; with none (`None`, or an empty list),
    /// in all.
    ///
    /// # Errors
    /// When a definition can't be written as YAML.
    pub fn manifests<'a>(
        &self,
        namespace: &str,
        watched: impl IntoIterator<Item = &'a str>,
    ) -> Result<String> {
        let watched: Vec<&str> = watched.into_iter().collect();
        let names = Names::new(&self.name, namespace);
        let mut definitions: Vec<CustomResourceDefinition> =
            self.controllers.iter().filter_map(|controller| controller.definition.clone()).collect();
        definitions.extend(self.definitions.iter().cloned());
        let definitions = self.webhooks.definitions(&names, definitions)?;
        let mut own = sharding::permits();
        own.extend(&self.webhooks.own_permits(&names));
        let mut further = self.webhooks.manifests(&names, 9443);
        further.extend(manifests::metrics(&names));
        let places = Places::new(watched, &self.selects);
        manifests::print(&self.name, &definitions, &self.permits(), &own, &further, namespace, &places)
    }

    /// What another cluster needs: a service account in `namespace` and a role for what controllers and runnables declare to
    /// do there, and for definitions that are followed there.
    ///
    /// # Errors
    /// When nothing is declared for a cluster of that name.
    pub fn manifests_of_cluster(&self, cluster: &str, namespace: &str) -> Result<String> {
        let mut permits: Option<Permits> = None;
        let controllers = self.controllers.iter().map(|controller| &controller.elsewhere);
        for elsewhere in controllers.chain(self.runnables.iter().map(|runnable| &runnable.elsewhere)) {
            if let Some(uses) = elsewhere.get(cluster) {
                permits.get_or_insert_default().extend(&uses.permits);
            }
        }
        if self.clusters.iter().any(|known| known.name() == cluster && known.definitions) {
            permits.get_or_insert_default().extend(&definition_permits());
        }
        let Some(permits) = permits else {
            return Err(Error::Usage(format!("nothing is declared for a cluster named {cluster}")));
        };
        let selects = self.clusters.iter().find(|known| known.name() == cluster).map(|known| &*known.selects);
        let places = Places::new(Vec::new(), selects.unwrap_or_default());
        manifests::print(&self.name, &[], &permits, &Permits::default(), &[], namespace, &places)
    }

    /// A Deployment of this operator, as YAML: `image` runs `BINARY run`, elects a leader, serves secured metrics and health
    /// to the kubelet, and gets the time to stop that its grace period takes. It looks at these namespaces only, or at all.
    ///
    /// # Errors
    /// When it can't be written as YAML.
    pub fn deployment(&self, image: &str, namespace: &str, watched: &[&str]) -> Result<String> {
        let names = Names::new(&self.name, namespace);
        let webhooks = (!self.webhooks.is_empty()).then(|| self.webhooks.certificates.mount(&names));
        deployment::print(&names, image, watched, self.grace, webhooks)
    }

    /// Runs with this client until `shutdown` is done: what [`main`](Self::main) does, for tests and for
    /// operators inside other programs. Set a manager up by hand for anything more.
    ///
    /// # Errors
    /// As [`Manager::run`].
    pub async fn run(self, client: kube::Client, shutdown: impl Future<Output = ()>) -> Result {
        self.manager(client).run(shutdown).await
    }

    /// The manager that runs this operator's controllers.
    pub fn manager(self, client: kube::Client) -> Manager {
        let mut manager = Manager::new(&self.name, client)
            .client_options(self.options)
            .grace(self.grace)
            .memory(self.memory.unwrap_or_default())
            .webhooks(self.webhooks);
        for (kind, select) in self.selects {
            manager.cache().select(&kind, select);
        }
        if let Some(election) = self.leader {
            manager = manager.leader_election(election);
        }
        let manager = self.figures.into_iter().fold(manager, Manager::metrics).endpoints(self.endpoints);
        let manager = self.runnables.into_iter().fold(manager, Manager::runnable);
        let mut manager = self.clusters.into_iter().fold(manager, Manager::cluster);
        if self.follow_definitions {
            manager = manager.follow_definitions();
        }
        self.controllers.into_iter().fold(manager, Manager::controller)
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operator({}: {:?})", self.name, self.controllers)
    }
}
