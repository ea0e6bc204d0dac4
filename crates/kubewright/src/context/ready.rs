//! Whether an object does what it is for, told from its status: pure.

use serde_json::Value;

use crate::cache::Cached;

/// Whether an object is ready: pods and anything else with a `Ready` or `Available` condition by that,
/// workloads by their replicas, jobs when complete; what has no status by being there. A status that says of which
/// generation it speaks counts for that generation only, and of workloads only what is updated counts.
pub(crate) fn is_ready(object: &Cached) -> bool {
    if object.is_deleting() {
        return false;
    }
    let Ok(value) = serde_json::from_slice::<Value>(object.json()) else { return false };
    let (kind, status) = (value["kind"].as_str().unwrap_or_default(), &value["status"]);
    let count = |name: &str| status[name].as_i64().unwrap_or(0);
    let wanted = value["spec"]["replicas"].as_i64().unwrap_or(1);
    let observed = status["observedGeneration"].as_i64().unwrap_or(0) >= object.generation();
    let condition = |name: &str| condition(status, name, object.generation());
    let strategy = &value["spec"]["updateStrategy"];
    // Pods that change when somebody deletes them are not waited for.
    let updates = |name: &str, wanted: i64| strategy["type"] == "OnDelete" || count(name) >= wanted;
    match kind {
        "Pod" => is_current(status, object.generation()) && condition("Ready") == Some(true),
        "Deployment" => {
            // An old replica that is available yet must not stand for a new one that is not.
            let updated = count("updatedReplicas");
            observed && updated >= wanted.max(count("replicas")) && count("availableReplicas") >= wanted
        }
        "ReplicaSet" | "ReplicationController" => observed && count("readyReplicas") >= wanted,
        "StatefulSet" => {
            let stay = strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
            observed && count("readyReplicas") >= wanted && updates("updatedReplicas", wanted - stay)
        }
        "DaemonSet" => {
            let wanted = count("desiredNumberScheduled");
            observed && count("numberReady") >= wanted && updates("updatedNumberScheduled", wanted)
        }
        "Job" => condition("Complete") == Some(true),
        "PersistentVolumeClaim" => status["phase"] == "Bound",
        "Namespace" => status["phase"] == "Active",
        _ => {
            let told = condition("Ready").or_else(|| condition("Available"));
            is_current(status, object.generation()) && told.unwrap_or(true)
        }
    }
}

/// Whether a status or a condition speaks of this generation, as far as it says of which one it does.
fn is_current(of: &Value, generation: i64) -> bool {
    of["observedGeneration"].as_i64().is_none_or(|observed| observed >= generation)
}

fn condition(status: &Value, name: &str, generation: i64) -> Option<bool> {
    let conditions = status["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == name)?;
    Some(found["status"] == "True" && is_current(found, generation))
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
    fn an_old_replica_does_not_stand_for_a_new_one_that_is_not_available() {
        let deployment = |replicas: u32| {
            json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "d", "generation": 2},
                "spec": {"replicas": 2}, "status": {"observedGeneration": 2, "replicas": replicas,
                    "updatedReplicas": 2, "availableReplicas": 2}})
        };
        assert!(!ready(&deployment(3)));
        assert!(ready(&deployment(2)));
    }

    #[test]
    fn sets_are_ready_when_their_pods_are_updated_unless_those_wait_to_be_deleted() {
        let set = |kind: &str, strategy: Value, updated: u32| {
            ready(&json!({"kind": kind, "apiVersion": "apps/v1", "metadata": {"name": "s", "generation": 2},
                "spec": {"replicas": 3, "updateStrategy": strategy},
                "status": {"observedGeneration": 2, "readyReplicas": 3, "updatedReplicas": updated,
                    "desiredNumberScheduled": 3, "numberReady": 3, "updatedNumberScheduled": updated}}))
        };
        for kind in ["StatefulSet", "DaemonSet"] {
            assert!(!set(kind, json!({"type": "RollingUpdate"}), 2), "{kind}");
            assert!(set(kind, json!({"type": "RollingUpdate"}), 3), "{kind}");
            assert!(set(kind, json!({"type": "OnDelete"}), 0), "{kind}");
        }
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        assert!(set("StatefulSet", partition.clone(), 1));
        assert!(!set("StatefulSet", partition, 0));
    }

    #[test]
    fn a_condition_counts_for_the_generation_that_it_is_of() {
        let widget = |status: Value| {
            ready(&json!({"kind": "Widget", "apiVersion": "example.com/v1",
                "metadata": {"name": "w", "generation": 2}, "status": status}))
        };
        let condition = |generation: Value| json!([{"type": "Ready", "status": "True", "observedGeneration": generation}]);
        assert!(!widget(json!({"conditions": condition(json!(1))})));
        assert!(widget(json!({"conditions": condition(json!(2))})));
        assert!(!widget(json!({"observedGeneration": 1, "conditions": condition(Value::Null)})));
        assert!(widget(json!({"observedGeneration": 2, "conditions": condition(Value::Null)})));
        assert!(widget(json!({"conditions": condition(Value::Null)})), "it does not say of which");
        assert!(!widget(json!({"observedGeneration": 1})));
    }

    #[test]
    fn what_has_no_status_is_ready_by_being_there() {
        assert!(ready(&json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}})));
    }
}
