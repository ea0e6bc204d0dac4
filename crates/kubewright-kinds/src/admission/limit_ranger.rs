//! LimitRanger: containers get the default limits and requests of their namespace; pods and claims outside of its
//! limits are refused.

use std::cmp::Ordering;

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_machinery::meta;
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::status::Status;
use serde_json::{Map, Value};

use super::amounts::{Amounts, read};
use super::pod_amounts::{Counting, Side, total};
use crate::fields::{at, entries, items, items_mut, member_made, object_mut, text};

/// The plugin `LimitRanger`.
pub struct LimitRanger;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Whether limits hold for this write: a new pod, a resized pod, a claim, and none that is going away.
fn concerns(a: &Attributes<'_>) -> bool {
    if !a.resource.group.is_empty() || a.old.as_ref().is_some_and(|o| meta::is_deleting(o)) {
        return false;
    }
    matches!(
        (&*a.resource.plural, a.subresource_name(), a.operation),
        ("pods", "", Operation::Create)
            | ("pods", "resize", Operation::Update)
            | ("persistentvolumeclaims", "", Operation::Create | Operation::Update)
    )
}

impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !concerns(attributes) || &*attributes.resource.plural != "pods" {
                return Ok(());
            }
            let ranges = super::list(attributes, "", "limitranges", attributes.namespace).await?;
            if let Some(pod) = &mut attributes.object {
                ranges.iter().for_each(|range| set_defaults(range, pod));
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !concerns(attributes) {
                return Ok(());
            }
            let ranges = super::list(attributes, "", "limitranges", attributes.namespace).await?;
            let Some(object) = &attributes.object else { return Ok(()) };
            for range in &ranges {
                let faults = match &*attributes.resource.plural {
                    "pods" => pod_faults(range, object),
                    _ => claim_faults(range, object),
                };
                if let Some(why) = super::together(faults) {
                    return Err(attributes.forbidden(why));
                }
            }
            Ok(())
        })
    }
}

/// The limits of a range that are for `kind`.
fn limits_for<'v>(range: &'v Value, kind: &'static str) -> impl Iterator<Item = &'v Value> {
    items(range, &["spec", "limits"]).iter().filter(move |limit| text(limit, &["type"]) == kind)
}

/// Fills in what containers leave open, and says so in an annotation.
fn set_defaults(range: &Value, pod: &mut Value) {
    let gathered = |field: &str| -> Map<String, Value> {
        let all = limits_for(range, "Container");
        all.flat_map(|limit| entries(limit, &[field])).map(|(k, v)| (k.to_string(), v.clone())).collect()
    };
    let (requests, limits) = (gathered("defaultRequest"), gathered("default"));
    let mut said = Vec::new();
    let Some(spec) = object_mut(pod, &["spec"]) else { return };
    for (list, title) in [("containers", "container"), ("initContainers", "init container")] {
        for container in items_mut(spec, list) {
            for (field, defaults, noun) in [("requests", &requests, "request"), ("limits", &limits, "limit")]
            {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
                    said.push(format!("{} {noun} for {title} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        meta::set_annotation(pod, ANNOTATION, &format!("LimitRanger plugin set: {}", said.join("; ")));
    }
}

/// Sets the defaults that are not there; gives their names.
fn fill<'d>(
    container: &mut Map<String, Value>,
    field: &str,
    defaults: &'d Map<String, Value>,
) -> Vec<&'d str> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let Some(amounts) = member_made(container, "resources").and_then(|r| member_made(r, field)) else {
        return Vec::new();
    };
    let open: Vec<_> = defaults.iter().filter(|(name, _)| !amounts.contains_key(*name)).collect();
    amounts.extend(open.iter().map(|(name, value)| ((*name).clone(), (*value).clone())));
    open.into_iter().map(|(name, _)| name.as_str()).collect()
}

/// One entry of a limit range, and what it is held against.
struct Check<'v> {
    kind: &'static str,
    limit: &'v Value,
    requests: Amounts,
    limits: Amounts,
}

fn bounds(limit: &Value, field: &str) -> Amounts {
    read(at(limit, &[field]))
}

