//! Kinds that are served in two forms and stored in one: events and autoscalers.

use kubewright_apiserver::resources::Converter;
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::schema::SchemaRef;
use kubewright_machinery::schema::canonical::canonicalize;
use kubewright_machinery::status::Status;
use serde_json::{Map, Value, json};

use crate::catalogue::Catalogue;
use crate::fields::{object_mut, text};

/// Old and new names of an event's fields.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn schema(name: &str) -> SchemaRef {
    Catalogue::builtin().schema(name).cloned().unwrap_or_default()
}

fn rename(object: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>, version: &str) {
    let Some(map) = object.as_object_mut() else { return };
    map.insert("apiVersion".into(), version.into());
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.into(), value);
        }
    }
}

/// events.k8s.io/v1 over core/v1.
pub(crate) struct EventConverter {
    stored: SchemaRef,
    served: SchemaRef,
}

impl EventConverter {
    pub(crate) fn new() -> Self {
        Self { stored: schema("io.k8s.api.core.v1.Event"), served: schema("io.k8s.api.events.v1.Event") }
    }
}

impl Converter for EventConverter {
    fn to_served<'a>(&'a self, objects: &'a mut [Value]) -> BoxFuture<'a, Result<(), Status>> {
        for object in objects {
            rename(object, EVENT_FIELDS.iter().copied(), "events.k8s.io/v1");
            canonicalize(object, &self.served);
        }
        ready(Ok(()))
    }

    fn to_stored<'a>(&'a self, object: &'a mut Value) -> BoxFuture<'a, Result<(), Status>> {
        rename(object, EVENT_FIELDS.iter().map(|(old, new)| (*new, *old)), "v1");
        canonicalize(object, &self.stored);
        ready(Ok(()))
    }
}

/// Annotations that keep what autoscaling/v1 has no fields for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// autoscaling/v1 over autoscaling/v2.
pub(crate) struct AutoscalerConverter {
    stored: SchemaRef,
    served: SchemaRef,
}

impl AutoscalerConverter {
    pub(crate) fn new() -> Self {
        Self {
            stored: schema("io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"),
            served: schema("io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler"),
        }
    }
}

/// Whether a v2 metric (or its status) is the one that v1 has a field for: CPU utilization.
fn is_cpu(metric: &Value, side: &str) -> bool {
    let source = &metric["resource"];
    metric["type"] == "Resource" && source["name"] == "cpu" && !source[side]["averageUtilization"].is_null()
}

/// A v2 metric in the words of v2beta1, which the annotations are written in.
fn old_metric(metric: &Value, side: &str) -> Value {
    let mut old = metric.clone();
    let (utilization, average, value) = if side == "target" {
        ("targetAverageUtilization", "targetAverageValue", "targetValue")
    } else {
        ("currentAverageUtilization", "currentAverageValue", "currentValue")
    };
    for source in ["resource", "containerResource", "pods", "object", "external"] {
        let Some(Value::Object(source_map)) = old.get_mut(source) else { continue };
        let numbers = source_map.remove(side).unwrap_or_default();
        let metric_id = source_map.remove("metric").unwrap_or_default();
        let resource = matches!(source, "resource" | "containerResource");
        let mut set = |name: &str, value: &Value| {
            if !value.is_null() {
                source_map.insert(name.into(), value.clone());
            }
        };
        if resource {
            set(utilization, &numbers["averageUtilization"]);
            set(average, &numbers["averageValue"]);
        } else {
            set("metricName", &metric_id["name"]);
            set(if source == "external" { "metricSelector" } else { "selector" }, &metric_id["selector"]);
            match source {
                "pods" => set(average, &numbers["averageValue"]),
                "object" => {
                    set(value, &numbers["value"]);
                    set("averageValue", &numbers["averageValue"]);
                }
                _ => {
                    set(value, &numbers["value"]);
                    set(average, &numbers["averageValue"]);
                }
            }
        }
        if source == "object"
            && let Some(described) = source_map.remove("describedObject")
        {
            source_map.insert("target".into(), described);
        }
    }
    old
}

