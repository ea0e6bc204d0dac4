//! DefaultStorageClass: claims that leave the class open get the default one.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use serde_json::Value;

use crate::fields::{at, object_mut, text};

/// The plugin `DefaultStorageClass`.
pub struct DefaultStorageClass;

/// The annotation that named a claim's class before there was a field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class of a claim or a volume; empty for none.
pub(super) fn class_of(object: &Value) -> &str {
    meta::annotation(object, BETA_CLASS).unwrap_or_else(|| text(object, &["spec", "storageClassName"]))
}

fn is_default(class: &Value) -> bool {
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
        .into_iter()
        .any(|key| meta::annotation(class, key) == Some("true"))
}

impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(claim) =
                attributes.object.as_ref().filter(|_| attributes.is("", "persistentvolumeclaims"))
            else {
                return Ok(());
            };
            // An empty name is an answer too.
            if meta::annotation(claim, BETA_CLASS).is_some()
                || at(claim, &["spec", "storageClassName"]).is_string()
            {
                return Ok(());
            }
            let classes = super::list(attributes, "storage.k8s.io", "storageclasses", "").await?;
            if let Some(class) = super::newest(&classes, is_default)
                && let Some(spec) = attributes.object.as_mut().and_then(|c| object_mut(c, &["spec"]))
            {
                spec.insert("storageClassName".into(), meta::name(class).into());
            }
            Ok(())
        })
    }
}
