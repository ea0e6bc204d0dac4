//! RuntimeClass: pods get overhead, node selector and tolerations of the class that runs them.

use std::sync::Arc;

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_machinery::field::quote;
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::amounts::read;
use super::tolerations;
use crate::fields::{at, entries, items, member_made, object_mut};

/// The plugin `RuntimeClass`.
pub struct RuntimeClass;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// The class that a pod names.
async fn class_of(attributes: &Attributes<'_>) -> Result<Option<Arc<Value>>, Status> {
    let pod = attributes.object.as_ref().unwrap_or(&Value::Null);
    let Some(name) = at(pod, &["spec", "runtimeClassName"]).as_str() else { return Ok(None) };
    let class = super::get(attributes, "node.k8s.io", "runtimeclasses", name).await?;
    let missing = || attributes.forbidden(format!("pod rejected: RuntimeClass {} not found", quote(name)));
    class.map(Some).ok_or_else(missing)
}

/// Puts what the class says into the pod, or says what stands against it.
fn settle(pod: &mut Value, class: &Value) -> Result<(), String> {
    let Some(spec) = object_mut(pod, &["spec"]) else { return Ok(()) };
    if let Value::Object(overhead) = &class["overhead"] {
        let fixed = overhead.get("podFixed").unwrap_or(&Value::Null);
        if let Some(given) = spec.get("overhead").filter(|o| o.is_object())
            && read(given) != read(fixed)
        {
            return Err(MISMATCH.into());
        }
        match fixed {
            Value::Object(fixed) if !fixed.is_empty() => {
                spec.insert("overhead".into(), Value::Object(fixed.clone()));
            }
            _ => {}
        }
    }
    if !class["scheduling"].is_object() {
        return Ok(());
    }
    let wanted: Vec<_> = entries(class, &["scheduling", "nodeSelector"]).collect();
    if !wanted.is_empty()
        && let Some(selector) = member_made(spec, "nodeSelector")
    {
        for (key, value) in wanted {
            let value = value.as_str().unwrap_or_default();
            if let Some(given) = selector.get(key).and_then(Value::as_str).filter(|g| *g != value) {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = \
                     {given}"
                ));
            }
            selector.insert(key.into(), value.into());
        }
    }
    let own = spec.get("tolerations").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let merged = tolerations::merge(own, items(class, &["scheduling", "tolerations"]));
    if !merged.is_empty() {
        spec.insert("tolerations".into(), merged.into());
    }
    Ok(())
}

/// What is wrong with the overhead about to be stored.
fn overhead_fault(pod: &Value, class: Option<&Value>) -> Option<&'static str> {
    let given = at(pod, &["spec", "overhead"]);
    match class.map(|c| &c["overhead"]).filter(|o| o.is_object()) {
        Some(overhead) => (read(&overhead["podFixed"]) != read(given)).then_some(MISMATCH),
        None => given
            .is_object()
            .then_some("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
    }
}

impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !attributes.is("", "pods") {
                return Ok(());
            }
            let Some(class) = class_of(attributes).await? else { return Ok(()) };
            let Some(pod) = &mut attributes.object else { return Ok(()) };
            settle(pod, &class).map_err(|why| attributes.forbidden(why))
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !attributes.is("", "pods") {
                return Ok(());
            }
            let class = class_of(attributes).await?;
            let pod = attributes.object.as_ref().unwrap_or(&Value::Null);
            match overhead_fault(pod, class.as_deref()) {
                Some(why) => Err(attributes.forbidden(why)),
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
    fn equal_amounts_written_differently_are_no_mismatch() {
        let class = json!({"overhead": {"podFixed": {"cpu": "1"}}});
        let mut pod = json!({"spec": {"overhead": {"cpu": "1000m"}}});
        settle(&mut pod, &class).unwrap();
        assert_eq!(overhead_fault(&pod, Some(&class)), None);
        assert!(overhead_fault(&pod, None).unwrap().contains("without corresponding RuntimeClass"));
    }
}