/// The other way.
fn new_metric(metric: &Value, side: &str) -> Value {
    let mut new = metric.clone();
    let (utilization, average, value) = if side == "target" {
        ("targetAverageUtilization", "targetAverageValue", "targetValue")
    } else {
        ("currentAverageUtilization", "currentAverageValue", "currentValue")
    };
    for source in ["resource", "containerResource", "pods", "object", "external"] {
        let Some(Value::Object(map)) = new.get_mut(source) else { continue };
        let mut numbers = Map::new();
        let mut take = |from: &str, to: &str, map: &mut Map<String, Value>| {
            if let Some(v) = map.remove(from) {
                numbers.insert(to.into(), v);
            }
        };
        take(utilization, "averageUtilization", map);
        take(average, "averageValue", map);
        take("averageValue", "averageValue", map);
        take(value, "value", map);
        if side == "target" {
            let kind = if numbers.contains_key("averageUtilization") {
                "Utilization"
            } else if numbers.contains_key("averageValue") {
                "AverageValue"
            } else {
                "Value"
            };
            numbers.insert("type".into(), kind.into());
        }
        if source == "object"
            && let Some(described) = map.remove("target")
        {
            map.insert("describedObject".into(), described);
        }
        if let Some(name) = map.remove("metricName") {
            let mut id = json!({ "name": name });
            for selector in ["metricSelector", "selector"] {
                if let Some(selector) = map.remove(selector) {
                    id["selector"] = selector;
                }
            }
            map.insert("metric".into(), id);
        }
        map.insert(side.into(), Value::Object(numbers));
    }
    new
}

/// Fields in the order in which Kubernetes writes them in these annotations.
const ORDER: [&str; 30] = [
    "type",
    "status",
    "lastTransitionTime",
    "reason",
    "message",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "kind",
    "name",
    "apiVersion",
    "target",
    "metricName",
    "metricSelector",
    "targetValue",
    "targetAverageUtilization",
    "targetAverageValue",
    "currentValue",
    "currentAverageUtilization",
    "currentAverageValue",
    "selector",
    "averageValue",
    "container",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
];

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let place = |key: &str| ORDER.iter().position(|o| *o == key).unwrap_or(ORDER.len());
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            fields.sort_by_key(|(key, _)| place(key));
            out.push('{');
            for (i, (key, value)) in fields.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn annotate(object: &mut Value, key: &str, value: &Value) {
    let mut text = String::new();
    write(value, &mut text);
    kubewright_machinery::meta::set_annotation(object, key, &text);
}

/// Scaling rules as the annotation has them: under the names of the fields inside Kubernetes, all of them stated.
fn behavior_text(behavior: &Value) -> String {
    let rules = |name: &str| {
        let rules = &behavior[name];
        if rules.is_null() {
            return "null".to_string();
        }
        let policy = |p: &Value| {
            format!(
                r#"{{"Type":{},"Value":{},"PeriodSeconds":{}}}"#,
                p["type"], p["value"], p["periodSeconds"]
            )
        };
        let policies = match rules["policies"].as_array() {
            Some(list) => format!("[{}]", list.iter().map(policy).collect::<Vec<_>>().join(",")),
            None => "null".to_string(),
        };
        format!(
            r#"{{"StabilizationWindowSeconds":{},"SelectPolicy":{},"Policies":{policies},"Tolerance":{}}}"#,
            rules["stabilizationWindowSeconds"], rules["selectPolicy"], rules["tolerance"]
        )
    };
    format!(r#"{{"ScaleUp":{},"ScaleDown":{}}}"#, rules("scaleUp"), rules("scaleDown"))
}

/// The other way: field names with a small first letter, nulls left out.
fn behavior_value(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let field = |(key, value): (&String, &Value)| {
                let mut key = key.clone();
                if let Some(first) = key.get_mut(..1) {
                    first.make_ascii_lowercase();
                }
                (key, behavior_value(value))
            };
            Value::Object(map.iter().filter(|(_, v)| !v.is_null()).map(field).collect())
        }
        Value::Array(items) => items.iter().map(behavior_value).collect(),
        scalar => scalar.clone(),
    }
}

