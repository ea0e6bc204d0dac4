//! What `kubectl get` prints of the built-in kinds: columns as data, cells as functions of the object.
//!
//! Columns are in `catalogue/columns.txt` (read when the first table is asked for); a kind without an entry there has
//! a name and an age.

mod cluster;
mod core;
mod pods;
mod workloads;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use kubewright_apiserver::resources::{Column, Columns, NameAndAge};
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::selector::LabelSelector;
use kubewright_machinery::time;
use serde_json::{Map, Value};

use crate::fields::{at, items, text};

const COLUMNS: &str = include_str!("../../catalogue/columns.txt");

/// Fills the cells of one object.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

struct Table {
    key: String,
    cells: Cells,
    conditions: fn(&Value) -> Vec<Value>,
}

impl Columns for Table {
    fn columns(&self) -> &[Column] {
        static ALL: LazyLock<HashMap<String, Vec<Column>>> = LazyLock::new(parse);
        ALL.get(&self.key).map_or(&[], Vec::as_slice)
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        (self.cells)(object, now)
    }

    fn conditions(&self, object: &Value) -> Vec<Value> {
        (self.conditions)(object)
    }
}

fn parse() -> HashMap<String, Vec<Column>> {
    let standard = NameAndAge;
    let described: Vec<&str> = standard.columns().iter().map(|c| &*c.description).collect();
    let mut tables: HashMap<String, Vec<Column>> = HashMap::new();
    let mut current: &mut Vec<Column> = &mut Vec::new();
    for line in COLUMNS.lines().filter(|l| !l.starts_with('#')) {
        if let Some(key) = line.strip_prefix("table ") {
            current = tables.entry(key.trim_start_matches("- ").to_string()).or_default();
            continue;
        }
        let mut parts = line.splitn(5, '|');
        let mut next = || parts.next().unwrap_or_default();
        let (name, ty, format, priority) = (next(), next(), next(), next());
        let description = match next() {
            "@name" => described[0].to_string(),
            "@age" => described[1].to_string(),
            text => text.replace("\\n", "\n").replace("\\\\", "\\"),
        };
        current.push(Column {
            name: name.into(),
            ty: ty.into(),
            format: format.into(),
            description: description.into(),
            priority: priority.parse().unwrap_or_default(),
        });
    }
    tables
}

/// The columns of a kind.
pub(crate) fn columns(group: &str, plural: &str) -> Arc<dyn Columns> {
    let cells: Cells = match (group, plural) {
        ("", "pods") => pods::cells,
        ("", "podtemplates") => workloads::pod_template,
        ("policy", "poddisruptionbudgets") => workloads::disruption_budget,
        ("", "replicationcontrollers") => workloads::replication_controller,
        ("apps", "replicasets") => workloads::replica_set,
        ("apps", "daemonsets") => workloads::daemon_set,
        ("apps", "deployments") => workloads::deployment,
        ("apps", "statefulsets") => workloads::stateful_set,
        ("apps", "controllerrevisions") => workloads::controller_revision,
        ("batch", "jobs") => workloads::job,
        ("batch", "cronjobs") => workloads::cron_job,
        ("autoscaling", "horizontalpodautoscalers") => workloads::autoscaler,
        ("", "services") => core::service,
        ("", "endpoints") => core::endpoints,
        ("", "nodes") => core::node,
        ("" | "events.k8s.io", "events") => core::event,
        ("", "namespaces") => core::namespace,
        ("", "secrets") => core::secret,
        ("", "serviceaccounts") => core::service_account,
        ("", "configmaps") => core::config_map,
        ("", "persistentvolumes") => core::persistent_volume,
        ("", "persistentvolumeclaims") => core::persistent_volume_claim,
        ("", "resourcequotas") => core::resource_quota,
        ("", "componentstatuses") => core::component_status,
        ("discovery.k8s.io", "endpointslices") => core::endpoint_slice,
        ("networking.k8s.io", "ingresses") => cluster::ingress,
        ("networking.k8s.io", "ingressclasses") => cluster::ingress_class,
        ("networking.k8s.io", "networkpolicies") => cluster::network_policy,
        ("networking.k8s.io", "servicecidrs") => cluster::service_cidr,
        ("networking.k8s.io", "ipaddresses") => cluster::ip_address,
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => cluster::role_binding,
        ("certificates.k8s.io", "certificatesigningrequests") => cluster::certificate_signing_request,
        ("coordination.k8s.io", "leases") => cluster::lease,
        ("storage.k8s.io", "storageclasses") => cluster::storage_class,
        ("storage.k8s.io", "volumeattributesclasses") => cluster::volume_attributes_class,
        ("storage.k8s.io", "volumeattachments") => cluster::volume_attachment,
        ("storage.k8s.io", "csinodes") => cluster::csi_node,
        ("storage.k8s.io", "csidrivers") => cluster::csi_driver,
        ("scheduling.k8s.io", "priorityclasses") => cluster::priority_class,
        ("node.k8s.io", "runtimeclasses") => cluster::runtime_class,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => cluster::webhooks,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => cluster::validating_policy,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => cluster::mutating_policy,
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
        ) => cluster::policy_binding,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => cluster::flow_schema,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => cluster::priority_level,
        ("resource.k8s.io", "resourceclaims") => cluster::resource_claim,
        ("resource.k8s.io", "resourceslices") => cluster::resource_slice,
        ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => {
            |object, now| vec![name(object), age(object, now)]
        }
        _ => return Arc::new(NameAndAge),
    };
    let table_group = if group == "events.k8s.io" { "" } else { group };
    let key = if table_group.is_empty() { plural.to_string() } else { format!("{table_group} {plural}") };
    let conditions = if plural == "pods" { pods::conditions } else { |_: &Value| Vec::new() };
    Arc::new(Table { key, cells, conditions })
}

