//! What else must hold for a write: the [`Admission`] seam.
//!
//! An authorized write flows through the plugins twice: every `mutate` in order before defaulting is complete and the
//! strategy prepares the object, then every `validate` on what is about to be stored. Nothing is written here.

use std::sync::Arc;

pub use kubewright_machinery::reviews::Operation;
use kubewright_machinery::status::Status;
use serde_json::Value;

use crate::audit::Trail;
use crate::authn::UserInfo;
use crate::resources::{Resource, Subresource};
use crate::server::Core;
use crate::{BoxFuture, ready};

mod namespace;
mod webhook;

pub use namespace::NamespaceLifecycle;
pub(crate) use namespace::terminating;
pub(crate) use webhook::Connections;
pub use webhook::{MutatingWebhooks, ValidatingWebhooks};

/// One write on its way (`admission.Attributes`).
pub struct Attributes<'a> {
    /// The server.
    pub core: &'a Core,
    /// What is done.
    pub operation: Operation,
    /// The resource written to.
    pub resource: &'a Arc<Resource>,
    /// The subresource written to. The object is then of [`Subresource::kind`].
    pub subresource: Option<&'a Subresource>,
    /// Namespace; empty for cluster-scoped resources. Of a Namespace object: its own name, as the real server has it.
    pub namespace: &'a str,
    /// Name; empty on a create with generateName.
    pub name: &'a str,
    /// The object to be written; `None` on delete.
    pub object: Option<Value>,
    /// The object as it is; `None` on create.
    pub old: Option<Arc<Value>>,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions as an object with kind and apiVersion.
    pub options: &'a Value,
    /// Nothing will be persisted.
    pub dry_run: bool,
    /// Who writes.
    pub user: &'a UserInfo,
    /// When.
    pub now: jiff::Timestamp,
    /// `Warning` headers for the answer.
    pub warnings: Vec<String>,
    /// What is written down about the request, where it is.
    pub trail: Option<&'a Trail>,
    /// Whether plugins are asked once more about what webhooks changed.
    pub(crate) rounds: Rounds,
}

/// Where a write is in the rounds of mutation (reinvocation): there is a second one if a webhook changed the object.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Whether this is the second round.
    second: bool,
    /// Whether there is to be one.
    wanted: bool,
    webhooks: webhook::Invoked,
}

impl Attributes<'_> {
    /// Whether this is about `plural.group`, and not a subresource of it.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_none() && &*self.resource.group == group && &*self.resource.plural == plural
    }

    /// Name of the subresource, or empty.
    pub fn subresource_name(&self) -> &str {
        self.subresource.map_or("", |s| &s.name)
    }

    /// Adds an annotation to the request's audit events, where it is audited. The first value of a key stands.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        if let Some(trail) = self.trail {
            trail.annotate(key, value);
        }
    }

    /// 403 as admission plugins answer it, naming the object.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        let named = self.object.as_ref().and_then(|o| {
            let meta = o.get("metadata")?;
            let text = |k: &str| meta.get(k).and_then(Value::as_str).filter(|s| !s.is_empty());
            text("name").or_else(|| text("generateName"))
        });
        let name = if self.name.is_empty() { named.unwrap_or("Unknown") } else { self.name };
        Status::forbidden(&self.resource.group, &self.resource.plural, name, why)
    }
}

/// The two halves of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Plugins may change the object.
    Mutate,
    /// Plugins may refuse it.
    Validate,
}

/// Runs the server's plugins in order, until one refuses. Mutation has a second round where a webhook changed the
/// object: all plugins see it again, and those webhooks that asked for it.
pub(crate) async fn run(attributes: &mut Attributes<'_>, phase: Phase) -> Result<(), Status> {
    one_round(attributes, phase).await?;
    if phase == Phase::Mutate && attributes.rounds.wanted {
        attributes.rounds.second = true;
        one_round(attributes, phase).await?;
    }
    Ok(())
}

async fn one_round(attributes: &mut Attributes<'_>, phase: Phase) -> Result<(), Status> {
    let (core, operation) = (attributes.core, attributes.operation);
    for plugin in core.admission().iter().filter(|p| p.handles(operation)) {
        match phase {
            Phase::Mutate => plugin.mutate(attributes).await?,
            Phase::Validate => plugin.validate(attributes).await?,
        }
    }
    Ok(())
}

/// One admission plugin.
pub trait Admission: Send + Sync {
    /// Its name, as `--disable-admission-plugins` takes it.
    fn name(&self) -> &'static str;

    /// Whether it cares for an operation; asked first because it is cheap.
    fn handles(&self, operation: Operation) -> bool {
        let _ = operation;
        true
    }

    /// May change the object.
    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let _ = attributes;
        ready(Ok(()))
    }

    /// May refuse; sees the object as it would be stored. Changes to the object have no effect, warnings do.
    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let _ = attributes;
        ready(Ok(()))
    }
}
