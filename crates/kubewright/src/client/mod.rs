//! How a process reaches the API server, and how a controller's calls are guarded: declared, repeated
//! only when that is safe, and known to the cache.

mod counted;
mod guard;
mod impersonate;
mod limit;
mod mapper;
mod merge;
mod options;
mod permits;
mod request;
mod retry;
mod transport;
mod warnings;

use std::path::PathBuf;

use kube::config::{InClusterError, InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

pub(crate) use self::counted::counted;
pub(crate) use self::guard::Guard;
pub use self::impersonate::Impersonate;
pub(crate) use self::limit::Limiter;
pub use self::mapper::{Mapper, MapperError, Missing, NotServed, Resources, Served};
pub use self::merge::MergePatch;
pub use self::options::{ClientOptions, ClientOptionsError};
pub(crate) use self::permits::NamedRules;
pub use self::permits::{Permit, Permits, Undeclared};
pub use self::request::{ResourceRequest, Verb};
pub(crate) use self::warnings::Warnings;

/// Where to find the cluster.
#[derive(Clone, Debug, Default)]
pub struct Connect {
    /// A kubeconfig file; without one, `KUBECONFIG`, `~/.kube/config` and the pod's service account are tried.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig other than its current one.
    pub context: Option<String>,
}

/// Why the cluster's address or credentials could not be worked out.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig can't be read or has no such context.
    #[error("the kubeconfig can't be used")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The pod's service account can't be used.
    #[error("the pod's service account can't be used")]
    InCluster(#[source] Box<InClusterError>),
    /// There is neither a kubeconfig nor a service account.
    #[error("there is no cluster to talk to: neither a kubeconfig nor a pod's service account")]
    Infer(#[source] Box<InferConfigError>),
    /// The configuration makes no client.
    #[error("the client can't be set up")]
    Client(#[source] Box<kube::Error>),
}

impl Connect {
    /// Makes a client. Its requests share few connections: HTTP/2 where the server speaks it. None is repeated
    /// here: the guard of each controller decides that.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn client(&self) -> Result<kube::Client, ConnectError> {
        Connect::client_of(self.config().await?)
    }

    /// Makes such a client for a configuration of `kube`.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn client_of(config: kube::Config) -> Result<kube::Client, ConnectError> {
        transport::client(config).map_err(|error| ConnectError::Client(Box::new(error)))
    }

    /// What the client is made of, for those who want to change it.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn config(&self) -> Result<kube::Config, ConnectError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let fail = |error| ConnectError::Kubeconfig(Box::new(error));
        let mut config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let file = Kubeconfig::read_from(path).map_err(fail)?;
                kube::Config::from_custom_kubeconfig(file, &options).await.map_err(fail)?
            }
            (None, Some(_)) => kube::Config::from_kubeconfig(&options).await.map_err(fail)?,
            // Inside a pod the service account is what its role is for, even if an image holds a kubeconfig.
            (None, None) if in_pod() => {
                kube::Config::incluster().map_err(|error| ConnectError::InCluster(Box::new(error)))?
            }
            (None, None) => {
                kube::Config::infer().await.map_err(|error| ConnectError::Infer(Box::new(error)))?
            }
        };
        config.default_retry = false;
        Ok(config)
    }
}

fn in_pod() -> bool {
    std::env::var_os("KUBECONFIG").is_none()
        && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        && std::path::Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()
}
