//! The API server as a proxy in front of aggregated API servers: what it shows them, and what they are told to believe.
//!
//! Its authority lives as long as the cluster and signs nothing else; aggregated servers read of it in the configmap
//! kube-system/extension-apiserver-authentication.

use std::sync::Arc;
use std::time::SystemTime;

use kubewright_kinds::initial::{self, RequestHeader};
use kubewright_pki::{Authority, Identity};
use serde_json::Value;

use crate::ClusterError;
use crate::access::{self as settings, AccessConfig};

/// The common name of the server's certificate.
const NAME: &str = "front-proxy-client";

/// What the server shows, and what is said of it.
pub(crate) struct FrontProxy {
    identity: Arc<Identity>,
    header: RequestHeader,
    /// Certificates of authorities that vouch for clients, besides the cluster's own.
    clients: String,
}

impl FrontProxy {
    /// A new authority, and a certificate of it. Proxies that the cluster itself believes are believed by aggregated
    /// servers too.
    pub(crate) fn new(access: &AccessConfig) -> Result<Self, ClusterError> {
        let authority =
            Authority::new("front-proxy-ca", SystemTime::now()).map_err(ClusterError::Certificates)?;
        let identity =
            authority.client(NAME, &[""; 0], SystemTime::now()).map_err(ClusterError::Certificates)?;
        let mut header =
            RequestHeader { authority: authority.certificate_pem(), allowed_names: vec![NAME.into()] };
        if let Some(other) = &access.request_header {
            header.authority.push_str(&settings::read(&other.client_ca_file).map_err(ClusterError::Access)?);
            // No names means any.
            match other.allowed_names.as_slice() {
                [] => header.allowed_names.clear(),
                names => header.allowed_names.extend(names.iter().cloned()),
            }
        }
        let clients = access.client_ca_file.as_deref().map(settings::read).transpose();
        let clients = clients.map_err(ClusterError::Access)?.unwrap_or_default();
        Ok(Self { identity: Arc::new(identity), header, clients })
    }

    /// What the server shows to aggregated servers.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    /// The configmap; `own` is the certificate of the cluster's authority.
    pub(crate) fn published(&self, own: &str) -> Value {
        let clients = format!("{own}{}", self.clients);
        initial::authentication(Some(&clients), Some(&self.header))
    }
}
