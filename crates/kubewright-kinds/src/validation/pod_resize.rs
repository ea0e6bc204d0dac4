//! Resizing pods in place: what may change through `pods/resize` (KEP-1287, KEP-5419).

use kubewright_machinery::field::Path;
use serde_json::{Value, json};

use super::container::is_sidecar;
use super::errors::Errors;
use super::pod_update::put;
use super::read::{Fields, same};
use super::{metadata, pod, pod_quantities};

const SPEC: Path<'static> = Path::new("spec");

/// `pods/resize`.
pub(super) fn resize(object: &Value, old: &Value, e: &mut Errors) {
    let root = Path::new("");
    if metadata::annotation(old, pod::MIRROR).is_some() {
        return e.forbidden(&root, "static pods cannot be resized");
    }
    let (spec, old_spec) = (object.sub("spec"), old.sub("spec"));
    if old_spec.sub("os").text("name") == "windows" {
        return e.forbidden(&root, "windows pods cannot be resized");
    }
    metadata::update(object, old, e);
    pod::metadata_and_spec(object, e);
    let class = old.sub("status").opt_text("qosClass").filter(|c| !c.is_empty());
    if class.unwrap_or(pod_quantities::qos_class(old_spec)) != pod_quantities::qos_class(spec) {
        let shown = object.sub("status").text("qosClass");
        e.invalid(&SPEC, shown, "Pod QOS Class may not change as a result of resizing");
    }
    let running = old.sub("status").items("containerStatuses").iter().find(|s| s.sub("state").has("running"));
    if running.is_some_and(|status| !status.has("resources")) {
        e.forbidden(&SPEC, "Pod running on node without support for resize");
    }
    let mut restored = spec.clone();
    if has_amounts(spec) || has_amounts(old_spec) {
        of_pod(&mut restored, spec, old_spec, e);
    }
    if !same_containers(spec, old_spec, e) {
        return;
    }
    for kind in ["initContainers", "containers"] {
        let path = SPEC.child(kind);
        for (i, (new, old)) in spec.items(kind).iter().zip(old_spec.items(kind)).enumerate() {
            let item = path.index(i);
            let path = item.child("resources");
            for (field, what) in [
                ("requests", "resource requests cannot be removed"),
                ("limits", "resource limits cannot be removed"),
            ] {
                if is_removed(new.sub("resources"), old.sub("resources"), field) {
                    e.forbidden(&path.child(field), what);
                }
            }
        }
    }
    restored_containers(&mut restored, old_spec, e);
    if e.is_empty() && !same(&restored, old_spec) {
        e.forbidden(&SPEC, "only cpu and memory resources are mutable");
    }
}

fn has_amounts(spec: &Value) -> bool {
    ["requests", "limits"].iter().any(|f| spec.sub("resources").map(f).is_some_and(|m| !m.is_empty()))
}

fn is_removed(new: &Value, old: &Value, field: &str) -> bool {
    old.entries(field).any(|(name, _)| !new.sub(field).has(name))
}

