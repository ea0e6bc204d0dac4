//! TaintNodesByCondition: a new node takes no pods until a controller has seen it ready.

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use crate::fields::{items, member_made, text};

/// The plugin `TaintNodesByCondition`.
pub struct TaintNodesByCondition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

fn taint(node: &mut Value) {
    let taints = items(node, &["spec", "taints"]);
    if taints.iter().any(|t| text(t, &["key"]) == NOT_READY && text(t, &["effect"]) == NO_SCHEDULE) {
        return;
    }
    let Some(spec) = node.as_object_mut().and_then(|n| member_made(n, "spec")) else { return };
    let list = spec.entry("taints").or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(json!({"key": NOT_READY, "effect": NO_SCHEDULE}));
    }
}

impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if attributes.is("", "nodes")
            && let Some(node) = &mut attributes.object
        {
            taint(node);
        }
        ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_tainted_once() {
        let mut node =
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}});
        taint(&mut node);
        let once = node.clone();
        taint(&mut node);
        assert_eq!(node, once);
        assert_eq!(items(&node, &["spec", "taints"]).len(), 2);
    }
}
