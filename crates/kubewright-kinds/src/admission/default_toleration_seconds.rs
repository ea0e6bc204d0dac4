//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or unreachable, unless they say
//! otherwise.

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use crate::fields::{items, object_mut, text};

/// The plugin `DefaultTolerationSeconds`.
pub struct DefaultTolerationSeconds {
    /// Seconds on a node that is not ready.
    pub not_ready: i64,
    /// Seconds on a node that does not answer.
    pub unreachable: i64,
}

impl Default for DefaultTolerationSeconds {
    fn default() -> Self {
        Self { not_ready: 300, unreachable: 300 }
    }
}

impl DefaultTolerationSeconds {
    fn add(&self, pod: &mut Value) {
        for (key, seconds) in [
            ("node.kubernetes.io/not-ready", self.not_ready),
            ("node.kubernetes.io/unreachable", self.unreachable),
        ] {
            let said = items(pod, &["spec", "tolerations"]).iter().any(|t| {
                let (of_key, of_effect) = (text(t, &["key"]), text(t, &["effect"]));
                (of_key == key || of_key.is_empty()) && matches!(of_effect, "NoExecute" | "")
            });
            if said {
                continue;
            }
            let Some(spec) = object_mut(pod, &["spec"]) else { return };
            let list = spec.entry("tolerations").or_insert(Value::Null);
            if list.is_null() {
                *list = json!([]);
            }
            if let Some(list) = list.as_array_mut() {
                list.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
                }));
            }
        }
    }
}

impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if attributes.is("", "pods")
            && let Some(pod) = &mut attributes.object
        {
            self.add(pod);
        }
        ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toleration_of_everything_is_enough() {
        let plugin = DefaultTolerationSeconds::default();
        let mut pod = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        let before = pod.clone();
        plugin.add(&mut pod);
        assert_eq!(pod, before);
        let mut pod = json!({"spec": {"tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}]}});
        plugin.add(&mut pod);
        assert_eq!(items(&pod, &["spec", "tolerations"]).len(), 3);
    }
}