/// Pod-level resources; puts them back to what they were in `restored`.
fn of_pod(restored: &mut Value, spec: &Value, old_spec: &Value, e: &mut Errors) {
    let (new, old) = (spec.sub("resources"), old_spec.sub("resources"));
    let path = SPEC.child("resources");
    if new.is_null() {
        return e.forbidden(&path, "pod-level resources cannot be removed");
    }
    for (field, what) in [
        ("requests", "pod-level resource requests cannot be removed"),
        ("limits", "pod-level resource limits cannot be removed"),
    ] {
        if is_removed(new, old, field) {
            e.forbidden(&path.child(field), what);
        }
    }
    restore_compute(restored, old_spec);
    let empty = |r: &Value| ["limits", "requests", "claims"].iter().all(|f| is_empty(r.sub(f)));
    if old.is_null() && empty(restored.sub("resources")) {
        put(restored, "resources", Value::Null);
    }
    if !same(restored.sub("resources"), old) {
        e.forbidden(&SPEC, "only cpu and memory resources are mutable at pod-level");
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Containers stay the same ones in the same order.
fn same_containers(spec: &Value, old_spec: &Value, e: &mut Errors) -> bool {
    let before = e.len();
    for kind in ["containers", "initContainers"] {
        let (path, new, old) = (SPEC.child(kind), spec.items(kind), old_spec.items(kind));
        if new.len() != old.len() {
            e.forbidden(&path, format!("{kind} may not be added or removed on resize"));
            continue;
        }
        for (i, _) in new.iter().zip(old).enumerate().filter(|(_, (a, b))| a.text("name") != b.text("name")) {
            let detail = format!("{kind} may not be renamed or reordered on resize");
            e.forbidden(&path.index(i).child("name"), detail);
        }
    }
    e.len() == before
}

/// Puts cpu and memory of all containers back to what they were; nothing else may differ then.
fn restored_containers(restored: &mut Value, old_spec: &Value, e: &mut Errors) {
    for kind in ["containers", "initContainers"] {
        let path = SPEC.child(kind);
        let containers = restored.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten();
        for (i, (container, old)) in containers.zip(old_spec.items(kind)).enumerate() {
            let item = path.index(i);
            let changed = !same(container, old);
            restore_compute(container, old);
            let other = !same(container, old);
            if kind == "containers" {
                if other {
                    e.forbidden(&SPEC, "only cpu and memory resources are mutable");
                }
                continue;
            }
            if other {
                let detail = "only cpu and memory resources for init or sidecar containers are mutable";
                e.forbidden(&item, detail);
            }
            let restarts =
                container.items("resizePolicy").iter().any(|p| p.text("restartPolicy") == "RestartContainer");
            if changed && !is_sidecar(container) && restarts {
                let detail =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                e.forbidden(&item, detail);
            }
        }
    }
}

/// Puts cpu and memory in `resources` back to what they were. A list of amounts without any is as good as none.
fn restore_compute(owner: &mut Value, old: &Value) {
    let mut restored = json!({});
    for field in ["limits", "requests"] {
        let mut list = owner.sub("resources").sub(field).clone();
        if list.is_null() {
            list = json!({});
        }
        for name in ["cpu", "memory"] {
            put(&mut list, name, old.sub("resources").sub(field).sub(name).clone());
        }
        if !is_empty(&list) {
            put(&mut restored, field, list);
        }
    }
    put(&mut restored, "claims", owner.sub("resources").sub("claims").clone());
    if owner.has("resources") || old.has("resources") {
        let stated = old.has("resources") || !is_empty(&restored);
        put(owner, "resources", if stated { restored } else { Value::Null });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;

    fn pod(spec: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "resourceVersion": "1"}, "spec": {
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30}});
        for (key, value) in spec.as_object().expect("an object") {
            pod["spec"][key] = value.clone();
        }
        pod
    }

    fn container(name: &str, resources: Value) -> Value {
        json!({"name": name, "image": "a", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
            "resources": resources})
    }

    fn texts(new: Value, old: Value) -> Vec<String> {
        errors::texts(|e| resize(&pod(new), &pod(old), e))
    }

    fn cpu(amount: &str) -> Value {
        json!({"requests": {"cpu": amount}})
    }

    #[test]
    fn pod_level_resources_change_but_do_not_go() {
        let of =
            |resources: Value| json!({"containers": [container("c", json!({}))], "resources": resources});
        assert!(texts(of(cpu("2")), of(cpu("1"))).is_empty());
        assert_eq!(
            texts(of(json!({"requests": {"memory": "1Gi"}})), of(cpu("1"))),
            ["spec.resources.requests: Forbidden: pod-level resource requests cannot be removed"]
        );
    }

    #[test]
    fn init_containers_change_unless_that_restarts_them() {
        let of = |amount: &str, policy: &str| {
            let mut init = container("i", cpu(amount));
            init["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
            json!({"containers": [container("c", cpu("1"))], "initContainers": [init]})
        };
        assert!(texts(of("2", "NotRequired"), of("1", "NotRequired")).is_empty());
        assert_eq!(
            texts(of("2", "RestartContainer"), of("1", "RestartContainer")),
            [
                "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
            ]
        );
    }

    #[test]
    fn containers_stay_and_so_do_other_resources() {
        let of = |containers: Value| json!({ "containers": containers });
        assert_eq!(
            texts(of(json!([container("d", cpu("1"))])), of(json!([container("c", cpu("1"))]))),
            ["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"]
        );
        let storage = json!({"requests": {"cpu": "1"}, "limits": {"ephemeral-storage": "1Gi"}});
        assert_eq!(
            texts(of(json!([container("c", storage)])), of(json!([container("c", cpu("1"))]))),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
    }
}
