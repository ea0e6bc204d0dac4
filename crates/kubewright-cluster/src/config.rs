//! How a cluster is set up, and what can be wrong with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use kubewright_apiserver::bootstrap::BootstrapError;
use kubewright_apiserver::server::{Limits, ListenError, StartError};
use kubewright_kinds::admission::PluginError;
use kubewright_pki::{Authority, PkiError};
use thiserror::Error;

use crate::access::{AccessConfig, AccessError};

/// How a cluster is set up.
#[derive(Clone)]
pub struct ClusterConfig {
    /// Where to serve the API, port 0 for any; `None` in process only.
    pub bind: Option<SocketAddr>,
    /// How many simulated nodes there are.
    pub nodes: usize,
    /// Whether controllers, scheduler and nodes run. Without them only what clients do happens.
    pub controllers: bool,
    /// Who may come in and what they may do.
    pub access: AccessConfig,
    /// What requests and connections may cost.
    pub limits: Limits,
    /// How long the API is served after it was asked to stop, while `/readyz` fails.
    pub shutdown_delay: Duration,
    /// The IPv4 range of cluster IPs, such as `10.0.0.0/24`.
    pub service_cidr: String,
    /// Admission plugins to run that do not by themselves, by their Kubernetes names.
    pub enabled_admission: Vec<String>,
    /// Admission plugins to leave out, by their Kubernetes names.
    pub disabled_admission: Vec<String>,
    /// How often the history of the store is compacted; every state stays readable at least so long.
    pub compaction_interval: Duration,
    /// Who vouches for the server and its users; a new authority where there is none.
    pub authority: Option<Arc<Authority>>,
}

impl Default for ClusterConfig {
    /// In process, without nodes, with controllers.
    fn default() -> Self {
        Self {
            bind: None,
            nodes: 0,
            controllers: true,
            access: AccessConfig::default(),
            limits: Limits::default(),
            shutdown_delay: Duration::ZERO,
            service_cidr: "10.0.0.0/24".into(),
            enabled_admission: Vec::new(),
            disabled_admission: Vec::new(),
            compaction_interval: Duration::from_secs(300),
            authority: None,
        }
    }
}

/// Why a cluster did not start.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The range of cluster IPs is none.
    #[error("{given:?} is no IPv4 range such as 10.0.0.0/24 (with room for at least two addresses)")]
    ServiceRange {
        /// What was given.
        given: String,
    },
    /// Settings of authentication, authorization or auditing can't be used.
    #[error("cannot set up access to the API")]
    Access(#[source] AccessError),
    /// A certificate can't be made.
    #[error("cannot make certificates")]
    Certificates(#[source] PkiError),
    /// The server did not start.
    #[error("the API server did not start")]
    Start(#[source] StartError),
    /// The address can't be served on.
    #[error("cannot serve on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: ListenError,
    },
    /// An admission plugin is unknown.
    #[error("cannot set up admission")]
    Admission(#[source] PluginError),
    /// The objects that every cluster has can't be written.
    #[error("cannot write the bootstrap objects")]
    Bootstrap(#[source] Box<BootstrapError>),
    /// Roles can't be read.
    #[error("cannot read what was granted")]
    Permissions(#[source] kubewright_storage::StoreError),
    /// The kubeconfig can't be read back.
    #[error("cannot put the kubeconfig together")]
    Kubeconfig(#[source] serde_json::Error),
}

impl ClusterConfig {
    /// The range of cluster IPs.
    pub(crate) fn service_range(&self) -> Result<Ipv4Net, ClusterError> {
        let given: Option<Ipv4Net> = self.service_cidr.parse().ok();
        given
            .filter(|range| range.prefix_len() <= 30)
            .map(|range| range.trunc())
            .ok_or_else(|| ClusterError::ServiceRange { given: self.service_cidr.clone() })
    }
}

/// The first address of a range that can be given out: that of the Service `kubernetes`.
pub(crate) fn first(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()).wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(cidr: &str) -> Result<Ipv4Net, ClusterError> {
        ClusterConfig { service_cidr: cidr.into(), ..ClusterConfig::default() }.service_range()
    }

    #[test]
    fn the_first_address_of_a_range_follows_its_base() {
        assert_eq!(first(range("10.9.0.7/24").unwrap()).to_string(), "10.9.0.1");
        assert_eq!(range("10.9.0.7/24").unwrap().to_string(), "10.9.0.0/24");
    }

    #[test]
    fn what_is_no_range_is_named() {
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/31", "ten/8"] {
            assert!(matches!(range(wrong), Err(ClusterError::ServiceRange { given }) if given == wrong));
        }
    }
}
