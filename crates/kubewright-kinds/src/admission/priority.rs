//! Priority: pods get the number and preemption policy of their PriorityClass; one class at most is the default.

use std::sync::Arc;

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use serde_json::Value;

use crate::fields::{flag, int, object_mut, text};

/// The plugin `Priority`.
pub struct Priority;

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";

/// The class marked as default; of several, the one with the lowest value.
fn default_class(classes: &[Arc<Value>]) -> Option<&Value> {
    let marked = classes.iter().map(|c| &**c).filter(|c| flag(c, &["globalDefault"]));
    marked.min_by_key(|c| int(c, &["value"]).unwrap_or_default())
}

/// Puts what a class says into a pod; gives the reason where the pod says otherwise. `class` none: no class, no default.
fn resolve(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    const FROM: &str = "priority admission controller computed";
    let priority = class.and_then(|c| int(c, &["value"])).unwrap_or_default();
    let policy = match class {
        Some(class) => text(class, &["preemptionPolicy"]),
        None => "PreemptLowerPriority",
    };
    let Some(spec) = object_mut(pod, &["spec"]) else { return Ok(()) };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|p| *p != priority) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; {FROM} {priority} from the \
             given PriorityClass name"
        ));
    }
    spec.insert("priority".into(), priority.into());
    if policy.is_empty() {
        return Ok(());
    }
    if let Some(given) = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|p| *p != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; {FROM} {policy} from \
             the given PriorityClass name"
        ));
    }
    spec.insert("preemptionPolicy".into(), policy.into());
    Ok(())
}

impl Priority {
    async fn admit_new(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = &attributes.object else { return Ok(()) };
        let name = text(pod, &["spec", "priorityClassName"]);
        let (class, named) = if name.is_empty() {
            let classes = super::list(attributes, GROUP, PLURAL, "").await?;
            (default_class(&classes).map(|c| Arc::new(c.clone())), false)
        } else {
            let class = super::get(attributes, GROUP, PLURAL, name).await?;
            let missing = || attributes.forbidden(format!("no PriorityClass with name {name} was found"));
            (Some(class.ok_or_else(missing)?), true)
        };
        let Some(pod) = &mut attributes.object else { return Ok(()) };
        if let (Some(class), false, Some(spec)) = (&class, named, object_mut(pod, &["spec"])) {
            spec.insert("priorityClassName".into(), meta::name(class).into());
        }
        resolve(pod, class.as_deref()).map_err(|why| attributes.forbidden(why))
    }
}

/// An update that leaves the computed fields out keeps them.
fn keep(pod: &mut Value, old: &Value) {
    let Some(spec) = object_mut(pod, &["spec"]) else { return };
    for field in ["priority", "preemptionPolicy"] {
        if let Some(value) = old["spec"].get(field)
            && spec.get(field).is_none_or(Value::is_null)
        {
            spec.insert(field.into(), value.clone());
        }
    }
}

impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !attributes.is("", "pods") {
                return Ok(());
            }
            if attributes.operation == Operation::Create {
                return self.admit_new(attributes).await;
            }
            if let (Some(pod), Some(old)) = (&mut attributes.object, &attributes.old) {
                keep(pod, old);
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !attributes.is(GROUP, PLURAL) {
                return Ok(());
            }
            let Some(class) = attributes.object.as_ref().filter(|c| flag(c, &["globalDefault"])) else {
                return Ok(());
            };
            let classes = super::list(attributes, GROUP, PLURAL, "").await?;
            let Some(default) = default_class(&classes).map(meta::name) else { return Ok(()) };
            if attributes.operation == Operation::Create || default != meta::name(class) {
                return Err(attributes.forbidden(format!(
                    "PriorityClass {default} is already marked as default. Only one default can exist"
                )));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_takes_number_and_policy_of_its_class() {
        let class = json!({"value": 7, "preemptionPolicy": "Never"});
        let mut pod = json!({"spec": {}});
        resolve(&mut pod, Some(&class)).unwrap();
        assert_eq!(pod["spec"], json!({"priority": 7, "preemptionPolicy": "Never"}));
        resolve(&mut pod, Some(&class)).unwrap();
        let refused = resolve(&mut pod, None).unwrap_err();
        assert!(refused.starts_with("the integer value of priority (7) must not be provided"), "{refused}");
        let mut pod = json!({"spec": {"preemptionPolicy": "Never"}});
        assert!(resolve(&mut pod, None).unwrap_err().contains("(Never)"));
    }

    #[test]
    fn of_several_defaults_the_lowest_counts() {
        let class = |value: i64, default: bool| Arc::new(json!({"value": value, "globalDefault": default}));
        let classes = [class(5, true), class(3, true), class(1, false)];
        assert_eq!(default_class(&classes).unwrap()["value"], 3);
    }
}
