//! Kubeconfigs of a cluster: who somebody is, in the form that every client reads.

use std::time::SystemTime;

use kube::config::Kubeconfig;
use serde_json::json;

use crate::{Cluster, ClusterError};

impl Cluster {
    /// A kubeconfig with one context of this name: the cluster's address and authority, and a client certificate for a
    /// user in groups.
    ///
    /// # Errors
    /// When the certificate can't be made.
    pub fn kubeconfig(&self, context: &str, user: &str, groups: &[&str]) -> Result<Kubeconfig, ClusterError> {
        let identity =
            self.authority().client(user, groups, SystemTime::now()).map_err(ClusterError::Certificates)?;
        let encode = |pem: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
        // As JSON, because that is what the file format documents.
        serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": {
                "server": self.url().unwrap_or_default(),
                "certificate-authority-data": encode(self.authority().certificate_pem()),
            }}],
            "users": [{"name": context, "user": {
                "client-certificate-data": encode(identity.certificate_pem()),
                "client-key-data": encode(identity.key_pem()),
            }}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        }))
        .map_err(ClusterError::Kubeconfig)
    }
}