impl Check<'_> {
    fn faults(&self) -> impl Iterator<Item = String> {
        let kind = self.kind;
        let pair = |name: &str| (self.requests.get(name), self.limits.get(name));
        let mut faults = Vec::new();
        for (name, least) in bounds(self.limit, "min") {
            let start = format!("minimum {name} usage per {kind} is {least}");
            match pair(&name) {
                (None, _) => faults.push(format!("{start}.  No request is specified")),
                (Some(r), _) if *r < least => faults.push(format!("{start}, but request is {r}")),
                (_, Some(l)) if *l < least => faults.push(format!("{start}, but limit is {l}")),
                _ => {}
            }
        }
        for (name, most) in bounds(self.limit, "max") {
            let start = format!("maximum {name} usage per {kind} is {most}");
            match pair(&name) {
                (_, None) => faults.push(format!("{start}.  No limit is specified")),
                (_, Some(l)) if *l > most => faults.push(format!("{start}, but limit is {l}")),
                (Some(r), _) if *r > most => faults.push(format!("{start}, but request is {r}")),
                _ => {}
            }
        }
        for (name, most) in bounds(self.limit, "maxLimitRequestRatio") {
            let start = format!("{name} max limit to request ratio per {kind} is {most}");
            let (request, limit) = pair(&name);
            let set = |q: Option<&Quantity>| q.filter(|q| !q.is_zero()).map(Quantity::as_f64);
            match (set(request), set(limit)) {
                (None, _) => faults.push(format!("{start}, but no request is specified or request is 0")),
                (_, None) => faults.push(format!("{start}, but no limit is specified or limit is 0")),
                (Some(request), Some(limit)) => {
                    let ratio = limit / request;
                    // In thousandths, as quantities are compared.
                    let over = (ratio * 1000.0).partial_cmp(&(most.milli_value() as f64));
                    if over == Some(Ordering::Greater) {
                        faults.push(format!("{start}, but provided ratio is {ratio:.6}"));
                    }
                }
            }
        }
        faults.into_iter()
    }
}

fn pod_faults(range: &Value, pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for limit in items(range, &["spec", "limits"]) {
        match text(limit, &["type"]) {
            "Container" => {
                let all = items(pod, &["spec", "containers"]).iter();
                for container in all.chain(items(pod, &["spec", "initContainers"])) {
                    let requests = read(at(container, &["resources", "requests"]));
                    let limits = read(at(container, &["resources", "limits"]));
                    faults.extend(Check { kind: "Container", limit, requests, limits }.faults());
                }
            }
            "Pod" => {
                // What the runtime takes is not the pod's to limit.
                let counting = Counting { overhead: false, status: true };
                let requests = total(pod, Side::Requests, counting);
                let limits = total(pod, Side::Limits, counting);
                faults.extend(Check { kind: "Pod", limit, requests, limits }.faults());
            }
            _ => {}
        }
    }
    faults
}

/// Of claims only the request is looked at.
fn claim_faults(range: &Value, claim: &Value) -> Vec<String> {
    let requests = read(at(claim, &["spec", "resources", "requests"]));
    let kind = "PersistentVolumeClaim";
    let mut faults = Vec::new();
    for limit in limits_for(range, kind) {
        for (name, least) in bounds(limit, "min") {
            let start = format!("minimum {name} usage per {kind} is {least}");
            match requests.get(&name) {
                None => faults.push(format!("{start}.  No request is specified")),
                Some(r) if *r < least => faults.push(format!("{start}, but request is {r}")),
                Some(_) => {}
            }
        }
        for (name, most) in bounds(limit, "max") {
            let start = format!("maximum {name} usage per {kind} is {most}");
            match requests.get(&name) {
                None => faults.push(format!("{start}.  No request is specified")),
                Some(r) if *r > most => faults.push(format!("{start}, but request is {r}")),
                Some(_) => {}
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(limits: Value) -> Value {
        json!({"spec": {"limits": limits}})
    }

    #[test]
    fn containers_get_what_they_leave_open_and_the_annotation_names_it() {
        let range = range(json!([
            {"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}},
            {"type": "Pod", "max": {"cpu": "9"}},
        ]));
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "i", "resources": {"limits": {"memory": "1Mi", "cpu": "1"}}}],
        }});
        set_defaults(&range, &mut pod);
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; memory limit \
             for container b; cpu request for init container i"
        );
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"], json!({"cpu": "1", "memory": "1Gi"}));
    }

    #[test]
    fn a_range_without_defaults_leaves_pods_alone() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        let before = pod.clone();
        set_defaults(&range(json!([{"type": "Container", "max": {"cpu": "1"}}])), &mut pod);
        assert_eq!(pod, before);
    }

    #[test]
    fn what_is_absent_is_said_to_be_so() {
        let range = range(json!([{"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"},
            "maxLimitRequestRatio": {"cpu": "1500m"}}]));
        let pod = |resources: Value| json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
        assert_eq!(
            pod_faults(&range, &pod(json!({}))),
            [
                "minimum cpu usage per Container is 1.  No request is specified",
                "maximum cpu usage per Container is 2.  No limit is specified",
                "cpu max limit to request ratio per Container is 1500m, but no request is specified or request is 0",
            ]
        );
        let wide = pod(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1600m"}}));
        assert_eq!(
            pod_faults(&range, &wide),
            ["cpu max limit to request ratio per Container is 1500m, but provided ratio is 1.600000"]
        );
        assert!(
            pod_faults(&range, &pod(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1500m"}})))
                .is_empty()
        );
    }
}
