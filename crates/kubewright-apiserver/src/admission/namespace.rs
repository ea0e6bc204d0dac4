//! `NamespaceLifecycle`: nothing is created in a namespace that is missing or going away, and the namespaces that a
//! cluster cannot do without stay.

use kubewright_machinery::status::{Cause, Details, Status};

use super::{Admission, Attributes, Operation};
use crate::BoxFuture;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin. It reads namespaces from the store, decoded at most once per change.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceLifecycle;

impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(check(attributes))
    }
}

async fn check(attributes: &Attributes<'_>) -> Result<(), Status> {
    let resource = attributes.resource;
    let is_namespace = resource.group.is_empty() && &*resource.plural == "namespaces";
    if attributes.operation == Operation::Delete {
        if is_namespace && IMMORTAL.contains(&attributes.name) {
            return Err(attributes.forbidden("this namespace may not be deleted"));
        }
        return Ok(());
    }
    let is_review =
        &*resource.group == "authorization.k8s.io" && &*resource.plural == "localsubjectaccessreviews";
    if is_namespace || attributes.namespace.is_empty() || is_review {
        return Ok(());
    }
    let found = attributes.core.reader().get("", "namespaces", "", attributes.namespace).await;
    let Some(namespace) = found.map_err(Status::internal)? else {
        return Err(Status::not_found("", "namespaces", attributes.namespace));
    };
    if attributes.operation == Operation::Create && namespace["status"]["phase"] == "Terminating" {
        return Err(terminating(attributes));
    }
    Ok(())
}

/// What a create in a namespace that goes away is answered with.
pub(crate) fn terminating(attributes: &Attributes<'_>) -> Status {
    let name = attributes.namespace;
    let mut status = attributes.forbidden(format!(
        "unable to create new content in namespace {name} because it is being terminated"
    ));
    status.details.get_or_insert_with(|| Box::new(Details::default())).causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".into(),
    });
    status
}
