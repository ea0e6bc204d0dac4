//! StorageObjectInUseProtection: volumes, claims and attribute classes get a finalizer, so that they are not deleted
//! while something uses them.

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;

/// The plugin `StorageObjectInUseProtection`.
pub struct StorageObjectInUseProtection;

impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let finalizer = if attributes.is("", "persistentvolumes") {
            "kubernetes.io/pv-protection"
        } else if attributes.is("", "persistentvolumeclaims") {
            "kubernetes.io/pvc-protection"
        } else if attributes.is("storage.k8s.io", "volumeattributesclasses") {
            "kubernetes.io/vac-protection"
        } else {
            return ready(Ok(()));
        };
        if let Some(object) = &mut attributes.object {
            meta::add_finalizer(object, finalizer);
        }
        ready(Ok(()))
    }
}
