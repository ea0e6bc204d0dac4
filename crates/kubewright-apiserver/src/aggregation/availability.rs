//! The condition Available of an APIService, as a function of the service it names and of what was heard from there.
//! Pure.

use kubewright_machinery::time;
use serde_json::{Value, json};

use crate::outbound::{is_ready, is_slice_of};

/// One judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

fn unavailable(reason: &'static str, message: String) -> Condition {
    Condition { status: "False", reason, message }
}

/// Whether the APIService stands for what this server itself serves.
pub(super) fn is_local(object: &Value) -> bool {
    object.pointer("/spec/service").is_none_or(Value::is_null)
}

/// Of a local APIService.
pub(super) fn local() -> Condition {
    let message = "Local APIServices are always available".into();
    Condition { status: "True", reason: "Local", message }
}

/// Of a remote one that answered.
pub(super) fn passed() -> Condition {
    Condition { status: "True", reason: "Passed", message: "all checks passed".into() }
}

/// Of a remote one that did not answer as it should.
pub(super) fn failed(why: &str) -> Condition {
    unavailable("FailedDiscoveryCheck", why.into())
}

/// Whether the condition of an APIService says that it is available.
pub(super) fn is_available(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Available" && c["status"] == "True")
}

/// Whether a remote one can be asked at all: `service` is the Service it names, `slices` the EndpointSlices of the
/// namespace.
pub(super) fn judge<'a>(
    object: &Value,
    service: Option<&Value>,
    slices: impl Iterator<Item = &'a Value>,
) -> Result<(), Condition> {
    let text = |key: &str| {
        object.pointer(&format!("/spec/service/{key}")).and_then(Value::as_str).unwrap_or_default()
    };
    let (namespace, name) = (text("namespace"), text("name"));
    let named = format!("service/{name} in \"{namespace}\"");
    let Some(service) = service else {
        return Err(unavailable("ServiceNotFound", format!("{named} is not present")));
    };
    let kind = service.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP");
    if kind == "ClusterIP" {
        let port = object.pointer("/spec/service/port").and_then(Value::as_i64).unwrap_or(443);
        let ports = service.pointer("/spec/ports").and_then(Value::as_array);
        let Some(found) = ports.into_iter().flatten().find(|p| p["port"].as_i64() == Some(port)) else {
            let message = format!("{named} is not listening on port {port}");
            return Err(unavailable("ServicePortError", message));
        };
        let port_name = found["name"].as_str().unwrap_or_default();
        let slices: Vec<&Value> = slices.filter(|slice| is_slice_of(slice, name)).collect();
        if slices.is_empty() {
            let message = format!("cannot find endpointslices for {named}");
            return Err(unavailable("EndpointsNotFound", message));
        }
        if !slices.iter().any(|slice| has_endpoint(slice, port_name)) {
            let message =
                format!("endpointslices for {named} have no addresses with port name \"{port_name}\"");
            return Err(unavailable("MissingEndpoints", message));
        }
    }
    Ok(())
}

fn has_endpoint(slice: &Value, port_name: &str) -> bool {
    let list = |key: &str| slice[key].as_array().into_iter().flatten();
    list("endpoints").any(is_ready)
        && list("ports").any(|p| p["name"].as_str().unwrap_or_default() == port_name && p["port"].is_i64())
}

/// Sets the condition; its time changes only with its status. Whether anything changed.
pub(super) fn set(object: &mut Value, condition: &Condition, now: jiff::Timestamp) -> bool {
    let mut new = json!({
        "type": "Available",
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": time::format(now),
    });
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let status = &mut object["status"];
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else { return false };
    let Some(old) = conditions.iter_mut().find(|c| c["type"] == "Available") else {
        conditions.push(new);
        return true;
    };
    if old["status"] == new["status"] {
        new["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
    let changed = *old != new;
    *old = new;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_what_is_missing() {
        let remote = json!({"spec": {"service": {"namespace": "n", "name": "s", "port": 443}}});
        let reason = |service: Option<&Value>, slices: &[Value]| {
            judge(&remote, service, slices.iter()).map_or_else(|condition| condition.reason, |()| "")
        };
        assert_eq!(reason(None, &[]), "ServiceNotFound");
        assert_eq!(reason(Some(&json!({"spec": {"ports": [{"port": 80}]}})), &[]), "ServicePortError");
        let service = json!({"spec": {"ports": [{"port": 443, "name": "https"}]}});
        assert_eq!(reason(Some(&service), &[]), "EndpointsNotFound");
        let slice = |ready: bool| {
            json!({"metadata": {"labels": {"kubernetes.io/service-name": "s"}},
            "ports": [{"name": "https", "port": 8443}], "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]})
        };
        assert_eq!(reason(Some(&service), &[slice(false)]), "MissingEndpoints");
        assert_eq!(reason(Some(&service), &[slice(true)]), "");
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let mut object = json!({});
        let (one, two) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-02T00:00:00Z".parse().unwrap());
        assert!(set(&mut object, &local(), one));
        assert!(!set(&mut object, &local(), two));
        assert!(set(&mut object, &unavailable("ServiceNotFound", "x".into()), two));
        assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2026-01-02T00:00:00Z");
    }
}
