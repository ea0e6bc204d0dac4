//! Admission of what a request writes: the plugins are asked, and their warnings go to the caller.

use std::sync::Arc;

use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::Call;
use crate::admission::{self, Phase};
use crate::resources::WriteContext;

impl Call {
    /// Runs these phases over an object to be written; gives it back as plugins made it.
    pub(super) async fn admit_object(
        &self,
        cx: &WriteContext<'_>,
        object: Value,
        old: Option<&Arc<Value>>,
        phases: &[Phase],
    ) -> Result<Value, Status> {
        let object = self.admit(cx, Some(object), old, phases).await?;
        object.ok_or_else(|| Status::internal("an admission plugin lost the object"))
    }

    /// Runs these phases, until a plugin refuses. A deletion writes no object.
    pub(super) async fn admit(
        &self,
        cx: &WriteContext<'_>,
        object: Option<Value>,
        old: Option<&Arc<Value>>,
        phases: &[Phase],
    ) -> Result<Option<Value>, Status> {
        if cx.core.admission().is_empty() {
            return Ok(object);
        }
        let name = match (cx.name, &object) {
            ("", Some(object)) => meta::name(object).to_string(),
            (name, _) => name.to_string(),
        };
        // A Namespace counts as being in itself.
        let namespace = match (&*cx.resource.group, &*cx.resource.plural) {
            ("", "namespaces") => &*name,
            _ => cx.namespace,
        };
        let mut attributes = admission::Attributes {
            core: cx.core,
            operation: cx.operation,
            resource: cx.resource,
            subresource: cx.subresource,
            namespace,
            name: &name,
            object,
            old: old.cloned(),
            options: cx.options,
            dry_run: cx.dry_run,
            user: cx.user,
            now: cx.now,
            warnings: Vec::new(),
            trail: self.trail(),
            rounds: Default::default(),
        };
        let mut outcome = Ok(());
        for phase in phases {
            outcome = admission::run(&mut attributes, *phase).await;
            if outcome.is_err() {
                break;
            }
        }
        attributes.warnings.drain(..).for_each(|text| self.warn(text));
        outcome?;
        Ok(attributes.object)
    }
}
