//! PersistentVolumeClaimResize: only bound claims of a class that allows it may grow.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::default_storage_class::class_of;
use crate::fields::{at, flag, text};

/// The plugin `PersistentVolumeClaimResize`.
pub struct PersistentVolumeClaimResize;

fn size(claim: &Value) -> Quantity {
    Quantity::from_value(at(claim, &["spec", "resources", "requests", "storage"])).unwrap_or_default()
}

impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !attributes.is("", "persistentvolumeclaims") {
                return Ok(());
            }
            let (Some(claim), Some(old)) = (&attributes.object, &attributes.old) else { return Ok(()) };
            if size(claim) <= size(old) {
                return Ok(());
            }
            if text(old, &["status", "phase"]) != "Bound" {
                return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
            }
            let name = class_of(claim);
            if name == class_of(old) {
                let class = super::get(attributes, "storage.k8s.io", "storageclasses", name).await?;
                if class.is_some_and(|class| flag(&class, &["allowVolumeExpansion"])) {
                    return Ok(());
                }
            }
            Err(attributes.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                 support resize",
            ))
        })
    }
}