/// The cell of `metadata.name`.
fn name(object: &Value) -> Value {
    text(object, &["metadata", "name"]).into()
}

/// The cell of the age.
fn age(object: &Value, now: Timestamp) -> Value {
    since(at(object, &["metadata", "creationTimestamp"]), now).into()
}

/// How long ago a time was, roughly; `<unknown>` for none.
fn since(value: &Value, now: Timestamp) -> String {
    let parsed = value.as_str().and_then(|t| time::parse(t).ok());
    match parsed {
        Some(then) => rough(now.as_second() - then.as_second()),
        None => "<unknown>".into(),
    }
}

/// A duration in seconds as people read it: two units at most, fewer as it grows.
pub(crate) fn rough(seconds: i64) -> String {
    let two =
        |a: i64, x: &str, b: i64, y: &str| if b == 0 { format!("{a}{x}") } else { format!("{a}{x}{b}{y}") };
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// An integer cell; 0 when absent.
fn number(object: &Value, path: &[&str]) -> Value {
    at(object, path).as_i64().unwrap_or_default().into()
}

/// A string, or a stand-in when it is empty.
fn or<'v>(value: &'v str, other: &'v str) -> &'v str {
    if value.is_empty() { other } else { value }
}

/// `key=value` of a plain map of labels.
fn labels(map: &Value) -> String {
    let Some(map) = map.as_object().filter(|m| !m.is_empty()) else { return "<none>".into() };
    let pairs: Vec<String> =
        map.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    pairs.join(",")
}

/// A LabelSelector as text.
fn selector(value: &Value) -> String {
    match LabelSelector::from_value(Some(value).filter(|v| !v.is_null())) {
        Ok(selector) => or(&selector.to_string(), "<none>").to_string(),
        Err(_) => "<error>".into(),
    }
}

/// Names and images of the containers of a pod spec.
fn containers(spec: &Value) -> [Value; 2] {
    let of = |field: &str| -> Value {
        let all: Vec<&str> =
            items(spec, &["containers"]).iter().map(|c| c[field].as_str().unwrap_or_default()).collect();
        all.join(",").into()
    };
    [of("name"), of("image")]
}

/// A quantity of a resource list; `0` when absent.
fn amount(list: &Value, name: &str) -> String {
    Quantity::from_value(&list[name]).map_or_else(|_| "0".into(), |q| q.to_string())
}

/// A boolean as Go's `%v` of a pointer prints it: `True`, `False` or `<unset>`.
fn bool_text(value: &Value) -> &'static str {
    match value {
        Value::Bool(true) => "True",
        Value::Bool(false) => "False",
        _ => "<unset>",
    }
}

/// The first three of a list and how many more there are; `<unset>` for none.
fn some_of(list: &[String]) -> String {
    match list.len() {
        0 => "<unset>".into(),
        n if n > 3 => format!("{} + {} more...", list[..3].join(","), n - 3),
        _ => list.join(","),
    }
}

/// The entry of a list of conditions.
fn condition<'v>(object: &'v Value, path: &[&str], kind: &str) -> Option<&'v Value> {
    items(object, path).iter().find(|c| c["type"] == kind)
}

/// Number of entries of a map.
fn size(map: &Value) -> i64 {
    map.as_object().map_or(0, Map::len) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_get_coarser_as_they_grow() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (65, "65s"),
            (120, "2m"),
            (125, "2m5s"),
            (3600, "60m"),
            (4 * 3600 + 60, "4h1m"),
            (30 * 3600, "30h"),
            (50 * 3600, "2d2h"),
            (20 * 86400, "20d"),
            (3 * 365 * 86400, "3y"),
            (9 * 365 * 86400, "9y"),
        ] {
            assert_eq!(rough(seconds), text);
        }
    }

    #[test]
    fn every_table_has_as_many_cells_as_columns() {
        let now = Timestamp::UNIX_EPOCH;
        for facts in crate::catalogue::Catalogue::builtin().resources() {
            let table = columns(facts.group, facts.plural);
            assert!(!table.columns().is_empty(), "{}", facts.plural);
            let object = serde_json::json!({"metadata": {"name": "x"}, "spec": {}, "status": {}});
            assert_eq!(table.cells(&object, now).len(), table.columns().len(), "{}", facts.plural);
        }
    }
}