fn take_annotation(object: &mut Value, key: &str) -> Option<Value> {
    let annotations = object_mut(object, &["metadata", "annotations"])?;
    let text = annotations.remove(key)?;
    if annotations.is_empty()
        && let Some(metadata) = object_mut(object, &["metadata"])
    {
        metadata.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

/// v2 → v1.
fn to_v1(object: &mut Value) {
    if text(object, &["apiVersion"]) == "autoscaling/v1" {
        return;
    }
    object["apiVersion"] = "autoscaling/v1".into();
    let mut metrics = object["spec"].get("metrics").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut current =
        object["status"].get("currentMetrics").and_then(Value::as_array).cloned().unwrap_or_default();
    let conditions = object["status"].get("conditions").cloned().unwrap_or_default();
    let behavior = object["spec"].get("behavior").cloned().unwrap_or_default();
    if let Some(spec) = object_mut(object, &["spec"]) {
        spec.remove("metrics");
        spec.remove("behavior");
        if let Some(i) = metrics.iter().position(|m| is_cpu(m, "target")) {
            let cpu = metrics.remove(i);
            let wanted = cpu["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".into(), wanted);
        }
    }
    if let Some(status) = object_mut(object, &["status"]) {
        status.remove("currentMetrics");
        status.remove("conditions");
        if let Some(cpu) = current.iter().find(|m| is_cpu(m, "current")) {
            let now = cpu["resource"]["current"]["averageUtilization"].clone();
            status.insert("currentCPUUtilizationPercentage".into(), now);
        }
    }
    if !metrics.is_empty() {
        let old: Vec<Value> = metrics.iter().map(|m| old_metric(m, "target")).collect();
        annotate(object, METRICS, &old.into());
    }
    if !current.is_empty() {
        let old: Vec<Value> = current.drain(..).map(|m| old_metric(&m, "current")).collect();
        annotate(object, CURRENT_METRICS, &old.into());
    }
    if conditions.as_array().is_some_and(|c| !c.is_empty()) {
        annotate(object, CONDITIONS, &conditions);
    }
    if !behavior.is_null() {
        kubewright_machinery::meta::set_annotation(object, BEHAVIOR, &behavior_text(&behavior));
    }
}

/// v1 → v2.
fn to_v2(object: &mut Value) {
    if text(object, &["apiVersion"]) == "autoscaling/v2" {
        return;
    }
    object["apiVersion"] = "autoscaling/v2".into();
    let list = |v: Option<Value>| v.and_then(|v| v.as_array().cloned()).unwrap_or_default();
    let metrics = list(take_annotation(object, METRICS));
    let current = list(take_annotation(object, CURRENT_METRICS));
    let conditions = take_annotation(object, CONDITIONS);
    let behavior = take_annotation(object, BEHAVIOR).map(|b| behavior_value(&b));
    let mut metrics: Vec<Value> = metrics.iter().map(|m| new_metric(m, "target")).collect();
    let mut current: Vec<Value> = current.iter().map(|m| new_metric(m, "current")).collect();
    if let Some(spec) = object_mut(object, &["spec"]) {
        if let Some(wanted) = spec.remove("targetCPUUtilizationPercentage") {
            let target = json!({"type": "Utilization", "averageUtilization": wanted});
            metrics.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        if !metrics.is_empty() {
            spec.insert("metrics".into(), metrics.into());
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object_mut(object, &["status"]) {
        if let Some(now) = status.remove("currentCPUUtilizationPercentage")
            && !current.iter().any(|m| is_cpu(m, "current"))
        {
            let value = json!({"averageUtilization": now});
            current.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "current": value}}));
        }
        if !current.is_empty() {
            status.insert("currentMetrics".into(), current.into());
        }
        if let Some(conditions) = conditions {
            status.insert("conditions".into(), conditions);
        }
    }
}

impl Converter for AutoscalerConverter {
    fn to_served<'a>(&'a self, objects: &'a mut [Value]) -> BoxFuture<'a, Result<(), Status>> {
        for object in objects {
            to_v1(object);
            canonicalize(object, &self.served);
        }
        ready(Ok(()))
    }

    fn to_stored<'a>(&'a self, object: &'a mut Value) -> BoxFuture<'a, Result<(), Status>> {
        to_v2(object);
        canonicalize(object, &self.stored);
        crate::defaults::workloads::autoscaler(object);
        ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_survives_the_way_to_v1_and_back() {
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "rps"},
            "target": {"type": "AverageValue", "averageValue": "5"}}});
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 70}}});
        let v2 = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "metrics": [cpu, pods]}, "status": {"desiredReplicas": 1}});
        let mut object = v2.clone();
        to_v1(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 70}));
        assert_eq!(
            object["metadata"]["annotations"][METRICS],
            r#"[{"type":"Pods","pods":{"metricName":"rps","targetAverageValue":"5"}}]"#
        );
        to_v2(&mut object);
        assert_eq!(object, v2);
    }
}
