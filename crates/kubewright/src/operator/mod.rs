//! An operator as a program: its controllers, and the subcommands `run`, `manifests` and `version`.

mod flags;
mod manifests;

use std::fmt;
use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use self::flags::{Command, Flags, LogFormat, RunFlags};
use crate::cache::{Memory, Namespaces, Select};
use crate::client::{Connect, Permits};
use crate::controller::Controller;
use crate::kind::{Kind, Object};
use crate::leader::LeaderElection;
use crate::manager::{Cluster, Manager, Runnable, definition_permits, own_permits};
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
    memory: Memory,
    follow_definitions: bool,
    selects: Vec<(Kind, Select)>,
    leader: Option<LeaderElection>,
    webhooks: Webhooks,
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
            memory: Memory::default(),
            follow_definitions: false,
            selects: Vec::new(),
            leader: None,
            webhooks: Webhooks::default(),
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

    /// How much memory the cache may take; everything stays uncompressed by default.
    #[must_use]
    pub fn memory(mut self, memory: Memory) -> Operator {
        self.memory = memory;
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
        self.controllers.iter().for_each(|controller| permits.extend(&controller.permits));
        self.runnables.iter().for_each(|runnable| permits.extend(&runnable.uses.permits));
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
        let further = self.webhooks.manifests(&names, 9443);
        manifests::print(&self.name, &definitions, &self.permits(), &own, &further, namespace, &watched)
    }

    /// What another cluster needs: a service account in `namespace` and a role for what controllers and runnables declare to
    /// do there.
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
        let Some(permits) = permits else {
            return Err(Error::Usage(format!("nothing is declared for a cluster named {cluster}")));
        };
        manifests::print(&self.name, &[], &permits, &Permits::default(), &[], namespace, &[])
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
        let mut manager =
            Manager::new(&self.name, client).grace(self.grace).memory(self.memory).webhooks(self.webhooks);
        for (kind, select) in self.selects {
            manager.cache().select(&kind, select);
        }
        if let Some(election) = self.leader {
            manager = manager.leader_election(election);
        }
        let manager = self.runnables.into_iter().fold(manager, Manager::runnable);
        let mut manager = self.clusters.into_iter().fold(manager, Manager::cluster);
        if self.follow_definitions {
            manager = manager.follow_definitions();
        }
        self.controllers.into_iter().fold(manager, Manager::controller)
    }

    /// The program: reads the command line and does what it says. On failure it prints the error with its
    /// causes to stderr and exits with status 1.
    ///
    /// # Errors
    /// None at present; the type lets `main` return it.
    pub async fn main(self) -> Result {
        let flags = Flags::read(&self.name);
        let result = match flags.command.unwrap_or_default() {
            Command::Run(run) => self.run_with(*run).await,
            Command::Manifests(manifests) => {
                let namespace = manifests.namespace.unwrap_or_else(|| format!("{}-system", self.name));
                let text = match &manifests.cluster {
                    Some(cluster) => self.manifests_of_cluster(cluster, &namespace),
                    None => self.manifests(&namespace, manifests.watch_namespace.iter().map(String::as_str)),
                };
                text.and_then(|text| print(&text))
            }
            Command::Version => print(&format!(
                "{} {} (kubewright {})\n",
                self.name,
                self.version.as_deref().unwrap_or("unversioned"),
                env!("CARGO_PKG_VERSION")
            )),
        };
        if let Err(error) = result {
            // Printed here: returned from `main`, it would be shown as a Rust value.
            let _ = writeln!(std::io::stderr(), "error: {}", error.chain());
            std::process::exit(1);
        }
        Ok(())
    }

    async fn run_with(mut self, flags: RunFlags) -> Result {
        log_to_stderr(&flags)?;
        let connect = Connect { kubeconfig: flags.kubeconfig, context: flags.context };
        let client = connect.client().await?;
        let own_namespace = flags.own_namespace.or_else(pod_namespace);
        let own_namespace = own_namespace.unwrap_or_else(|| format!("{}-system", self.name));
        if let Some(directory) = flags.webhook_certificates {
            self.webhooks.certificates = Certificates::files(directory);
        }
        let off = |address: &String| !matches!(&**address, "" | "0");
        let sharing = flags.leader.sharding(&self.name).filter(|_| self.leader.is_none());
        let election = flags.leader.election(&self.name).filter(|_| self.leader.is_none());
        let mut manager = self.manager(client);
        if let Some(election) = election {
            manager = manager.leader_election(election);
        }
        if let Some(sharing) = sharing {
            manager = manager.sharding(sharing);
        }
        // An empty WATCH_NAMESPACE means all of them.
        let watched: Vec<&str> =
            flags.namespace.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        manager = match &*watched {
            [] => manager,
            [only] => manager.namespace(Some(only)),
            several => manager.namespaces(&Namespaces::of(several.iter().copied())),
        };
        manager
            .own_namespace(&own_namespace)
            .rate_limit(flags.rate.limit())
            .webhook_address(&flags.webhook_address)
            .metrics_address(
                flags.metrics_address.as_ref().filter(|address| off(address)).map(String::as_str),
            )
            .health_address(flags.health_address.as_ref().filter(|address| off(address)).map(String::as_str))
            .run(asked_to_stop()?)
            .await
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operator({}: {:?})", self.name, self.controllers)
    }
}

/// The namespace of the pod this runs in, if it does.
fn pod_namespace() -> Option<String> {
    let text = std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace").ok()?;
    Some(text.trim().to_owned()).filter(|namespace| !namespace.is_empty())
}

fn print(text: &str) -> Result {
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::Print)
}

/// Resolves on SIGINT or SIGTERM.
fn asked_to_stop() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let fail = |error: std::io::Error| Error::other(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    })
}

fn log_to_stderr(flags: &RunFlags) -> Result {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(&flags.log_level)
        .map_err(|error| Error::Usage(format!("--log-level {}: {error}", flags.log_level)))?;
    let colour =
        std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let set = match flags.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if set.is_err() {
        tracing::debug!("the program has set up its own logging, which stays");
    }
    Ok(())
}
