//! `TaintNodesByCondition`: a new node takes no pods until its controller has seen that it is ready.

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use super::object;
use crate::fields::member_made;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct TaintNodesByCondition;

impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if attributes.is("", "nodes")
            && let Some(spec) = object(attributes).and_then(|node| member_made(node, "spec"))
        {
            let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
            let taints = spec.entry("taints").or_insert_with(|| json!([]));
            if let Some(list) = taints.as_array_mut() {
                let is = |t: &Value| t["key"] == taint["key"] && t["effect"] == taint["effect"];
                if !list.iter().any(is) {
                    list.push(taint);
                }
            }
        }
        ready(Ok(()))
    }
}
