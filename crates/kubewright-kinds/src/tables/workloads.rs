//! Tables of controllers of pods, jobs and autoscalers.

use jiff::Timestamp;
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::time;
use serde_json::Value;

use super::{age, bool_text, condition, containers, labels, name, number, or, rough, selector, since};
use crate::fields::{at, int, items, text};

pub(super) fn pod_template(object: &Value, _: Timestamp) -> Vec<Value> {
    let [names, images] = containers(at(object, &["template", "spec"]));
    vec![name(object), names, images, labels(at(object, &["template", "metadata", "labels"])).into()]
}

/// An int-or-string as text.
fn count(value: &Value) -> String {
    match value {
        Value::Null => "N/A".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        count(at(object, &["spec", "minAvailable"])).into(),
        count(at(object, &["spec", "maxUnavailable"])).into(),
        number(object, &["status", "disruptionsAllowed"]),
        age(object, now),
    ]
}

fn replicas(object: &Value, now: Timestamp, selector: String) -> Vec<Value> {
    let [names, images] = containers(at(object, &["spec", "template", "spec"]));
    vec![
        name(object),
        number(object, &["spec", "replicas"]),
        number(object, &["status", "replicas"]),
        number(object, &["status", "readyReplicas"]),
        age(object, now),
        names,
        images,
        selector.into(),
    ]
}

pub(super) fn replication_controller(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, labels(at(object, &["spec", "selector"])))
}

pub(super) fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, selector(at(object, &["spec", "selector"])))
}

pub(super) fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(at(object, &["spec", "template", "spec"]));
    let status = |field: &str| number(object, &["status", field]);
    vec![
        name(object),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        labels(at(object, &["spec", "template", "spec", "nodeSelector"])).into(),
        age(object, now),
        names,
        images,
        selector(at(object, &["spec", "selector"])).into(),
    ]
}

fn ready_of_desired(object: &Value) -> Value {
    let ready = int(object, &["status", "readyReplicas"]).unwrap_or_default();
    let desired = int(object, &["spec", "replicas"]).unwrap_or_default();
    format!("{ready}/{desired}").into()
}

pub(super) fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(at(object, &["spec", "template", "spec"]));
    vec![
        name(object),
        ready_of_desired(object),
        number(object, &["status", "updatedReplicas"]),
        number(object, &["status", "availableReplicas"]),
        age(object, now),
        names,
        images,
        selector(at(object, &["spec", "selector"])).into(),
    ]
}

pub(super) fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(at(object, &["spec", "template", "spec"]));
    vec![name(object), ready_of_desired(object), age(object, now), names, images]
}

pub(super) fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owner = items(object, &["metadata", "ownerReferences"]).iter().find(|o| o["controller"] == true);
    let controller = owner.map_or("<none>".to_string(), |owner| {
        let group = text(owner, &["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
        let kind = text(owner, &["kind"]).to_lowercase();
        let dot = if group.is_empty() { "" } else { "." };
        format!("{kind}{dot}{}/{}", group.to_lowercase(), text(owner, &["name"]))
    });
    vec![name(object), controller.into(), number(object, &["revision"]), age(object, now)]
}

pub(super) fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let succeeded = int(object, &["status", "succeeded"]).unwrap_or_default();
    let completions = match int(object, &["spec", "completions"]) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None => match int(object, &["spec", "parallelism"]).unwrap_or_default() {
            n if n > 1 => format!("{succeeded}/1 of {n}"),
            _ => format!("{succeeded}/1"),
        },
    };
    let moment = |field: &str| at(object, &["status", field]).as_str().and_then(|t| time::parse(t).ok());
    let duration = moment("startTime").map_or(String::new(), |start| {
        rough(moment("completionTime").unwrap_or(now).as_second() - start.as_second())
    });
    let is = |kind: &str| {
        condition(object, &["status", "conditions"], kind).is_some_and(|c| c["status"] == "True")
    };
    let status = if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if !at(object, &["metadata", "deletionTimestamp"]).is_null() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else {
        "Running"
    };
    let [names, images] = containers(at(object, &["spec", "template", "spec"]));
    vec![
        name(object),
        status.into(),
        completions.into(),
        duration.into(),
        age(object, now),
        names,
        images,
        selector(at(object, &["spec", "selector"])).into(),
    ]
}

