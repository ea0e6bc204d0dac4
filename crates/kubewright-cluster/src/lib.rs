//! A whole cluster in this process: the API server with the built-in kinds, and around it the controllers, the scheduler
//! and the simulated nodes that operators need.
//!
//! [`Cluster::start`] puts it together from a [`ClusterConfig`]. Everything in it talks to the API server through its
//! chain, in process and with an identity; nothing reads or writes the store behind its back.
//!
//! ```no_run
//! use kubewright_cluster::{Cluster, ClusterConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::start(ClusterConfig { nodes: 3, ..ClusterConfig::default() }).await?;
//! let client: kube::Client = cluster.client();
//! # drop(client);
//! cluster.shutdown().await;
//! # Ok(()) }
//! ```

pub mod access;
pub mod apply;
mod bootstrap;
mod config;
pub mod controllers;
mod descriptions;
mod front_proxy;
mod garbage;
mod identity;
mod kubeconfig;
pub mod nodes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::Identity;
use ipnet::Ipv4Net;
use kubewright::Manager;
use kubewright_apiserver::authn::{AUTHENTICATED, UserInfo};
use kubewright_apiserver::server::{Listener, Server, ServerConfig};
use kubewright_pki::{Authority, ClientVerifier, ServingCertificate};
use kubewright_storage::{Compactor, MemoryStore, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use config::{ClusterConfig, ClusterError};
use front_proxy::FrontProxy;
pub use kubewright_apiserver::authz::usage::{Permission, Report as PermissionReport};

/// The version of Kubernetes that is served.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// A running cluster. Dropping it stops it without waiting; [`Cluster::shutdown`] waits.
pub struct Cluster {
    server: Server,
    listener: Option<Listener>,
    authority: Arc<Authority>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    shutdown_delay: Duration,
}

impl Cluster {
    /// Starts a cluster: it is ready when this returns, with its bootstrap objects and nodes in place. Controllers go on
    /// from there.
    ///
    /// # Errors
    /// When a setting is wrong, the address is taken or certificates can't be made; nothing is left running.
    pub async fn start(config: ClusterConfig) -> Result<Self, ClusterError> {
        let service_range = config.service_range()?;
        let authority = match config.authority.clone() {
            Some(authority) => authority,
            None => {
                Arc::new(Authority::new("kubewright", SystemTime::now()).map_err(ClusterError::Certificates)?)
            }
        };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let proxy = FrontProxy::new(&config.access)?;
        let mut parts = server_config(&config, service_range, &authority, Arc::clone(&store))?;
        parts.proxy_identity = Some(proxy.identity());
        let server = Server::new(parts).await.map_err(ClusterError::Start)?;
        let listener = match config.bind {
            Some(address) => Some(listen(&server, address, service_range, &authority).await?),
            None => None,
        };
        let address = listener.as_ref().map(Listener::address);
        let believed = proxy.published(&authority.certificate_pem());
        let nodes = if config.controllers { config.nodes } else { 0 };
        bootstrap::install(&server, service_range, address, believed, nodes).await?;
        let (stop, stopped) = watch::channel(false);
        let shutdown_delay = config.shutdown_delay;
        let mut cluster = Self { server, listener, authority, stop, tasks: Vec::new(), shutdown_delay };
        cluster.tasks.push(tokio::spawn(compact(store, config.compaction_interval)));
        if config.controllers {
            cluster.run_controllers(stopped);
        }
        Ok(cluster)
    }

    fn run_controllers(&mut self, mut until: watch::Receiver<bool>) {
        let client =
            |identity: Identity| kube::Client::new(self.server.service(Some(identity.user())), "default");
        let mut manager = Manager::new("kube-controller-manager", client(identity::MANAGER))
            // The garbage collector looks at kinds that nobody should use any more.
            .ignore_warnings()
            .runnable(garbage::collector().client(client(garbage::IDENTITY)));
        for (identity, controller) in controllers::all(self.authority.certificate_pem()) {
            manager = manager.controller(controller.client(client(identity)));
        }
        self.tasks.push(tokio::spawn(async move {
            let shutdown = async move {
                // The sender is gone: the cluster was dropped.
                let _ = until.wait_for(|stop| *stop).await;
            };
            if let Err(error) = manager.run(shutdown).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the controllers have ended");
            }
        }));
    }

    /// Where the API is served; `None` in process only.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(Listener::address)
    }

    /// The URL of the API.
    pub fn url(&self) -> Option<String> {
        self.address().map(|address| format!("https://{address}"))
    }

    /// The API server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Leads a port of a service to a process of this machine: there is no network of pods here that the API server
    /// could reach a webhook or an aggregated API server through. The Service has to exist all the same.
    pub fn route_service(&self, namespace: &str, name: &str, port: u16, process: SocketAddr) {
        self.server.core().local_services().insert(namespace, name, port, process);
    }

    /// Which permissions a service account (`system:serviceaccount:NAMESPACE:NAME`) has used so far, beside those that
    /// its roles grant.
    ///
    /// # Errors
    /// When the roles can't be read.
    pub async fn permissions(&self, user: &str) -> Result<PermissionReport, ClusterError> {
        let core = self.server.core();
        let usage = core.config().usage.clone().unwrap_or_default();
        usage.report(core, user).await.map_err(ClusterError::Permissions)
    }

    /// Forgets what a service account has used: it runs anew.
    pub fn forget_permissions(&self, user: &str) {
        if let Some(usage) = &self.server.core().config().usage {
            usage.forget(user);
        }
    }

    /// The authority that vouches for the server and its users.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// A client in process with all rights.
    pub fn client(&self) -> kube::Client {
        self.client_as("kubernetes-admin", &["system:masters"], "default")
    }

    /// A client in process with the identity of a user, and a default namespace.
    pub fn client_as(&self, user: &str, groups: &[&str], namespace: &str) -> kube::Client {
        let mut user = UserInfo::new(user, groups);
        if !user.in_group(AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.into());
        }
        kube::Client::new(self.server.service(Some(user)), namespace)
    }

    /// Stops: for the delay that was configured the API is served on while `/readyz` fails, then controllers stop, then
    /// the server: watches end, requests in flight are answered.
    pub async fn shutdown(mut self) {
        self.server.announce_shutdown();
        if !self.shutdown_delay.is_zero() {
            tokio::time::sleep(self.shutdown_delay).await;
        }
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks).into_iter().skip(1) {
            // A task that panicked has said so.
            let _ = task.await;
        }
        self.server.shutdown();
        if let Some(listener) = self.listener.take() {
            listener.closed().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for task in &self.tasks {
            task.abort();
        }
        self.server.shutdown();
    }
}

