//! PodTopologyLabels: pods on a node carry the zone and region that the node is in.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;

use crate::fields::text;

/// The plugin `PodTopologyLabels`. Bindings get the labels too and hand them on to their pods.
pub struct PodTopologyLabels;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

impl Admission for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !attributes.resource.group.is_empty() || &*attributes.resource.plural != "pods" {
                return Ok(());
            }
            let Some(object) = &attributes.object else { return Ok(()) };
            let node = match attributes.subresource_name() {
                "" => text(object, &["spec", "nodeName"]),
                "binding" if text(object, &["target", "kind"]) == "Node" => text(object, &["target", "name"]),
                _ => return Ok(()),
            };
            let Some(node) = super::get(attributes, "", "nodes", node).await? else { return Ok(()) };
            let Some(object) = &mut attributes.object else { return Ok(()) };
            for key in LABELS {
                if let Some(value) = meta::label(&node, key)
                    && meta::label(object, key).is_none()
                {
                    meta::set_label(object, key, value);
                }
            }
            Ok(())
        })
    }
}
