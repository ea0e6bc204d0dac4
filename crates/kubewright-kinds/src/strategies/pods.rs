//! What pods do with writes: creation, deletion, binding's conditions, resize and ephemeral containers.

use kubewright_machinery::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::{Row, gates};
use crate::defaults::pod as defaults;
use crate::fields::{absent, at, entries, int, items, items_mut, member_made, object_mut, text, zero};
use crate::warnings;

pub(crate) const POD: Row = Row {
    default,
    warnings: warnings::pod,
    status_warnings: warnings::pod_status,
    prepare_create: |cx, pod| {
        let class = qos_class(&pod["spec"]);
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if !items(pod, &["spec", "schedulingGates"]).is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": super::core::now(cx),
            }]);
        }
        if let Some(pod) = pod.as_object_mut() {
            pod.insert("status".into(), status);
        }
        gates::pod_spec(pod, None, &["spec"]);
        match_label_keys(pod);
    },
    prepare_update: |_, pod, old| gates::pod_spec(pod, Some(old), &["spec"]),
    settle: app_armor_fields,
    prepare_status: |_, pod, old| {
        // Owners and a deletion are not the status writer's; a class once given stays.
        if let Some(metadata) = object_mut(pod, &["metadata"]) {
            for name in ["ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds"] {
                match at(old, &["metadata", name]) {
                    Value::Null => metadata.remove(name),
                    value => metadata.insert(name.into(), value.clone()),
                };
            }
        }
        if let Some(status) = object_mut(pod, &["status"])
            && let Value::String(class) = at(old, &["status", "qosClass"])
        {
            absent(status, "qosClass", class.as_str());
        }
        keep_observed_generations(pod, old);
    },
    fields: &[
        "spec.nodeName",
        "spec.host",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    field: |pod, field| match field {
        // What spec.nodeName was called long ago.
        "spec.host" => Some(text(pod, &["spec", "nodeName"]).to_string()),
        "spec.hostNetwork" => {
            Some(at(pod, &["spec", "hostNetwork"]).as_bool().unwrap_or_default().to_string())
        }
        "status.podIPs" => Some(text(pod, &["status", "podIP"]).to_string()),
        _ => None,
    },
    grace_period: |pod, requested| {
        let finished = matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
        if text(pod, &["spec", "nodeName"]).is_empty() || finished {
            return Some(0);
        }
        let stated = requested.or_else(|| int(pod, &["spec", "terminationGracePeriodSeconds"])).unwrap_or(30);
        // A negative period means "soon", never "at once".
        Some(if stated < 0 { 1 } else { stated })
    },
    ..Row::PLAIN
};

/// What a status observed of the spec is not forgotten by writers that do not know the field: neither that of the
/// status, nor those of its conditions, told apart by type and order.
fn keep_observed_generations(pod: &mut Value, old: &Value) {
    const FIELD: &str = "observedGeneration";
    let mut before: Vec<(&Value, Option<i64>)> = items(old, &["status", "conditions"])
        .iter()
        .map(|condition| (at(condition, &["type"]), int(condition, &[FIELD])))
        .collect();
    let Some(status) = object_mut(pod, &["status"]) else { return };
    if let Some(observed) = int(old, &["status", FIELD]) {
        zero(status, FIELD, observed);
    }
    for condition in items_mut(status, "conditions") {
        let kind = condition.get("type").unwrap_or(&Value::Null);
        let Some(i) = before.iter().position(|(other, _)| *other == kind) else { continue };
        if let (_, Some(observed)) = before.remove(i) {
            zero(condition, FIELD, observed);
        }
    }
}

/// Old annotations about AppArmor become fields, where the pod's own profile does not say the same.
fn app_armor_fields(pod: &mut Value) {
    if text(pod, &["spec", "os", "name"]) == "windows" {
        return;
    }
    for list in ["initContainers", "containers"] {
        for i in 0..items(pod, &["spec", list]).len() {
            let container = &items(pod, &["spec", list])[i];
            let found = warnings::app_armor_annotation(pod, container);
            let profile = found.and_then(|(_, annotation)| warnings::app_armor_profile(annotation));
            let of_pod = at(pod, &["spec", "securityContext", "appArmorProfile"]);
            if let Some(profile) = profile.filter(|profile| profile != of_pod)
                && let Some(container) =
                    object_mut(pod, &["spec"]).and_then(|spec| items_mut(spec, list).nth(i))
                && let Some(context) = member_made(container, "securityContext")
            {
                context.insert("appArmorProfile".into(), profile);
            }
        }
    }
}