/// The API server's parts.
fn server_config(
    config: &ClusterConfig,
    service_range: Ipv4Net,
    authority: &Authority,
    store: Arc<dyn Store>,
) -> Result<ServerConfig, ClusterError> {
    let verifier = ClientVerifier::new(&authority.bundle()).map_err(ClusterError::Certificates)?;
    let mut server = ServerConfig::new(store);
    let issuer = Arc::new(access::issuer(&config.access).map_err(ClusterError::Access)?);
    let chain = access::authenticators(&config.access, verifier, &issuer).map_err(ClusterError::Access)?;
    (server.authenticators, server.anonymous) = chain;
    server.authorizers = access::authorizers(&config.access).map_err(ClusterError::Access)?;
    server.audit = access::auditor(&config.access).map_err(ClusterError::Access)?;
    server.api_audiences = match config.access.api_audiences.as_slice() {
        [] => vec![issuer.name().to_string()],
        given => given.to_vec(),
    };
    server.issuer = Some(issuer);
    server.usage = Some(Arc::default());
    server.limits = config.limits.clone();
    bootstrap::kinds(&mut server, config, service_range)?;
    Ok(server)
}

async fn listen(
    server: &Server,
    address: SocketAddr,
    service_range: Ipv4Net,
    authority: &Authority,
) -> Result<Listener, ClusterError> {
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let addresses = [address.ip(), std::net::Ipv4Addr::LOCALHOST.into(), config::first(service_range).into()];
    let identity =
        authority.server(&names, &addresses, SystemTime::now()).map_err(ClusterError::Certificates)?;
    let serving = ServingCertificate::new(&identity).map_err(ClusterError::Certificates)?;
    let tls = kubewright_pki::server_config(Arc::new(serving)).map_err(ClusterError::Certificates)?;
    server
        .listen(address, Some(Arc::new(tls)))
        .await
        .map_err(|source| ClusterError::Listen { address, source })
}

/// Compacts the store now and then, so that memory follows what is there and not what was.
async fn compact(store: Arc<dyn Store>, interval: std::time::Duration) {
    let mut compactor = Compactor::new();
    let mut ticks = tokio::time::interval(interval.max(std::time::Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(newest) = store.revision().await else { continue };
        if let Some(due) = compactor.tick(newest) {
            // The engine may have compacted further by itself.
            let _ = store.compact(due).await;
        }
    }
}
