//! Classes of storage and ingress: the default one is filled in; volumes in use are protected; claims grow only where
//! their class allows it.

use std::sync::Arc;

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::meta;
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::{object, read};
use crate::fields::{at, flag, member_made, text};

/// The newest of the classes that are marked as default; by name where two are as new.
fn default_class(classes: &[Arc<Value>], marks: &[&str]) -> Option<String> {
    let marked =
        classes.iter().filter(|c| marks.iter().any(|m| text(c, &["metadata", "annotations", m]) == "true"));
    let newest = marked.max_by(|a, b| {
        let created = |c: &Value| text(c, &["metadata", "creationTimestamp"]).to_string();
        created(a).cmp(&created(b)).then_with(|| meta::name(b).cmp(meta::name(a)))
    });
    newest.map(|class| meta::name(class).to_string())
}

/// `DefaultStorageClass`.
#[derive(Clone, Copy, Debug)]
pub struct DefaultStorageClass;

const STORAGE_MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(claim) = attributes.object.as_ref() else { return Ok(()) };
            let stated = !at(claim, &["spec", "storageClassName"]).is_null()
                || meta::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
            if !attributes.is("", "persistentvolumeclaims") || stated {
                return Ok(());
            }
            let classes = read(attributes, "storage.k8s.io", "storageclasses", "").await?;
            if let Some(class) = default_class(&classes, &STORAGE_MARKS)
                && let Some(spec) = object(attributes).and_then(|claim| member_made(claim, "spec"))
            {
                spec.insert("storageClassName".into(), class.into());
            }
            Ok(())
        })
    }
}

/// `DefaultIngressClass`.
#[derive(Clone, Copy, Debug)]
pub struct DefaultIngressClass;

impl Admission for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(ingress) = attributes.object.as_ref() else { return Ok(()) };
            let stated = !at(ingress, &["spec", "ingressClassName"]).is_null()
                || meta::annotation(ingress, "kubernetes.io/ingress.class").is_some();
            if !attributes.is("networking.k8s.io", "ingresses") || stated {
                return Ok(());
            }
            let classes = read(attributes, "networking.k8s.io", "ingressclasses", "").await?;
            if let Some(class) = default_class(&classes, &["ingressclass.kubernetes.io/is-default-class"])
                && let Some(spec) = object(attributes).and_then(|ingress| member_made(ingress, "spec"))
            {
                spec.insert("ingressClassName".into(), class.into());
            }
            Ok(())
        })
    }
}

/// `StorageObjectInUseProtection`: what is in use is not deleted under its user.
#[derive(Clone, Copy, Debug)]
pub struct StorageObjectInUseProtection;

impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let finalizer =
            match (attributes.subresource, &*attributes.resource.group, &*attributes.resource.plural) {
                (None, "", "persistentvolumes") => "kubernetes.io/pv-protection",
                (None, "", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
                (None, "storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
                _ => return ready(Ok(())),
            };
        if let Some(object) = attributes.object.as_mut() {
            meta::add_finalizer(object, finalizer);
        }
        ready(Ok(()))
    }
}

/// `PersistentVolumeClaimResize`.
#[derive(Clone, Copy, Debug)]
pub struct PersistentVolumeClaimResize;

impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let (Some(claim), Some(old)) = (attributes.object.as_ref(), attributes.old.as_ref()) else {
                return Ok(());
            };
            if !attributes.is("", "persistentvolumeclaims") {
                return Ok(());
            }
            let size =
                |c: &Value| Quantity::from_value(at(c, &["spec", "resources", "requests", "storage"])).ok();
            if size(claim) <= size(old) {
                return Ok(());
            }
            if text(old, &["status", "phase"]) != "Bound" {
                return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
            }
            let class = text(claim, &["spec", "storageClassName"]);
            let class = attributes.core.reader().get("storage.k8s.io", "storageclasses", "", class).await;
            let grows = class.map_err(Status::internal)?.is_some_and(|c| flag(&c, &["allowVolumeExpansion"]));
            if !grows {
                let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
                return Err(attributes.forbidden(why));
            }
            Ok(())
        })
    }
}