pub(super) fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = at(object, &["status", "lastScheduleTime"]);
    let template = at(object, &["spec", "jobTemplate", "spec"]);
    let [names, images] = containers(at(template, &["template", "spec"]));
    vec![
        name(object),
        text(object, &["spec", "schedule"]).into(),
        at(object, &["spec", "timeZone"]).as_str().unwrap_or("<none>").into(),
        bool_text(at(object, &["spec", "suspend"])).into(),
        (items(object, &["status", "active"]).len() as i64).into(),
        if last.is_null() { "<none>".to_string() } else { since(last, now) }.into(),
        age(object, now),
        names,
        images,
        selector(at(template, &["selector"])).into(),
    ]
}

pub(super) fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let target = at(object, &["spec", "scaleTargetRef"]);
    vec![
        name(object),
        format!("{}/{}", text(target, &["kind"]), text(target, &["name"])).into(),
        metrics(object).into(),
        int(object, &["spec", "minReplicas"]).map_or("<unset>".to_string(), |n| n.to_string()).into(),
        number(object, &["spec", "maxReplicas"]),
        number(object, &["status", "currentReplicas"]),
        age(object, now),
    ]
}

/// Current and wanted values of the metrics, two at most. autoscaling/v1 objects know CPU only.
fn metrics(object: &Value) -> String {
    if let Some(wanted) = int(object, &["spec", "targetCPUUtilizationPercentage"]) {
        let current = int(object, &["status", "currentCPUUtilizationPercentage"]);
        let current = current.map_or("<unknown>".to_string(), |c| format!("{c}%"));
        return format!("cpu: {current}/{wanted}%");
    }
    let specs = items(object, &["spec", "metrics"]);
    if specs.is_empty() {
        return "<none>".into();
    }
    let statuses = items(object, &["status", "currentMetrics"]);
    let quantity = |v: &Value| Quantity::from_value(v).map_or_else(|_| "0".into(), |q| q.to_string());
    let one = |(i, spec): (usize, &Value)| {
        let kind = text(spec, &["type"]);
        let key = match kind {
            "External" => "external",
            "Pods" => "pods",
            "Object" => "object",
            "Resource" => "resource",
            "ContainerResource" => "containerResource",
            _ => return "<unknown type>".to_string(),
        };
        let source = at(spec, &[key]);
        let target = at(source, &["target"]);
        let status = statuses.get(i).map_or(&Value::Null, |s| at(s, &[key]));
        let current = at(status, &["current"]);
        let unknown = || "<unknown>".to_string();
        let by_value = |field: &str| {
            let value = at(current, &[field]);
            let now = if status.is_null() || (field == "averageValue" && value.is_null() && key != "pods") {
                unknown()
            } else {
                quantity(value)
            };
            (now, quantity(at(target, &[field])))
        };
        match key {
            "external" | "object" if !target["averageValue"].is_null() => {
                let (now, wanted) = by_value("averageValue");
                format!("{now}/{wanted} (avg)")
            }
            "external" | "object" => {
                let (now, wanted) = by_value("value");
                format!("{now}/{wanted}")
            }
            "pods" => {
                let (now, wanted) = by_value("averageValue");
                format!("{now}/{wanted}")
            }
            _ => {
                let resource = text(source, &["name"]);
                if target["averageValue"].is_null() {
                    let percent =
                        |v: Option<i64>, none: &str| v.map_or(none.to_string(), |p| format!("{p}%"));
                    let now = percent(int(current, &["averageUtilization"]), "<unknown>");
                    format!("{resource}: {now}/{}", percent(int(target, &["averageUtilization"]), "<auto>"))
                } else {
                    let (now, wanted) = by_value("averageValue");
                    format!("{resource}: {now}/{wanted}")
                }
            }
        }
    };
    let all: Vec<String> = specs.iter().enumerate().map(one).collect();
    match all.len() {
        n if n > 2 => format!("{} + {} more...", all[..2].join(", "), n - 2),
        _ => or(&all.join(", "), "<none>").to_string(),
    }
}
