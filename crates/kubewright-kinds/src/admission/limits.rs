//! `LimitRanger`: fills in the requests and limits that a namespace's LimitRanges say, and refuses what is outside.

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::meta;
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::status::Status;
use serde_json::{Map, Value};

use super::usage::{self, Amounts};
use super::{aggregate, read};
use crate::fields::{at, entries, items, items_mut, member_made, object_mut, text};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct LimitRanger;

fn concerns(attributes: &Attributes<'_>) -> bool {
    // Resources of a pod do not change through updates that come this way.
    (attributes.is("", "pods") && attributes.operation == Operation::Create)
        || attributes.is("", "persistentvolumeclaims")
}

/// Fills the gaps of a pod from one LimitRange; says what was filled.
fn fill(pod: &mut Value, range: &Value) -> Vec<String> {
    let mut requests = Map::new();
    let mut limits = Map::new();
    for item in items(range, &["spec", "limits"]).iter().filter(|i| i["type"] == "Container") {
        for (list, field) in [(&mut requests, "defaultRequest"), (&mut limits, "default")] {
            for (name, value) in entries(item, &[field]) {
                list.insert(name.into(), value.clone());
            }
        }
    }
    let mut filled = Vec::new();
    let Some(spec) = object_mut(pod, &["spec"]) else { return filled };
    for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
        for container in items_mut(spec, list) {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
            let Some(resources) = member_made(container, "resources") else { continue };
            for (field, defaults, what) in [("requests", &requests, "request"), ("limits", &limits, "limit")]
            {
                if defaults.is_empty() {
                    continue;
                }
                let Some(have) = member_made(resources, field) else { continue };
                let mut set = Vec::new();
                for (resource, value) in defaults {
                    if !have.contains_key(resource) {
                        have.insert(resource.clone(), value.clone());
                        set.push(resource.as_str());
                    }
                }
                if have.is_empty() {
                    resources.remove(field);
                } else if !set.is_empty() {
                    filled.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    filled
}

/// A bound of a LimitRange against what is asked for.
struct Bound<'a> {
    kind: &'a str,
    resource: &'a str,
    value: Quantity,
}

impl Bound<'_> {
    fn min(&self, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
        let base = format!("minimum {} usage per {} is {}", self.resource, self.kind, self.value);
        match (request, limit) {
            (None, _) => Some(format!("{base}.  No request is specified")),
            (Some(request), _) if *request < self.value => Some(format!("{base}, but request is {request}")),
            (_, Some(limit)) if *limit < self.value => Some(format!("{base}, but limit is {limit}")),
            _ => None,
        }
    }

    fn max(&self, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
        let base = format!("maximum {} usage per {} is {}", self.resource, self.kind, self.value);
        match (request, limit) {
            (_, None) => Some(format!("{base}.  No limit is specified")),
            (_, Some(limit)) if *limit > self.value => Some(format!("{base}, but limit is {limit}")),
            (Some(request), _) if *request > self.value => Some(format!("{base}, but request is {request}")),
            _ => None,
        }
    }

    fn max_request(&self, request: Option<&Quantity>) -> Option<String> {
        let base = format!("maximum {} usage per {} is {}", self.resource, self.kind, self.value);
        match request {
            None => Some(format!("{base}.  No request is specified")),
            Some(request) if *request > self.value => Some(format!("{base}, but request is {request}")),
            Some(_) => None,
        }
    }

    fn ratio(&self, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
        let base =
            format!("{} max limit to request ratio per {} is {}", self.resource, self.kind, self.value);
        let present = |q: Option<&Quantity>| q.filter(|q| !q.is_zero()).map(Quantity::as_f64);
        let Some(request) = present(request) else {
            return Some(format!("{base}, but no request is specified or request is 0"));
        };
        let Some(limit) = present(limit) else {
            return Some(format!("{base}, but no limit is specified or limit is 0"));
        };
        let ratio = limit / request;
        (ratio > self.value.as_f64()).then(|| format!("{base}, but provided ratio is {ratio:.6}"))
    }
}

fn check_item(item: &Value, requests: &Amounts, limits: &Amounts, reasons: &mut Vec<String>) {
    let kind = text(item, &["type"]);
    type Check = fn(&Bound<'_>, Option<&Quantity>, Option<&Quantity>) -> Option<String>;
    let checks: [(&str, Check); 3] = [
        ("min", |b, r, l| b.min(r, l)),
        ("max", |b, r, l| b.max(r, l)),
        ("maxLimitRequestRatio", |b, r, l| b.ratio(r, l)),
    ];
    for (field, check) in checks {
        for (resource, value) in entries(item, &[field]) {
            let Ok(value) = Quantity::from_value(value) else { continue };
            let bound = Bound { kind, resource, value };
            reasons.extend(check(&bound, requests.get(resource), limits.get(resource)));
        }
    }
}

/// Why a pod is outside a LimitRange.
fn pod_reasons(pod: &Value, range: &Value) -> Vec<String> {
    let mut reasons = Vec::new();
    for item in items(range, &["spec", "limits"]) {
        match text(item, &["type"]) {
            "Container" => {
                for list in ["containers", "initContainers"] {
                    for container in items(pod, &["spec", list]) {
                        let resources = at(container, &["resources"]);
                        let requests = usage::amounts(at(resources, &["requests"]));
                        let limits = usage::amounts(at(resources, &["limits"]));
                        check_item(item, &requests, &limits, &mut reasons);
                    }
                }
            }
            "Pod" => {
                let (requests, limits) = (usage::pod_sum(pod, "requests"), usage::pod_sum(pod, "limits"));
                check_item(item, &requests, &limits, &mut reasons);
            }
            _ => {}
        }
    }
    reasons
}

fn claim_reasons(claim: &Value, range: &Value) -> Vec<String> {
    let requests = usage::amounts(at(claim, &["spec", "resources", "requests"]));
    let mut reasons = Vec::new();
    for item in items(range, &["spec", "limits"]).iter().filter(|i| i["type"] == "PersistentVolumeClaim") {
        for (field, min) in [("min", true), ("max", false)] {
            for (resource, value) in entries(item, &[field]) {
                let Ok(value) = Quantity::from_value(value) else { continue };
                let bound = Bound { kind: "PersistentVolumeClaim", resource, value };
                let request = requests.get(resource);
                reasons.extend(if min { bound.min(request, None) } else { bound.max_request(request) });
            }
        }
    }
    reasons
}

impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if !concerns(attributes) || !attributes.is("", "pods") {
            return ready(Ok(()));
        }
        Box::pin(async move {
            let ranges = read(attributes, "", "limitranges", attributes.namespace).await?;
            let Some(pod) = attributes.object.as_mut() else { return Ok(()) };
            let filled: Vec<String> = ranges.iter().flat_map(|range| fill(pod, range)).collect();
            if !filled.is_empty() {
                let text = format!("LimitRanger plugin set: {}", filled.join("; "));
                meta::set_annotation(pod, "kubernetes.io/limit-ranger", &text);
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if !concerns(attributes) {
            return ready(Ok(()));
        }
        Box::pin(async move {
            let ranges = read(attributes, "", "limitranges", attributes.namespace).await?;
            let Some(object) = attributes.object.as_ref() else { return Ok(()) };
            let is_pod = attributes.is("", "pods");
            for range in &ranges {
                let reasons = if is_pod { pod_reasons(object, range) } else { claim_reasons(object, range) };
                if !reasons.is_empty() {
                    return Err(attributes.forbidden(aggregate(&reasons)));
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn gaps_are_filled_and_named() {
        let range = json!({"spec": {"limits": [{"type": "Container",
            "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m", "memory": "64Mi"}}]}});
        let mut pod =
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}});
        let filled = fill(&mut pod, &range);
        assert_eq!(filled, ["memory request for container c", "cpu limit for container c"]);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "500m"}})
        );
    }

    #[test]
    fn what_is_outside_is_said_with_its_bounds() {
        let range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "50m"},
            "maxLimitRequestRatio": {"cpu": "6"}}]}});
        let pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "500m"}}}]}});
        assert_eq!(
            pod_reasons(&pod, &range),
            [
                "minimum cpu usage per Container is 50m, but request is 10m",
                "cpu max limit to request ratio per Container is 6, but provided ratio is 50.000000"
            ]
        );
    }
}