fn default(pod: &mut Value) {
    defaults::pod(pod);
    if let Some(status) = object_mut(pod, &["status"]) {
        first_of(status, "podIP", "podIPs", |ip| json!({ "ip": ip }), |item| item["ip"].clone());
    }
}

/// Keeps an old single field equal to the first item of the list that replaced it; the single field wins.
pub(crate) fn first_of(
    owner: &mut Map<String, Value>,
    single: &str,
    list: &str,
    wrap: fn(Value) -> Value,
    unwrap: fn(Value) -> Value,
) {
    let one = owner.get(single).filter(|v| v.as_str().is_some_and(|s| !s.is_empty())).cloned();
    let first = owner.get(list).and_then(Value::as_array).and_then(|l| l.first()).cloned().map(unwrap);
    match (one, first) {
        (Some(one), first) if first.as_ref() != Some(&one) => {
            owner.insert(list.into(), Value::Array(vec![wrap(one)]));
        }
        (None, Some(first)) => {
            owner.insert(single.into(), first);
        }
        _ => {}
    }
}

/// Label keys of affinity terms and spread constraints become requirements on the pod's own values (KEP-3633,
/// KEP-3243).
fn match_label_keys(pod: &mut Value) {
    let labels = at(pod, &["metadata", "labels"]).as_object().cloned().unwrap_or_default();
    let apply = |term: &mut Map<String, Value>| {
        for (name, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let Some(Value::Array(keys)) = term.get(name).cloned() else { continue };
            let Some(Value::Object(selector)) = term.get_mut("labelSelector") else { continue };
            for key in keys.iter().filter_map(Value::as_str) {
                let Some(value) = labels.get(key) else { continue };
                let expression = json!({"key": key, "operator": operator, "values": [value]});
                if let Some(list) =
                    selector.entry("matchExpressions").or_insert_with(|| json!([])).as_array_mut()
                {
                    list.push(expression);
                }
            }
        }
    };
    let Some(spec) = object_mut(pod, &["spec"]) else { return };
    items_mut(spec, "topologySpreadConstraints").for_each(apply);
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|a| a.get_mut(kind)) else { continue };
        let required = affinity.get_mut("requiredDuringSchedulingIgnoredDuringExecution");
        for term in required.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(term) = term.as_object_mut() {
                apply(term);
            }
        }
        let preferred = affinity.get_mut("preferredDuringSchedulingIgnoredDuringExecution");
        for weighted in preferred.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(term) = weighted.get_mut("podAffinityTerm").and_then(Value::as_object_mut) {
                apply(term);
            }
        }
    }
}

/// `status.qosClass`: what limits and requests of cpu and memory make of the pod.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    const NAMES: [&str; 2] = ["cpu", "memory"];
    let positive = |list: &Value, name: &str| {
        list.get(name).and_then(|v| Quantity::from_value(v).ok()).filter(|q| q.signum() > 0)
    };
    let (mut any, mut guaranteed) = (false, true);
    let pod_level = at(spec, &["resources"]);
    let whole = !pod_level.is_null()
        && (entries(pod_level, &["limits"]).next().is_some()
            || entries(pod_level, &["requests"]).next().is_some());
    let containers = items(spec, &["containers"]).iter().chain(items(spec, &["initContainers"]));
    let requirements: Vec<&Value> =
        if whole { vec![pod_level] } else { containers.map(|c| at(c, &["resources"])).collect() };
    let (mut requests_total, mut limits_total) = ([None, None], [None, None]);
    for resources in requirements {
        for (i, name) in NAMES.into_iter().enumerate() {
            let request = positive(&resources["requests"], name);
            let limit = positive(&resources["limits"], name);
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some();
            let sum = |total: &mut Option<Quantity>, part: Option<Quantity>| {
                if let Some(part) = part {
                    total.get_or_insert_with(Quantity::default).add(&part);
                }
            };
            sum(&mut requests_total[i], request);
            sum(&mut limits_total[i], limit);
        }
    }
    if !any {
        return "BestEffort";
    }
    let equal = (0..2).all(|i| match (&requests_total[i], &limits_total[i]) {
        (Some(request), Some(limit)) => request == limit,
        (request, limit) => request.is_none() && limit.is_none(),
    });
    if guaranteed && equal { "Guaranteed" } else { "Burstable" }
}

