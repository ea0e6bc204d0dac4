//! PodResizeValidator: a pod on a node is not resized to more than the node has.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_machinery::field::quote;
use kubewright_machinery::meta;
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::status::{Cause, Status};
use serde_json::Value;

use super::pod_amounts::{Counting, Side, total};
use crate::fields::{at, text};

/// The plugin `PodResizeValidator`.
pub struct PodResizeValidator;

/// Why the node cannot take the pod as resized: the cause and the words.
fn fault(pod: &Value, node: &Value) -> Option<(&'static str, String)> {
    let requests = total(pod, Side::Requests, Counting { overhead: true, status: false });
    let mut short = Vec::new();
    for (name, amount) in
        [("cpu", Quantity::milli_value as fn(&Quantity) -> i64), ("memory", Quantity::value)]
    {
        let there = Quantity::from_value(at(node, &["status", "allocatable", name])).unwrap_or_default();
        let (asked, there) = (requests.get(name).map_or(0, amount), amount(&there));
        if asked > there {
            short.push(format!("{name}, requested: {asked}, allocatable: {there}"));
        }
    }
    if !short.is_empty() {
        let why = format!("Node didn't have enough allocatable resources: {}", short.join("; "));
        return Some(("NodeCapacity", why));
    }
    let system = meta::label(node, "kubernetes.io/os").unwrap_or_default();
    (system != "linux").then(|| {
        let name = quote(meta::name(node));
        let why = format!("pod resize is only supported on linux nodes, node {name} is {}", quote(system));
        ("UnsupportedPlatform", why)
    })
}

impl Admission for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !attributes.resource.group.is_empty()
                || &*attributes.resource.plural != "pods"
                || attributes.subresource_name() != "resize"
            {
                return Ok(());
            }
            let (Some(pod), Some(old)) = (&attributes.object, &attributes.old) else { return Ok(()) };
            let name = text(pod, &["spec", "nodeName"]);
            if name.is_empty() || meta::generation(pod) == meta::generation(old) {
                return Ok(());
            }
            let Some(node) = super::get(attributes, "", "nodes", name).await? else {
                return Err(attributes.forbidden(format!("node {} not found", quote(name))));
            };
            match fault(pod, &node) {
                Some((reason, why)) => {
                    let mut status = attributes.forbidden(why);
                    if let Some(details) = &mut status.details {
                        details.causes.push(Cause { reason: reason.into(), ..Cause::default() });
                    }
                    Err(status)
                }
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_refuses_what_it_does_not_have() {
        let pod = json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "1500m", "memory": "1Ki"}}}]}});
        let mut node = json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}},
            "status": {"allocatable": {"cpu": "1", "memory": "1k"}}});
        assert_eq!(
            fault(&pod, &node).unwrap().1,
            "Node didn't have enough allocatable resources: cpu, requested: 1500, allocatable: 1000; memory, \
             requested: 1024, allocatable: 1000"
        );
        node["status"]["allocatable"] = json!({"cpu": "2", "memory": "1Mi"});
        assert_eq!(fault(&pod, &node), None);
        node["metadata"]["labels"] = json!({});
        assert!(fault(&pod, &node).unwrap().1.ends_with("node \"n\" is \"\""));
    }
}
