//! Defaults of pods and pod templates.

use kubewright_machinery::quantity::Quantity;
use serde_json::{Map, Value, json};

use crate::fields::{absent, empty, items_mut, member, object_mut, zero};

/// A Pod: what a template gets, and what only pods get.
pub(crate) fn pod(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    pod_spec(spec);
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            if let Some(resources) = member(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
    pod_level_resources(spec);
    absent(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in ["containers", "initContainers"] {
            for container in items_mut(spec, list) {
                for port in items_mut(container, "ports") {
                    if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
                        zero(port, "hostPort", number);
                    }
                }
            }
        }
    }
}

/// A PodTemplateSpec at `path`.
pub(crate) fn template(object: &mut Value, path: &[&str]) {
    if let Some(template) = object_mut(object, path)
        && let Some(spec) = member(template, "spec")
    {
        pod_spec(spec);
    }
}

/// A PodSpec wherever it is.
pub(crate) fn pod_spec(spec: &mut Map<String, Value>) {
    empty(spec, "dnsPolicy", "ClusterFirst");
    empty(spec, "restartPolicy", "Always");
    absent(spec, "securityContext", json!({}));
    absent(spec, "terminationGracePeriodSeconds", 30);
    empty(spec, "schedulerName", "default-scheduler");
    // An old name of the same field.
    let account = |spec: &Map<String, Value>, name: &str| {
        spec.get(name).and_then(Value::as_str).unwrap_or_default().to_string()
    };
    let mut name = account(spec, "serviceAccountName");
    if name.is_empty() {
        name = account(spec, "serviceAccount");
    }
    if !name.is_empty() {
        spec.insert("serviceAccountName".into(), name.as_str().into());
        spec.insert("serviceAccount".into(), name.into());
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for one in items_mut(spec, list) {
            container(one);
        }
    }
    for one in items_mut(spec, "volumes") {
        volume(one);
    }
    for name in ["overhead"] {
        if let Some(list) = member(spec, name) {
            round(list);
        }
    }
    if let Some(resources) = member(spec, "resources") {
        round_requirements(resources);
    }
}

/// One container of any sort.
pub(crate) fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    empty(container, "imagePullPolicy", policy);
    empty(container, "terminationMessagePath", "/dev/termination-log");
    empty(container, "terminationMessagePolicy", "File");
    if let Some(resources) = member(container, "resources") {
        round_requirements(resources);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = member(container, name) {
            zero(probe, "timeoutSeconds", 1);
            zero(probe, "periodSeconds", 10);
            zero(probe, "successThreshold", 1);
            zero(probe, "failureThreshold", 3);
            handler(probe);
        }
    }
    if let Some(lifecycle) = member(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = member(lifecycle, hook) {
                handler(hook);
            }
        }
    }
    for variable in items_mut(container, "env") {
        if let Some(source) = member(variable, "valueFrom") {
            field_ref(source);
        }
    }
}

fn handler(handler: &mut Map<String, Value>) {
    if let Some(get) = member(handler, "httpGet") {
        empty(get, "path", "/");
        empty(get, "scheme", "HTTP");
    }
    if let Some(grpc) = member(handler, "grpc") {
        absent(grpc, "service", "");
    }
}

fn field_ref(owner: &mut Map<String, Value>) {
    if let Some(selector) = member(owner, "fieldRef") {
        empty(selector, "apiVersion", "v1");
    }
}

/// 0644 as JSON has it.
const FILE_MODE: i64 = 0o644;

/// A volume of a pod.
fn volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|k| k == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = member(volume, source) {
            absent(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = member(volume, "downwardAPI") {
        items_mut(source, "items").for_each(field_ref);
    }
    if let Some(projected) = member(volume, "projected") {
        for source in items_mut(projected, "sources") {
            if let Some(token) = member(source, "serviceAccountToken") {
                absent(token, "expirationSeconds", 3600);
            }
            if let Some(api) = member(source, "downwardAPI") {
                items_mut(api, "items").for_each(field_ref);
            }
        }
    }
    if let Some(path) = member(volume, "hostPath") {
        absent(path, "type", "");
    }
    if let Some(image) = member(volume, "image") {
        let policy = pull_policy(image.get("reference").and_then(Value::as_str).unwrap_or_default());
        empty(image, "pullPolicy", policy);
    }
    if let Some(claim) = member(volume, "ephemeral")
        .and_then(|e| member(e, "volumeClaimTemplate"))
        .and_then(|t| member(t, "spec"))
    {
        super::storage::claim_spec(claim);
    }
}

/// `Always` for the tag `latest`, stated or implied; `IfNotPresent` otherwise, also for a reference that is none.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let path = name.rfind('/').map_or(name, |i| &name[i + 1..]);
    let (repository, tag) = path.split_once(':').map_or((path, None), |(r, t)| (r, Some(t)));
    let part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let valid = !repository.is_empty() && repository.bytes().all(part);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) if valid => "Always",
        _ => "IfNotPresent",
    }
}

