//! Whether an object does what it is for, told from its status: pure.

use serde_json::Value;

use crate::cache::Cached;

/// Whether an object is ready: pods and anything else with a `Ready` or `Available` condition by that,
/// workloads by their replicas, jobs when complete; what has no status by being there.
pub(crate) fn is_ready(object: &Cached) -> bool {
    if object.is_deleting() {
        return false;
    }
    let Ok(value) = serde_json::from_slice::<Value>(object.json()) else { return false };
    let (kind, status) = (value["kind"].as_str().unwrap_or_default(), &value["status"]);
    let count = |name: &str| status[name].as_i64().unwrap_or(0);
    let wanted = value["spec"]["replicas"].as_i64().unwrap_or(1);
    let observed = status["observedGeneration"].as_i64().unwrap_or(0) >= object.generation();
    match kind {
        "Pod" => condition(status, "Ready") == Some(true),
        "Deployment" => {
            observed && count("updatedReplicas") >= wanted && count("availableReplicas") >= wanted
        }
        "ReplicaSet" | "StatefulSet" | "ReplicationController" => {
            observed && count("readyReplicas") >= wanted
        }
        "DaemonSet" => observed && count("numberReady") >= count("desiredNumberScheduled"),
        "Job" => condition(status, "Complete") == Some(true),
        "PersistentVolumeClaim" => status["phase"] == "Bound",
        "Namespace" => status["phase"] == "Active",
        _ => condition(status, "Ready").or_else(|| condition(status, "Available")).unwrap_or(true),
    }
}

fn condition(status: &Value, name: &str) -> Option<bool> {
    let conditions = status["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == name)
        .map(|condition| condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::kind::Kind;

    fn ready(object: &Value) -> bool {
        is_ready(&Cached::read(object.to_string().as_bytes(), &Kind::of::<Pod>()).unwrap())
    }

    #[test]
    fn pods_are_ready_by_their_condition() {
        let pod = |status: &str| {
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
                   "status": {"conditions": [{"type": "Ready", "status": status}]}})
        };
        assert!(ready(&pod("True")));
        assert!(!ready(&pod("False")));
        assert!(!ready(&json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}})));
        let mut deleting = pod("True");
        deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!ready(&deleting));
    }

    #[test]
    fn workloads_are_ready_when_their_latest_generation_is() {
        let mut deployment = json!({
            "kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "d", "generation": 2},
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2},
        });
        assert!(!ready(&deployment));
        deployment["status"]["observedGeneration"] = json!(2);
        assert!(ready(&deployment));
    }

    #[test]
    fn what_has_no_status_is_ready_by_being_there() {
        assert!(ready(&json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}})));
    }
}
