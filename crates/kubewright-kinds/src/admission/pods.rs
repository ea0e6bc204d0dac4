//! Plugins that complete pods: priorities, tolerations of short node failures, runtime classes.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::ready;
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use serde_json::{Map, Value, json};

use super::{object, read};
use crate::fields::{absent, at, entries, flag, int, items, member_made, same, text};

fn spec_mut<'a>(attributes: &'a mut Attributes<'_>) -> Option<&'a mut Map<String, Value>> {
    object(attributes).and_then(|pod| member_made(pod, "spec"))
}

/// `Priority`: a pod's priority and preemption policy are those of its class.
#[derive(Clone, Copy, Debug)]
pub struct Priority;

impl Priority {
    async fn pod(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.operation == Operation::Update {
            // What was computed once is filled in again where the writer left it out.
            let Some(old) = attributes.old.clone() else { return Ok(()) };
            let Some(spec) = spec_mut(attributes) else { return Ok(()) };
            for name in ["priority", "preemptionPolicy"] {
                let before = at(&old, &["spec", name]);
                if !before.is_null() {
                    absent(spec, name, before.clone());
                }
            }
            return Ok(());
        }
        let Some(pod) = attributes.object.as_ref() else { return Ok(()) };
        let name = text(pod, &["spec", "priorityClassName"]).to_string();
        let classes = read(attributes, "scheduling.k8s.io", "priorityclasses", "").await?;
        let class = if name.is_empty() {
            // Of several defaults the lowest counts.
            let defaults = classes.iter().filter(|c| flag(c, &["globalDefault"]));
            defaults.min_by_key(|c| int(c, &["value"]).unwrap_or_default())
        } else {
            let class = classes.iter().find(|c| meta::name(c) == name);
            if class.is_none() {
                return Err(attributes.forbidden(format!("no PriorityClass with name {name} was found")));
            }
            class
        };
        let priority = class.map_or(0, |c| int(c, &["value"]).unwrap_or_default());
        let policy = class.map_or("", |c| text(c, &["preemptionPolicy"]));
        let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
        if let Some(stated) = int(pod, &["spec", "priority"])
            && stated != priority
        {
            return Err(attributes.forbidden(format!(
                "the integer value of priority ({stated}) must not be provided in pod spec; priority admission \
                 controller computed {priority} from the given PriorityClass name"
            )));
        }
        let stated = text(pod, &["spec", "preemptionPolicy"]);
        if !stated.is_empty() && stated != policy {
            return Err(attributes.forbidden(format!(
                "the string value of PreemptionPolicy ({stated}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            )));
        }
        let class_name = class.map(|c| meta::name(c).to_string());
        let policy = policy.to_string();
        if let Some(spec) = spec_mut(attributes) {
            if let Some(name) = class_name {
                spec.insert("priorityClassName".into(), name.into());
            }
            spec.insert("priority".into(), priority.into());
            spec.insert("preemptionPolicy".into(), policy.into());
        }
        Ok(())
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
        if attributes.is("", "pods") { Box::pin(self.pod(attributes)) } else { ready(Ok(())) }
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(class) = attributes.object.as_ref() else { return Ok(()) };
            if !attributes.is("scheduling.k8s.io", "priorityclasses") || !flag(class, &["globalDefault"]) {
                return Ok(());
            }
            let classes = read(attributes, "scheduling.k8s.io", "priorityclasses", "").await?;
            let own = meta::name(class);
            match classes.iter().find(|c| flag(c, &["globalDefault"]) && meta::name(c) != own) {
                Some(other) => Err(attributes.forbidden(format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    meta::name(other)
                ))),
                None => Ok(()),
            }
        })
    }
}

/// `DefaultTolerationSeconds`: pods stay five minutes on a node that fails, unless they say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct DefaultTolerationSeconds;

impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if attributes.is("", "pods")
            && let Some(spec) = spec_mut(attributes)
        {
            let list = spec.entry("tolerations").or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                let missing: Vec<&str> = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
                    .into_iter()
                    .filter(|key| {
                        !list.iter().any(|t| {
                            (text(t, &["key"]) == *key || text(t, &["key"]).is_empty())
                                && matches!(text(t, &["effect"]), "NoExecute" | "")
                        })
                    })
                    .collect();
                list.extend(missing.into_iter().map(|key| {
                    json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
                }));
            }
        }
        ready(Ok(()))
    }
}

/// `RuntimeClass`: a pod takes overhead, node selector and tolerations of its runtime class (KEP-688).
#[derive(Clone, Copy, Debug)]
pub struct RuntimeClass;

impl RuntimeClass {
    async fn class(&self, attributes: &Attributes<'_>) -> Result<Option<std::sync::Arc<Value>>, Status> {
        let name = attributes.object.as_ref().map_or("", |pod| text(pod, &["spec", "runtimeClassName"]));
        if name.is_empty() {
            return Ok(None);
        }
        let class = attributes.core.reader().get("node.k8s.io", "runtimeclasses", "", name).await;
        match class.map_err(Status::internal)? {
            Some(class) => Ok(Some(class)),
            None => Err(attributes.forbidden(format!("pod rejected: RuntimeClass \"{name}\" not found"))),
        }
    }

    async fn complete(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(class) = self.class(attributes).await? else { return Ok(()) };
        let Some(pod) = attributes.object.as_ref() else { return Ok(()) };
        let overhead = at(&class, &["overhead", "podFixed"]);
        let stated = at(pod, &["spec", "overhead"]);
        if !overhead.is_null() && !stated.is_null() && !same(stated, overhead) {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(attributes.forbidden(why));
        }
        for (key, value) in entries(&class, &["scheduling", "nodeSelector"]) {
            let own = at(pod, &["spec", "nodeSelector", key]);
            if !own.is_null() && own != value {
                return Err(attributes.forbidden(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    value.as_str().unwrap_or_default(),
                    own.as_str().unwrap_or_default()
                )));
            }
        }
        let Some(spec) = spec_mut(attributes) else { return Ok(()) };
        if !overhead.is_null() {
            spec.insert("overhead".into(), overhead.clone());
        }
        let wanted: Vec<(String, Value)> = entries(&class, &["scheduling", "nodeSelector"])
            .map(|(k, v)| (k.to_string(), v.clone()))
            .collect();
        if !wanted.is_empty()
            && let Some(selector) = member_made(spec, "nodeSelector")
        {
            selector.extend(wanted);
        }
        let tolerations = items(&class, &["scheduling", "tolerations"]);
        if !tolerations.is_empty() {
            let list = spec.entry("tolerations").or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                for toleration in tolerations {
                    if !list.contains(toleration) {
                        list.push(toleration.clone());
                    }
                }
            }
        }
        Ok(())
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
        if attributes.is("", "pods") { Box::pin(self.complete(attributes)) } else { ready(Ok(())) }
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !attributes.is("", "pods") {
                return Ok(());
            }
            let class = self.class(attributes).await?;
            let defined = class.as_ref().is_some_and(|c| !at(c, &["overhead"]).is_null());
            let has = attributes.object.as_ref().is_some_and(|pod| !at(pod, &["spec", "overhead"]).is_null());
            if has && !defined {
                let why =
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                return Err(attributes.forbidden(why));
            }
            Ok(())
        })
    }
}
