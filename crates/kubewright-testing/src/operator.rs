//! An operator inside a test, as its users run it: what its `manifests` print is applied, its webhooks are reachable, and
//! it works under the identity and the roles that were printed, so that a test fails for want of a right as well.

use std::net::SocketAddr;
use std::time::Duration;

use kubewright::{Operator, Readiness};
use kubewright_cluster::apply;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{TestCluster, TestError};

/// How long an operator may take to become ready. Long, because only tests that fail wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running operator. Dropping it ends it as suddenly as `kill -9` would.
pub struct TestOperator {
    user: String,
    namespace: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<kubewright::Result>,
    readiness: Readiness,
    webhooks: SocketAddr,
}

impl TestCluster {
    /// Installs an operator and runs it, in the namespace that its manifests name by default. It is ready when this
    /// returns: its caches are synced, and its webhooks are asked.
    ///
    /// # Errors
    /// When its manifests can't be applied, or it doesn't become ready within 30 s.
    pub async fn run(&self, operator: Operator) -> Result<TestOperator, TestError> {
        let namespace = format!("{}-system", operator.name());
        let manifests = operator.manifests(&namespace, None).map_err(TestError::Manifests)?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&manifests).map_err(TestError::Yaml)?;
        self.apply_all(objects.clone()).await?;

        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(TestError::Listen)?;
        let address = listener.local_addr().map_err(TestError::Listen)?;
        for (namespace, service, port) in apply::webhook_services(&objects) {
            self.cluster().route_service(&namespace, &service, port, address);
        }
        let user = format!("system:serviceaccount:{namespace}:{}", operator.name());
        let groups = [
            "system:serviceaccounts",
            &format!("system:serviceaccounts:{namespace}"),
            "system:authenticated",
        ];
        let client = self.client_as(&user, &groups);
        let manager = operator.manager(client).own_namespace(&namespace).webhook_listener(listener);
        let readiness = manager.readiness();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(manager.run(async {
            // Dropping the sender is a wish to stop as well.
            let _ = stopped.await;
        }));
        let mut running =
            TestOperator { user, namespace, stop: Some(stop), task, readiness, webhooks: address };
        running.ready().await?;
        Ok(running)
    }
}

impl TestOperator {
    /// The user name it works under.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The namespace it lives in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether it is ready, as `/readyz` tells.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Where its webhooks answer. Of several operators of one name, the API server asks the one that was run last; the others are
    /// reached here, and led to with [`route_service`](kubewright_cluster::Cluster::route_service).
    pub fn webhooks(&self) -> SocketAddr {
        self.webhooks
    }

    /// Stops it as SIGTERM does, and waits for its end.
    ///
    /// # Errors
    /// What it ends with.
    pub async fn stop(mut self) -> kubewright::Result {
        drop(self.stop.take());
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => Err(kubewright::Error::other(error)),
        }
    }

    async fn ready(&mut self) -> Result<(), TestError> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.readiness.is_ready() {
            if self.task.is_finished() {
                return Err(match (&mut self.task).await {
                    Ok(Err(error)) => TestError::Ended(error),
                    _ => TestError::NotReady { report: "it ended".into() },
                });
            }
            if tokio::time::Instant::now() > deadline {
                return Err(TestError::NotReady { report: self.readiness.report() });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for TestOperator {
    fn drop(&mut self) {
        self.task.abort();
    }
}