/// Requests that are not stated equal the limits; in pods only, never in templates.
fn requests_from_limits(resources: &mut Map<String, Value>) {
    let Some(Value::Object(limits)) = resources.get("limits") else { return };
    let requests = resources.get("requests").and_then(Value::as_object);
    let unstated = |name: &String| requests.is_none_or(|requests| !requests.contains_key(name));
    let implied: Vec<(String, Value)> = limits
        .iter()
        .filter(|(name, _)| unstated(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // Requests are made even where there is nothing to put into them.
    if let Some(requests) = crate::fields::member_made(resources, "requests") {
        requests.extend(implied);
    }
}

/// Pod-level requests follow from the containers' or from the pod-level limits, limits of huge pages from the
/// containers' (KEP-2837). Nothing is done where nothing is stated at the level of the pod.
fn pod_level_resources(spec: &mut Map<String, Value>) {
    let stated =
        |spec: &Map<String, Value>, field: &str| match spec.get("resources").and_then(|r| r.get(field)) {
            Some(Value::Object(list)) => list.clone(),
            _ => Map::new(),
        };
    let (limits, requests) = (stated(spec, "limits"), stated(spec, "requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let huge: Vec<(String, Quantity)> = resource_names(spec, "limits")
        .into_iter()
        .filter(|name| name.starts_with("hugepages-") && !requests.contains_key(name))
        .filter_map(|name| aggregate(spec, "limits", &name).map(|sum| (name, sum)))
        .collect();
    if !huge.is_empty()
        && let Some(limits) = member(spec, "resources").and_then(|r| crate::fields::member_made(r, "limits"))
    {
        for (name, sum) in huge {
            absent(limits, &name, sum.to_string());
        }
    }
    let limits = stated(spec, "limits");
    if limits.is_empty() {
        return;
    }
    let sums = ["cpu", "memory"]
        .into_iter()
        .filter_map(|n| aggregate(spec, "requests", n).map(|sum| (n.to_string(), sum.to_string().into())));
    let like_limits = limits
        .into_iter()
        .filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-"));
    let implied: Vec<(String, Value)> = sums.chain(like_limits).collect();
    if implied.is_empty() {
        return;
    }
    let Some(resources) = member(spec, "resources") else { return };
    let Some(requests) = crate::fields::member_made(resources, "requests") else { return };
    for (name, amount) in implied {
        requests.entry(name).or_insert(amount);
    }
}

/// The containers of a list of a pod spec.
fn containers<'v>(spec: &'v Map<String, Value>, list: &str) -> impl Iterator<Item = &'v Value> {
    spec.get(list).and_then(Value::as_array).into_iter().flatten()
}

/// The resources that any container states.
fn resource_names(spec: &Map<String, Value>, field: &str) -> std::collections::BTreeSet<String> {
    let all = containers(spec, "containers").chain(containers(spec, "initContainers"));
    all.flat_map(|c| c["resources"][field].as_object().into_iter().flat_map(Map::keys)).cloned().collect()
}

/// What the containers state of one resource together; none where none does. Sidecars add up; other init containers run
/// before the rest, next to the sidecars started so far.
fn aggregate(spec: &Map<String, Value>, field: &str, name: &str) -> Option<Quantity> {
    let amount = |c: &Value| c["resources"][field].get(name).and_then(|v| Quantity::from_value(v).ok());
    let (mut sum, mut any) = (Quantity::default(), false);
    for quantity in containers(spec, "containers").filter_map(amount) {
        sum.add(&quantity);
        any = true;
    }
    let (mut sidecars, mut peak) = (Quantity::default(), Quantity::default());
    for container in containers(spec, "initContainers") {
        let Some(quantity) = amount(container) else { continue };
        any = true;
        if container["restartPolicy"] == "Always" {
            sidecars.add(&quantity);
            sum.add(&quantity);
        } else {
            let mut now = quantity;
            now.add(&sidecars);
            if now > peak {
                peak = now;
            }
        }
    }
    any.then_some(if peak > sum { peak } else { sum })
}

fn round_requirements(resources: &mut Map<String, Value>) {
    for name in ["limits", "requests"] {
        if let Some(list) = member(resources, name) {
            round(list);
        }
    }
}

/// Amounts finer than a thousandth are rounded up (a ResourceList of any kind).
pub(crate) fn round(list: &mut Map<String, Value>) {
    for value in list.values_mut() {
        // Only these spellings can be finer than a thousandth.
        let fine = value.as_str().is_some_and(|t| t.contains(['n', 'u', '.', '-', 'e', 'E']));
        if fine
            && let Ok(mut quantity) = Quantity::from_value(value)
            && !quantity.round_up(-3)
        {
            *value = quantity.to_string().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_always_pulled() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("host:5000/a/b", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("a@sha256:0123", "IfNotPresent"),
            ("", "IfNotPresent"),
            ("UPPER", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn limits_fill_requests_in_pods_only() {
        let spec =
            json!({"containers": [{"name": "c", "image": "a:1", "resources": {"limits": {"cpu": "1"}}}]});
        let mut object = json!({"spec": spec});
        pod(&mut object);
        assert_eq!(object["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "1"}));
        assert_eq!(object["spec"]["enableServiceLinks"], true);
        let mut owner = json!({"template": {"spec": spec}});
        template(&mut owner, &["template"]);
        assert!(owner["template"]["spec"]["containers"][0]["resources"].get("requests").is_none());
        assert!(owner["template"]["spec"].get("enableServiceLinks").is_none());
    }

    #[test]
    fn pod_level_requests_follow_from_the_containers_or_the_limits() {
        let mut object = json!({"spec": {"resources": {"limits": {"cpu": "4", "memory": "1Gi"}}, "containers": [
            {"name": "c", "image": "a:1", "resources": {"requests": {"cpu": "1"}}},
            {"name": "d", "image": "a:1", "resources": {"requests": {"cpu": "500m"}}},
        ]}});
        pod(&mut object);
        assert_eq!(object["spec"]["resources"]["requests"], json!({"cpu": "1500m", "memory": "1Gi"}));
    }

    #[test]
    fn amounts_below_a_thousandth_are_rounded_up() {
        let mut list =
            json!({"cpu": "100u", "memory": "1Gi", "x": "1."}).as_object().cloned().unwrap_or_default();
        round(&mut list);
        assert_eq!(Value::Object(list), json!({"cpu": "1m", "memory": "1Gi", "x": "1."}));
    }
}
