//! An aggregated API server: its kinds, put together with what the cluster decides, and run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kubewright_pki::{Identity, ServingCertificate};
use kubewright_storage::{MemoryStore, Store};
use tokio::task::JoinHandle;

use super::kind::{Kind, Served};
use super::namespaces::Namespaces;
use super::trust::{self, Trust};
use super::vouching::Vouching;
use super::{Error, manifests};
use crate::authn::TokenWebhook;
use crate::authz::rbac::Masters;
use crate::authz::{Attributes, Authorizer, Decision, Webhook, WebhookSettings};
use crate::outbound::Peer;
use crate::resources::Resource;
use crate::server::{Core, Listener, Server, ServerConfig, VersionInfo};
use crate::{BoxFuture, ready};

/// How long answers of the cluster about callers hold, yes and no alike.
const HOLDS: Duration = Duration::from_secs(10);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the cluster is asked whom to believe before the server gives up.
const ATTEMPTS: usize = 20;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// An aggregated API server. See the [module's example](super).
pub struct AggregatedServer {
    pub(super) name: String,
    pub(super) version: Option<String>,
    kinds: Vec<Kind>,
    store: Arc<dyn Store>,
}

/// What a server needs to know of where it runs.
pub struct Settings {
    /// The cluster that it belongs to, and who it is there.
    pub cluster: Peer,
    /// Where to serve; port 0 for any.
    pub bind: SocketAddr,
    /// What it shows to clients.
    pub serving: Serving,
}

/// A serving certificate.
pub enum Serving {
    /// One that somebody else has made, and vouches for in the APIServices.
    Certificate(Box<Identity>),
    /// One of its own, for the Service of its name in this namespace; it puts its authority into its APIServices.
    Own {
        /// The namespace of the Service.
        namespace: String,
    },
}

impl AggregatedServer {
    /// A server without kinds. Its name is that of its Service, its service account and its roles.
    pub fn new(name: &str) -> Self {
        let store = Arc::new(MemoryStore::default());
        Self { name: name.into(), version: None, kinds: Vec::new(), store }
    }

    /// Adds a kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Where the objects are kept of kinds that say nothing else; in memory by default.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = store;
        self
    }

    /// What `version` prints: usually `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.into());
        self
    }

    /// What it needs in the cluster: service account, roles, Service (in `namespace`), APIServices, and what viewers and
    /// editors may do with its kinds.
    ///
    /// # Errors
    /// When a kind cannot be served.
    pub fn manifests(self, namespace: &str) -> Result<Vec<serde_json::Value>, Error> {
        let name = self.name.clone();
        let kinds = self.served()?;
        let resources: Vec<&Resource> = kinds.iter().map(|kind| &*kind.resource).collect();
        Ok(manifests::of(&name, namespace, &resources))
    }

    fn served(self) -> Result<Vec<Served>, Error> {
        self.kinds.into_iter().map(Kind::served).collect()
    }

    /// Starts it: it serves when this returns.
    ///
    /// # Errors
    /// When a kind cannot be served, the cluster does not say whom to believe, or the address is taken.
    pub async fn start(self, settings: Settings) -> Result<Running, Error> {
        let (name, store) = (self.name.clone(), Arc::clone(&self.store));
        let version = self.version.clone();
        let kinds = self.served()?;
        let Settings { cluster, bind, serving } = settings;
        let resources: Vec<&Resource> = kinds.iter().map(|kind| &*kind.resource).collect();
        let services = manifests::api_services(&resources).into_iter().map(|(name, _, _)| name).collect();

        let trust = Arc::new(Trust::default());
        first(&trust, &cluster).await?;
        let mut config = ServerConfig::new(store);
        config.resources = kinds.iter().map(|kind| Arc::clone(&kind.resource)).collect();
        config.admission = vec![Arc::new(Namespaces::new(cluster.clone()))];
        // Tokens are for the cluster: it says itself whom they are made out to.
        config.api_audiences = Vec::new();
        let reviews = cluster.at("/apis/authentication.k8s.io/v1/tokenreviews");
        config.authenticators = vec![
            trust::proxies(&trust),
            trust::clients(&trust),
            Arc::new(TokenWebhook::new(reviews, false, HOLDS)),
        ];
        let reviews = cluster.at("/apis/authorization.k8s.io/v1/subjectaccessreviews");
        let asked = WebhookSettings {
            timeout: TIMEOUT,
            authorized_ttl: HOLDS,
            unauthorized_ttl: HOLDS,
            beta: false,
            deny_on_failure: true,
        };
        config.authorizers =
            vec![Arc::new(Health), Arc::new(Masters), Arc::new(Webhook::new(reviews, asked))];
        if let Some(version) = version {
            config.version = VersionInfo { git_version: format!("v{version}"), ..VersionInfo::default() };
        }
        let server = Server::new(config).await.map_err(Error::Start)?;
        for engine in kinds.iter().filter_map(|kind| kind.engine.as_ref()) {
            engine.start().await.map_err(Error::Source)?;
        }

        let (certificate, vouching) = match serving {
            Serving::Certificate(identity) => {
                let certificate = ServingCertificate::new(&identity).map_err(Error::Certificates)?;
                (Arc::new(certificate), None)
            }
            Serving::Own { namespace } => {
                let names = ["svc", "svc.cluster.local"].map(|end| format!("{name}.{namespace}.{end}"));
                let names = names.into_iter().chain(["localhost".to_string()]).collect();
                let vouching = Vouching::new(&name, names, services).map_err(Error::Certificates)?;
                (vouching.serving(), Some(vouching))
            }
        };
        let tls = kubewright_pki::server_config(certificate).map_err(Error::Certificates)?;
        let listener = server.listen(bind, Some(Arc::new(tls))).await.map_err(Error::Listen)?;
        let mut tasks = vec![tokio::spawn(trust.follow(cluster.clone()))];
        tasks.extend(vouching.map(|vouching| tokio::spawn(vouching.keep(cluster))));
        Ok(Running { server, listener: Some(listener), tasks })
    }
}

/// Reads whom to believe for the first time. The right to read it may be given only now.
async fn first(trust: &Trust, cluster: &Peer) -> Result<(), Error> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match trust.refresh(cluster).await {
            Ok(()) => return Ok(()),
            Err(error) if attempt >= ATTEMPTS => return Err(Error::Authentication(error)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::info!(error, "cannot read whom the cluster believes; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether the server is well may be asked by anybody: those who do have no credentials.
struct Health;

impl Authorizer for Health {
    fn authorize<'a>(&'a self, _core: &'a Core, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        let root = attributes.path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let open = !attributes.resource_request && matches!(root, "healthz" | "livez" | "readyz");
        ready(if open { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) })
    }
}

/// A server that runs. Dropping it stops it without waiting.
pub struct Running {
    server: Server,
    listener: Option<Listener>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Where it serves.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(Listener::address)
    }

    /// The server itself.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Stops: watches end, requests in flight are answered.
    pub async fn shutdown(mut self) {
        self.server.announce_shutdown();
        self.server.shutdown();
        if let Some(listener) = self.listener.take() {
            listener.closed().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.shutdown();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
