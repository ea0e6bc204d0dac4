//! Objects are only created in namespaces that the cluster has, and that are not going away.
//!
//! The cluster is asked for each namespace; that it is there is remembered for a moment.

use std::time::Duration;

use jiff::SignedDuration;
use kubewright_machinery::answers::Answers;
use kubewright_machinery::status::Status;
use parking_lot::Mutex;
use serde_json::Value;

use crate::BoxFuture;
use crate::admission::{Admission, Attributes, Operation, terminating};
use crate::outbound::{Peer, PeerError};

/// Namespaces that are remembered.
const REMEMBERED: usize = 4096;
/// For how long.
const HOLDS: SignedDuration = SignedDuration::from_secs(5);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The plugin, by the name of the one that does the same in the cluster.
pub(super) struct Namespaces {
    cluster: Peer,
    there: Mutex<Answers<String, ()>>,
}

impl Namespaces {
    /// Asks this cluster.
    pub(super) fn new(cluster: Peer) -> Self {
        Self { cluster, there: Mutex::new(Answers::new(REMEMBERED)) }
    }

    async fn check(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let name = attributes.namespace;
        if name.is_empty() || self.there.lock().get(name, attributes.now).is_some() {
            return Ok(());
        }
        // It is one segment of a path: the handlers have judged the name.
        let asked = self.cluster.at(&format!("/api/v1/namespaces/{name}"));
        match asked.ask(http::Method::GET, "", &Value::Null, TIMEOUT).await {
            Ok(namespace) if namespace["status"]["phase"] == "Terminating" => Err(terminating(attributes)),
            Ok(_) => {
                self.there.lock().keep(name.into(), (), attributes.now, HOLDS);
                Ok(())
            }
            Err(PeerError::Refused { code: 404, .. }) => Err(Status::not_found("", "namespaces", name)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, namespace = name, "cannot ask the cluster for a namespace");
                Err(Status::internal("the cluster could not be asked for the namespace"))
            }
        }
    }
}

impl Admission for Namespaces {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(attributes))
    }
}
