//! Fields behind feature gates that are off in Kubernetes 1.36 unless switched on: new objects lose them, and
//! changes may keep them only where the stored object uses them already.

use serde_json::{Map, Value};

use crate::fields::{at, items, items_mut, member, object_mut, same};

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// Sources of projected volumes: ClusterTrustBundleProjection and PodCertificateRequest.
const PROJECTIONS: [&str; 2] = ["clusterTrustBundle", "podCertificate"];

/// The spec of a pod at `path`; `old` is the stored object.
pub(super) fn pod_spec(object: &mut Value, old: Option<&Value>, path: &[&str]) {
    let before = old.map_or(&Value::Null, |old| at(old, path));
    let Some(spec) = object_mut(object, path) else { return };
    // GenericWorkload.
    if at(before, &["schedulingGroup"]).is_null() {
        spec.remove("schedulingGroup");
    }
    for name in PROJECTIONS.into_iter().filter(|name| !projects(before, name)) {
        for volume in items_mut(spec, "volumes") {
            for source in member(volume, "projected").into_iter().flat_map(|p| items_mut(p, "sources")) {
                source.remove(name);
            }
        }
    }
    // ContainerStopSignals.
    let signals =
        |list: &&str| items(before, &[list]).iter().any(|c| !at(c, &["lifecycle", "stopSignal"]).is_null());
    if CONTAINERS.iter().any(signals) {
        return;
    }
    for list in CONTAINERS {
        items_mut(spec, list).for_each(without_stop_signal);
    }
}

fn projects(spec: &Value, name: &str) -> bool {
    let sources = items(spec, &["volumes"]).iter().flat_map(|v| items(v, &["projected", "sources"]));
    sources.into_iter().any(|source| !at(source, &[name]).is_null())
}

/// A lifecycle that said nothing else goes too.
fn without_stop_signal(container: &mut Map<String, Value>) {
    let Some(lifecycle) = member(container, "lifecycle") else { return };
    if lifecycle.remove("stopSignal").is_some() && lifecycle.is_empty() {
        container.remove("lifecycle");
    }
}

/// A field that is dropped unless the stored object has it.
pub(super) fn field(object: &mut Value, old: Option<&Value>, owner: &[&str], name: &str) {
    if old.is_none_or(|old| at(at(old, owner), &[name]).is_null())
        && let Some(owner) = object_mut(object, owner)
    {
        owner.remove(name);
    }
}

/// Data sources of a claim. A source in another namespace (CrossNamespaceVolumeDataSource) is dropped; so is an old
/// `dataSource` of a kind that it never had. Then the two spellings say the same (KEP-1495).
pub(super) fn data_sources(claim: &mut Value, old: Option<&Value>) {
    let stated = |v: &Value, name: &str| !same(at(v, &["spec", name]), &Value::Null);
    let ref_in_use = old.is_some_and(|old| stated(old, "dataSourceRef"));
    let in_use = ref_in_use || old.is_some_and(|old| stated(old, "dataSource"));
    let Some(spec) = object_mut(claim, &["spec"]) else { return };
    let get = |spec: &Map<String, Value>, name: &str| spec.get(name).filter(|v| !v.is_null()).cloned();
    let crosses = |reference: &Value| reference["namespace"].as_str().is_some_and(|n| !n.is_empty());
    if !ref_in_use && get(spec, "dataSourceRef").is_some_and(|r| crosses(&r)) {
        spec.remove("dataSourceRef");
    }
    let old_kind = |source: &Value| {
        let group = source["apiGroup"].as_str().unwrap_or_default();
        matches!(
            (source["kind"].as_str(), group),
            (Some("PersistentVolumeClaim"), "") | (Some("VolumeSnapshot"), "snapshot.storage.k8s.io")
        )
    };
    let reference = get(spec, "dataSourceRef");
    if !in_use && reference.is_none() && get(spec, "dataSource").is_some_and(|s| !old_kind(&s)) {
        spec.remove("dataSource");
    }
    match (get(spec, "dataSource"), reference) {
        (Some(source), None) => drop(spec.insert("dataSourceRef".into(), source)),
        (None, Some(reference)) if !crosses(&reference) => {
            spec.insert("dataSource".into(), reference);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_gates_that_are_off_are_dropped_from_new_pods() {
        let mut pod = json!({"spec": {
            "schedulingGroup": {"podGroupName": "g"},
            "containers": [{"name": "c", "lifecycle": {"stopSignal": "SIGTERM"}}],
            "volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}],
        }});
        let stored = pod.clone();
        pod_spec(&mut pod, None, &["spec"]);
        assert_eq!(
            pod,
            json!({"spec": {"containers": [{"name": "c"}],
                "volumes": [{"name": "v", "projected": {"sources": [{}]}}]}})
        );
        let mut pod = stored.clone();
        pod_spec(&mut pod, Some(&stored), &["spec"]);
        assert_eq!(pod, stored, "what is in use stays");
    }

    fn sources(spec: Value) -> Value {
        let mut claim = json!({ "spec": spec });
        data_sources(&mut claim, None);
        claim["spec"].take()
    }

    #[test]
    fn the_two_spellings_of_a_data_source_agree() {
        let other = json!({"apiGroup": "example.com", "kind": "Widget", "name": "w"});
        assert_eq!(sources(json!({"dataSource": other})), json!({}));
        assert_eq!(
            sources(json!({"dataSourceRef": other})),
            json!({"dataSource": other, "dataSourceRef": other})
        );
        let snapshot = json!({"kind": "VolumeSnapshot", "name": "s"});
        assert_eq!(sources(json!({"dataSource": snapshot})), json!({}), "its group is part of the kind");
        let claim = json!({"kind": "PersistentVolumeClaim", "name": "c"});
        assert_eq!(sources(json!({"dataSource": claim}))["dataSourceRef"], claim);
        let abroad = json!({"kind": "PersistentVolumeClaim", "name": "c", "namespace": "x"});
        assert_eq!(sources(json!({"dataSourceRef": abroad})), json!({}));
    }
}