/// /resize: only the resources and resize policies of containers, and pod-level resources. Containers that come and
/// go, or change their names, are left as they were sent, for validation to refuse.
pub(crate) const RESIZE: Row = Row {
    prepare_status: |_, pod, old| {
        const LISTS: [&str; 2] = ["containers", "initContainers"];
        let count = |pod: &Value, list: &str| items(pod, &["spec", list]).len();
        if LISTS.iter().any(|list| count(pod, list) != count(old, list)) {
            return;
        }
        let sent = std::mem::replace(pod, old.clone());
        keep_bookkeeping(pod, &sent);
        let Some(spec) = object_mut(pod, &["spec"]) else { return };
        for list in LISTS {
            let new = items(&sent, &["spec", list]);
            if new.iter().zip(items(old, &["spec", list])).any(|(a, b)| a["name"] != b["name"]) {
                spec.insert(list.into(), Value::Array(new.to_vec()));
                continue;
            }
            for (container, new) in items_mut(spec, list).zip(new) {
                for field in ["resources", "resizePolicy"] {
                    match new.get(field) {
                        Some(value) => container.insert(field.into(), value.clone()),
                        None => container.remove(field),
                    };
                }
            }
        }
        match at(&sent, &["spec", "resources"]) {
            Value::Null => spec.remove("resources"),
            resources => spec.insert("resources".into(), resources.clone()),
        };
        if pod["spec"] != old["spec"] {
            bump(pod, old);
        }
    },
    ..POD
};

/// What the write itself says of the object.
fn keep_bookkeeping(pod: &mut Value, sent: &Value) {
    let Some(metadata) = object_mut(pod, &["metadata"]) else { return };
    for name in ["managedFields", "resourceVersion"] {
        match at(sent, &["metadata", name]) {
            Value::Null => metadata.remove(name),
            value => metadata.insert(name.into(), value.clone()),
        };
    }
}

/// /ephemeralcontainers: only that list.
pub(crate) const EPHEMERAL_CONTAINERS: Row = Row {
    prepare_status: |_, pod, old| {
        let mut sent = std::mem::replace(pod, old.clone());
        let list = sent.get_mut("spec").and_then(|s| s.get_mut("ephemeralContainers")).map(Value::take);
        keep_bookkeeping(pod, &sent);
        let changed = list.as_ref().unwrap_or(&Value::Null) != at(old, &["spec", "ephemeralContainers"]);
        if let Some(spec) = object_mut(pod, &["spec"]) {
            match list {
                Some(list) => spec.insert("ephemeralContainers".into(), list),
                None => spec.remove("ephemeralContainers"),
            };
        }
        if changed {
            bump(pod, old);
        }
    },
    ..POD
};

fn bump(pod: &mut Value, old: &Value) {
    super::set_generation(pod, int(old, &["metadata", "generation"]).unwrap_or_default() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(resources: Value) -> &'static str {
        qos_class(&json!({"containers": [{"name": "c", "resources": resources}]}))
    }

    #[test]
    fn the_class_follows_from_cpu_and_memory() {
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "0"}})), "BestEffort");
        assert_eq!(class(json!({"requests": {"example.com/gpu": "1"}})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        let equal = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({"requests": equal, "limits": equal})), "Guaranteed");
        let more = json!({"cpu": "1000m", "memory": "2Gi"});
        assert_eq!(class(json!({"requests": equal, "limits": more})), "Burstable");
    }

    #[test]
    fn pods_without_a_node_or_finished_go_at_once() {
        let grace = POD.grace_period;
        assert_eq!(grace(&json!({"spec": {}}), Some(60)), Some(0));
        let bound = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}});
        assert_eq!(grace(&bound, None), Some(7));
        assert_eq!(grace(&bound, Some(3)), Some(3));
        assert_eq!(grace(&bound, Some(-1)), Some(1));
        let done = json!({"spec": {"nodeName": "n"}, "status": {"phase": "Succeeded"}});
        assert_eq!(grace(&done, Some(60)), Some(0));
    }
}
