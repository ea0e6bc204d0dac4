//! DefaultIngressClass: ingresses that leave the class open get the default one.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;

use crate::fields::{at, object_mut};

/// The plugin `DefaultIngressClass`.
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
            let Some(ingress) =
                attributes.object.as_ref().filter(|_| attributes.is("networking.k8s.io", "ingresses"))
            else {
                return Ok(());
            };
            if at(ingress, &["spec", "ingressClassName"]).is_string()
                || meta::annotation(ingress, "kubernetes.io/ingress.class").is_some()
            {
                return Ok(());
            }
            let classes = super::list(attributes, "networking.k8s.io", "ingressclasses", "").await?;
            let default = super::newest(&classes, |class| {
                meta::annotation(class, "ingressclass.kubernetes.io/is-default-class") == Some("true")
            });
            if let Some(class) = default
                && let Some(spec) = attributes.object.as_mut().and_then(|i| object_mut(i, &["spec"]))
            {
                spec.insert("ingressClassName".into(), meta::name(class).into());
            }
            Ok(())
        })
    }
}
