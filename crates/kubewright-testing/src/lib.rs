//! A Kubernetes cluster inside a test.
//!
//! ```no_run
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use kube::Api;
//! use kubewright_testing::{TestCluster, eventually};
//!
//! # async fn test() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let cluster = TestCluster::start().await?;
//! let namespace = cluster.namespace("settings").await?;
//! let maps: Api<ConfigMap> = Api::default_namespaced(namespace.client());
//! eventually!(cluster, "the operator writes its settings", maps.get_opt("settings").await?.is_some());
//! # Ok(()) }
//! ```
//!
//! [`TestCluster::client`] is a plain [`kube::Client`]: existing kube-rs code uses it as it is. Requests go to the
//! API server in process, through the same chain as those from a socket, and no port is opened unless asked for.
//! What never happens here: semantics of Kubernetes. They are the cluster's.

mod dump;
mod eventually;
mod objects;
mod operator;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};
pub use kubewright_cluster::{Cluster, ClusterConfig, ClusterError, Permission, PermissionReport};
use thiserror::Error;

pub use crate::eventually::{BoxError, eventually};
pub use crate::operator::TestOperator;

/// Why a test has no cluster or namespace.
#[derive(Debug, Error)]
pub enum TestError {
    /// The cluster did not start.
    #[error("cannot start a cluster for the test")]
    Start(#[from] ClusterError),
    /// The namespace was not created.
    #[error("cannot create the test's namespace {name}")]
    Namespace {
        /// Its name.
        name: String,
        /// The cause.
        source: Box<kube::Error>,
    },
    /// An operator can't print its manifests.
    #[error("the operator has no manifests")]
    Manifests(#[source] kubewright::Error),
    /// What is to be applied is no YAML.
    #[error("the objects are no YAML")]
    Yaml(#[source] serde_saphyr::Error),
    /// A file of objects can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The cluster refused an object.
    #[error("the objects can't be applied")]
    Apply(#[source] kubewright_cluster::apply::ApplyError),
    /// No port for the operator's webhooks.
    #[error("cannot listen for webhooks")]
    Listen(#[source] std::io::Error),
    /// The operator ended by itself.
    #[error("the operator ended")]
    Ended(#[source] kubewright::Error),
    /// The operator does not become ready.
    #[error("the operator is not ready:\n{report}")]
    NotReady {
        /// What is missing.
        report: String,
    },
}

/// A cluster that lives as long as the test. Starting one costs milliseconds: every test can have its own.
pub struct TestCluster {
    cluster: Cluster,
    namespaces: AtomicUsize,
}

impl TestCluster {
    /// A cluster with one node and all controllers, in process only.
    ///
    /// # Errors
    /// [`TestError::Start`] when the cluster can't be set up.
    pub async fn start() -> Result<Self, TestError> {
        Self::with(ClusterConfig { nodes: 1, ..ClusterConfig::default() }).await
    }

    /// The API server alone: no controllers and no nodes, so that nothing changes by itself.
    ///
    /// # Errors
    /// [`TestError::Start`] when the server can't be set up.
    pub async fn api_server_only() -> Result<Self, TestError> {
        Self::with(ClusterConfig { nodes: 0, controllers: false, ..ClusterConfig::default() }).await
    }

    /// A cluster as a configuration says.
    ///
    /// # Errors
    /// [`TestError::Start`] when the cluster can't be set up.
    pub async fn with(config: ClusterConfig) -> Result<Self, TestError> {
        Ok(Self { cluster: Cluster::start(config).await?, namespaces: AtomicUsize::new(0) })
    }

    /// A client with all rights (group `system:masters`), default namespace `default`.
    pub fn client(&self) -> kube::Client {
        self.cluster.client()
    }

    /// A client with the identity and so the rights of a user.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> kube::Client {
        self.cluster.client_as(user, groups, "default")
    }

    /// The cluster itself: nodes, kubeconfigs, its end.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A fresh namespace whose name begins with `hint`, for tests that share a cluster.
    ///
    /// # Errors
    /// [`TestError::Namespace`] with the server's answer, such as for a hint that is no DNS label.
    pub async fn namespace(&self, hint: &str) -> Result<TestNamespace, TestError> {
        let name = format!("{hint}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(self.client())
            .create(&PostParams::default(), &namespace)
            .await
            .map_err(|source| TestError::Namespace { name: name.clone(), source: Box::new(source) })?;
        let client = self.cluster.client_as("kubernetes-admin", &["system:masters"], &name);
        Ok(TestNamespace { client, name })
    }

    /// Which permissions an account, such as that of [`TestOperator::user`], has used so far, beside those that its roles
    /// grant. What the runtime may need in every operator (events, leases, finalizers of owners) is left out.
    ///
    /// # Errors
    /// [`TestError::Start`] when the roles can't be read.
    pub async fn permissions(&self, user: &str) -> Result<PermissionReport, TestError> {
        let report = self.cluster.permissions(user).await?;
        Ok(report.ignoring(&[
            "events.events.k8s.io",
            "leases.coordination.k8s.io",
            "tokenreviews.authentication.k8s.io",
            "subjectaccessreviews.authorization.k8s.io",
            "*/finalizers",
        ]))
    }

    /// All that a reader of a failed test may want to see: objects with their state, and events, as text.
    pub async fn dump(&self) -> String {
        dump::of(self.client()).await
    }

    /// Stops controllers and server in order. Dropping a cluster stops it as well, without waiting.
    pub async fn shutdown(self) {
        self.cluster.shutdown().await;
    }
}

/// A namespace of one test.
pub struct TestNamespace {
    client: kube::Client,
    name: String,
}

impl TestNamespace {
    /// A client with all rights whose default namespace is this one.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
