//! The rules of definitions as objects: their defaults, validation, status, and how their deletion begins.
//!
//! What a definition means to the server is the registry's matter; here it is only told that one was written.

use std::sync::Arc;

use kubewright_machinery::crd::{self, status};
use kubewright_machinery::field::{self, Path};
use kubewright_machinery::meta;
use kubewright_storage::StoreError;
use serde_json::Value;

use super::CLEANUP_FINALIZER;
use super::registry::Registry;
use crate::BoxFuture;
use crate::resources::{Strategy, WriteContext};
use crate::server::Core;

/// Rules of the main endpoint.
pub(super) struct DefinitionStrategy {
    registry: Arc<Registry>,
}

impl DefinitionStrategy {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

impl Strategy for DefinitionStrategy {
    fn default(&self, object: &mut Value) {
        crd::default(object);
    }

    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        crd::prepare_create(object);
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<field::Error> {
        let metadata = Path::new("metadata");
        let path = metadata.child("name");
        let named = crd::validate::name_faults(object);
        let named = named.into_iter().map(|fault| field::Error::invalid(&path, meta::name(object), fault));
        named.chain(crd::validate::create(object)).collect()
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        crd::prepare_update(object, old);
    }

    fn validate_update(&self, _cx: &WriteContext<'_>, object: &Value, old: &Value) -> Vec<field::Error> {
        crd::validate::update(object, old)
    }

    fn warnings(&self, _cx: &WriteContext<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = crd::warnings(object, old);
        let changed = old.is_none_or(|old| old.get("spec") != object.get("spec"));
        if changed {
            warnings.extend(unevaluated_rules(object));
        }
        warnings
    }

    fn reset_fields(&self) -> &[&[&str]] {
        &[&["status"]]
    }

    fn held(&self, object: &Value) -> bool {
        // The first deletion only marks; from then on it is a matter of finalizers.
        !meta::is_deleting(object)
    }

    fn mark_deleting(&self, cx: &WriteContext<'_>, object: &mut Value) {
        meta::add_finalizer(object, CLEANUP_FINALIZER);
        let condition = status::Condition {
            ty: "Terminating",
            status: true,
            reason: "InstanceDeletionPending",
            message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
                .into(),
        };
        status::set_condition(object, &condition, cx.now);
    }

    fn start<'a>(&'a self, core: &'a Arc<Core>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.registry.start(core))
    }

    fn written<'a>(&'a self, core: &'a Core, _object: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(self.registry.settle_or_log(core))
    }

    fn deleted<'a>(&'a self, cx: &'a WriteContext<'a>, _object: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(self.registry.settle_or_log(cx.core))
    }
}

/// Rules are kept and shown, but nobody evaluates them: whoever relies on them should know.
fn unevaluated_rules(object: &Value) -> Option<String> {
    let definition = crd::Definition::parse(object);
    definition.versions.iter().any(|version| version.schema.has_rules()).then(|| {
        "x-kubernetes-validations rules are not evaluated yet: objects that break them are accepted"
            .to_string()
    })
}

/// Rules of `/status`.
pub(super) struct StatusStrategy {
    registry: Arc<Registry>,
}

impl StatusStrategy {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

impl Strategy for StatusStrategy {
    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        if let (Some(fields), Some(spec)) = (object.as_object_mut(), old.get("spec")) {
            fields.insert("spec".into(), spec.clone());
        }
    }

    fn validate_update(&self, _cx: &WriteContext<'_>, object: &Value, _old: &Value) -> Vec<field::Error> {
        crd::validate::status_update(object)
    }

    fn reset_fields(&self) -> &[&[&str]] {
        &[&["spec"]]
    }

    fn written<'a>(&'a self, core: &'a Core, _object: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(self.registry.settle_or_log(core))
    }

    fn deleted<'a>(&'a self, cx: &'a WriteContext<'a>, _object: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(self.registry.settle_or_log(cx.core))
    }
}
