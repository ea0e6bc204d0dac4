//! The server as a whole: its configuration, the chain of a request, and the ways in.

use std::sync::Arc;

mod body;
mod chain;
mod config;
mod core;
mod cork;
mod deadline;
mod documents;
mod fairness;
mod health;
mod idle;
mod inprocess;
mod listen;
mod oidc;
pub(crate) mod respond;
mod standing;

pub use body::ServerBody;
pub(crate) use chain::attributes;
pub use config::{Clock, Entropy, ISSUER, Limits, ServerConfig, SystemClock, SystemEntropy, VersionInfo};
pub use core::Core;
pub use inprocess::{InProcess, InProcessError};
pub use listen::{ListenError, Listener};
pub(crate) use standing::Standing;

use crate::authn::UserInfo;
use crate::crds;
use crate::resources::Resource;

/// An answer.
pub type Response = http::Response<ServerBody>;

/// An API server. Cloning is a reference count; the server goes on until [`Server::shutdown`].
#[derive(Clone)]
pub struct Server {
    core: Arc<Core>,
    stop: Arc<tokio::sync::watch::Sender<bool>>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error("the store cannot be read")]
    Store(#[source] kubewright_storage::StoreError),
}

impl Server {
    /// A server that is ready to serve in process; see [`Server::listen`] for sockets.
    pub async fn new(config: ServerConfig) -> Result<Self, StartError> {
        config.store.revision().await.map_err(StartError::Store)?;
        let stop = Arc::new(tokio::sync::watch::Sender::new(false));
        let core = Arc::new(Core::new(config));
        let table = core.table();
        // Definitions first: what else starts may look at what is served.
        let definitions = |r: &&Arc<Resource>| *r.group == *crds::GROUP;
        let others = table.resources().iter().filter(|r| !definitions(r));
        for resource in table.resources().iter().filter(definitions).chain(others) {
            resource.strategy.start(&core).await.map_err(StartError::Store)?;
        }
        Ok(Self { core, stop })
    }

    /// What every request shares.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A client's way in without a socket: a tower service that runs the same chain. With an identity requests are
    /// made as that user and carry no credentials; without one they are authenticated like any other.
    pub fn service(&self, identity: Option<UserInfo>) -> InProcess {
        InProcess::new(Arc::clone(&self.core), identity.map(Arc::new), self.stop.subscribe())
    }

    /// Serves on a socket until shutdown; TLS when a configuration is given, plain HTTP otherwise.
    pub async fn listen(
        &self,
        address: std::net::SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Listener, ListenError> {
        Listener::start(Arc::clone(&self.core), address, tls, self.stop.subscribe()).await
    }

    /// Says that it goes down while it still serves: `/readyz` fails, so that whoever balances load looks elsewhere.
    pub fn announce_shutdown(&self) {
        self.core.announce_stop();
    }

    /// Stops: listeners accept no more, watches end, requests in flight are answered. [`Listener::closed`] resolves
    /// when that is done.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
        self.core.stop();
    }
}
