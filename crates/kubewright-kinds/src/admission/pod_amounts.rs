//! What a pod asks for as a whole: its containers, init containers, sidecars, pod-level resources, overhead and what a
//! resize in progress has allocated. Pure; shared by limits and quotas.

use serde_json::Value;

use super::amounts::{Amounts, add, raise, read};
use crate::fields::{at, entries, items, text};

/// Which half of `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// What is set aside.
    Requests,
    /// What may be used.
    Limits,
}

impl Side {
    fn field(self) -> &'static str {
        match self {
            Side::Requests => "requests",
            Side::Limits => "limits",
        }
    }
}

/// What counts besides what the containers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counting {
    /// What the pod's runtime takes.
    pub(crate) overhead: bool,
    /// What containers have, while they may be resized.
    pub(crate) status: bool,
}

impl Counting {
    /// Everything.
    pub(crate) const ALL: Self = Self { overhead: true, status: true };
}

/// Whether a resource can be asked for by the pod instead of its containers.
fn at_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether the pod itself asks for resources.
pub(crate) fn has_pod_level(pod: &Value) -> bool {
    [Side::Requests, Side::Limits]
        .into_iter()
        .any(|side| entries(pod, &["spec", "resources", side.field()]).any(|(name, _)| at_pod_level(name)))
}

/// The total of one side.
pub(crate) fn total(pod: &Value, side: Side, counting: Counting) -> Amounts {
    let asked = |container: &Value| read(at(container, &["resources", side.field()]));
    let of = |container: &Value, statuses: &str| match counting.status {
        true => with_status(pod, container, asked(container), statuses, side),
        false => asked(container),
    };
    let mut sum = Amounts::new();
    for container in items(pod, &["spec", "containers"]) {
        add(&mut sum, &of(container, "containerStatuses"));
    }
    // Init containers run one after the other, beside the sidecars that started before them.
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in items(pod, &["spec", "initContainers"]) {
        if text(container, &["restartPolicy"]) == "Always" {
            let own = of(container, "initContainerStatuses");
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut most, &sidecars);
        } else {
            let mut own = asked(container);
            add(&mut own, &sidecars);
            raise(&mut most, &own);
        }
    }
    raise(&mut sum, &most);
    if has_pod_level(pod) {
        let of_pod = read(at(pod, &["spec", "resources", side.field()]));
        sum.extend(of_pod.into_iter().filter(|(name, _)| at_pod_level(name)));
    }
    if counting.overhead {
        let mut more = read(at(pod, &["spec", "overhead"]));
        if side == Side::Limits {
            // Where there is no limit there is nothing to raise.
            more.retain(|name, _| sum.get(name).is_some_and(|limit| !limit.is_zero()));
        }
        add(&mut sum, &more);
    }
    sum
}

/// What counts for a container while it may be resized: the most of what it asks for and what it has.
fn with_status(pod: &Value, container: &Value, mut asked: Amounts, statuses: &str, side: Side) -> Amounts {
    let name = text(container, &["name"]);
    let status = items(pod, &["status", statuses]).iter().find(|s| text(s, &["name"]) == name);
    let Some(status) = status.filter(|s| s.get("resources").is_some_and(Value::is_object)) else {
        return asked;
    };
    let infeasible = items(pod, &["status", "conditions"])
        .iter()
        .any(|c| c["type"] == "PodResizePending" && c["reason"] == "Infeasible");
    let actual = read(at(status, &["resources", side.field()]));
    if infeasible {
        asked = actual;
    } else {
        raise(&mut asked, &actual);
    }
    if side == Side::Requests {
        raise(&mut asked, &read(at(status, &["allocatedResources"])));
    }
    asked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::amounts::listed;

    const PLAIN: Counting = Counting { overhead: false, status: true };

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    fn sidecar(name: &str, cpu: &str) -> Value {
        let mut container = container(name, cpu);
        container["restartPolicy"] = json!("Always");
        container
    }

    #[test]
    fn init_containers_raise_the_sum_and_sidecars_add_to_it() {
        let pod = json!({"spec": {
            "containers": [container("a", "1"), container("b", "1")],
            "initContainers": [container("i", "2500m"), sidecar("s", "500m"), container("j", "2100m")],
        }});
        assert_eq!(listed(&total(&pod, Side::Requests, PLAIN)), "cpu=2600m");
    }

    #[test]
    fn the_pod_s_own_resources_replace_the_sum_and_overhead_comes_on_top() {
        let pod = json!({"spec": {
            "containers": [container("a", "1")],
            "resources": {"requests": {"cpu": "3"}},
            "overhead": {"cpu": "250m", "memory": "1Mi"},
        }});
        assert_eq!(listed(&total(&pod, Side::Requests, Counting::ALL)), "cpu=3250m,memory=1Mi");
        assert_eq!(listed(&total(&pod, Side::Limits, Counting::ALL)), "cpu=1250m");
    }

    #[test]
    fn a_container_being_resized_counts_with_the_most_it_has_or_asks_for() {
        let mut pod = json!({
            "spec": {"containers": [container("a", "1")]},
            "status": {"containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": "2"}}}]},
        });
        assert_eq!(listed(&total(&pod, Side::Requests, PLAIN)), "cpu=2");
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("9");
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(listed(&total(&pod, Side::Requests, PLAIN)), "cpu=2");
    }
}
