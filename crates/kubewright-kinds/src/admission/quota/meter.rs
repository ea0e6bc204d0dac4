//! How objects count against quotas: which limits of a quota they touch, and what each of them takes. Pure.

use jiff::{SignedDuration, Timestamp};
use kubewright_apiserver::admission::Operation;
use kubewright_machinery::quantity::{Format, Quantity};
use kubewright_machinery::{meta, time};
use serde_json::Value;

use super::scopes::{self, Scope};
use crate::admission::amounts::{Amounts, add, raise, read};
use crate::admission::default_storage_class::class_of;
use crate::admission::pod_amounts::{Counting, Side, has_pod_level, total};
use crate::fields::{at, int, items, text};
use crate::validation::is_of_pods;

/// How the objects of a resource are measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meter {
    /// Pods: their number and what they ask for.
    Pods,
    /// Services: their number, node ports and load balancers.
    Services,
    /// PersistentVolumeClaims: their number and size, also by storage class.
    VolumeClaims,
    /// ResourceClaims: their number and devices by class.
    DeviceClaims,
    /// Everything else is counted. The names under which it is.
    Objects(Vec<Box<str>>),
}

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// As many devices as an allocation of all of them can have.
const MOST_DEVICES: i64 = 32;

/// Resources that a pod must ask for, container by container, where a quota limits them.
const MUST_BE_SPECIFIED: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

fn whole(n: i64) -> Quantity {
    Quantity::new(n, Format::DecimalSi)
}

fn length(list: &[Value]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

/// Whether the name is not one of Kubernetes' own resources.
fn is_foreign(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

impl Meter {
    /// The meter of `plural.group`.
    pub(super) fn of(group: &str, plural: &str) -> Self {
        match (group, plural) {
            ("", "pods") => Meter::Pods,
            ("", "services") => Meter::Services,
            ("", "persistentvolumeclaims") => Meter::VolumeClaims,
            ("resource.k8s.io", "resourceclaims") => Meter::DeviceClaims,
            ("", "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets") => {
                Meter::Objects(vec![format!("count/{plural}").into(), plural.into()])
            }
            ("", _) => Meter::Objects(vec![format!("count/{plural}").into()]),
            _ => Meter::Objects(vec![format!("count/{plural}.{group}").into()]),
        }
    }

    /// Whether the operation can change what is used.
    pub(super) fn handles(&self, operation: Operation, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        match self {
            Meter::Pods => match subresource {
                "" => operation == Operation::Create,
                "resize" => operation == Operation::Update,
                _ => false,
            },
            Meter::Services | Meter::DeviceClaims => writes,
            Meter::VolumeClaims => writes && matches!(subresource, "" | "status"),
            Meter::Objects(_) => operation == Operation::Create && subresource.is_empty(),
        }
    }

    /// Whether a limit of that name is about these objects.
    pub(super) fn counts(&self, name: &str) -> bool {
        match self {
            Meter::Pods => {
                name == "count/pods"
                    || is_of_pods(name)
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || (is_foreign(name) && name.starts_with("requests."))
            }
            Meter::Services => {
                matches!(
                    name,
                    "count/services" | "services" | "services.nodeports" | "services.loadbalancers"
                )
            }
            Meter::VolumeClaims => {
                let name = name.split_once(STORAGE_CLASS).map_or(name, |(_, of_class)| of_class);
                matches!(name, "count/persistentvolumeclaims" | "persistentvolumeclaims" | "requests.storage")
            }
            Meter::DeviceClaims => {
                name == "count/resourceclaims.resource.k8s.io" || name.ends_with(DEVICE_CLASS)
            }
            Meter::Objects(names) => names.iter().any(|n| **n == *name),
        }
    }

    /// Whether an object is in a scope. Kinds without scopes are in none.
    pub(super) fn in_scope(&self, scope: &Scope<'_>, object: &Value) -> bool {
        match self {
            Meter::Pods => scopes::has_pod(scope, object),
            Meter::VolumeClaims => scopes::has_claim(scope, object),
            Meter::Services | Meter::DeviceClaims | Meter::Objects(_) => false,
        }
    }

    /// What the object has to say about the limited resources `names` and does not.
    pub(super) fn unspecified(&self, names: &[&str], object: &Value) -> Option<String> {
        if *self != Meter::Pods || has_pod_level(object) {
            return None;
        }
        let all = || {
            items(object, &["spec", "containers"]).iter().chain(items(object, &["spec", "initContainers"]))
        };
        let missing = MUST_BE_SPECIFIED.iter().filter(|name| names.contains(name)).filter_map(|name| {
            let silent = all().filter(|c| {
                let of = |side: &str| read(at(c, &["resources", side]));
                !compute(&of("requests"), &of("limits")).contains_key(*name)
            });
            let mut silent: Vec<_> = silent.map(|c| text(c, &["name"])).collect();
            silent.sort_unstable();
            silent.dedup();
            (!silent.is_empty()).then(|| format!("{name} for: {}", silent.join(",")))
        });
        let missing: Vec<_> = missing.collect();
        (!missing.is_empty()).then(|| format!("must specify {}", missing.join("; ")))
    }

    /// What an object takes.
    pub(super) fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        match self {
            Meter::Pods => of_pod(object, now),
            Meter::Services => of_service(object),
            Meter::VolumeClaims => of_volume_claim(object),
            Meter::DeviceClaims => of_device_claim(object),
            Meter::Objects(names) => names.iter().map(|name| (name.clone(), whole(1))).collect(),
        }
    }
}

/// The names under which a pod's or container's amounts are limited.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".into(), whole(1))]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            usage.insert(name.into(), request.clone());
            usage.insert(format!("requests.{name}").into(), request.clone());
        }
        if let Some(limit) = limits.get(name) {
            usage.insert(format!("limits.{name}").into(), limit.clone());
        }
    }
    for (name, request) in requests {
        if name.starts_with("hugepages-") {
            usage.insert(name.clone(), request.clone());
            usage.insert(format!("requests.{name}").into(), request.clone());
        } else if is_foreign(name) && !name.starts_with("requests.") {
            usage.insert(format!("requests.{name}").into(), request.clone());
        }
    }
    usage
}

/// Whether a pod still counts: it neither ended nor overstayed its deletion.
fn is_alive(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    let overdue = || {
        let asked = time::parse(meta::deletion_timestamp(pod)?).ok()?;
        let grace = SignedDuration::from_secs(meta::deletion_grace_period_seconds(pod)?);
        Some(asked.checked_add(grace).is_ok_and(|end| now > end))
    };
    overdue() != Some(true)
}

fn of_pod(pod: &Value, now: Timestamp) -> Amounts {
    let mut usage = Amounts::from([("count/pods".into(), whole(1))]);
    if is_alive(pod, now) {
        add(
            &mut usage,
            &compute(&total(pod, Side::Requests, Counting::ALL), &total(pod, Side::Limits, Counting::ALL)),
        );
    }
    usage
}

fn of_service(service: &Value) -> Amounts {
    let ports = items(service, &["spec", "ports"]);
    let (mut node_ports, mut balancers) = (0, 0);
    match text(service, &["spec", "type"]) {
        "NodePort" => node_ports = length(ports),
        "LoadBalancer" => {
            balancers = 1;
            // Ports are not assigned yet: what counts is what will be.
            node_ports = match at(service, &["spec", "allocateLoadBalancerNodePorts"]) {
                Value::Bool(false) => {
                    ports.iter().map(|p| i64::from(int(p, &["nodePort"]).unwrap_or(0) != 0)).sum()
                }
                _ => length(ports),
            };
        }
        _ => {}
    }
    Amounts::from([
        ("count/services".into(), whole(1)),
        ("services".into(), whole(1)),
        ("services.nodeports".into(), whole(node_ports)),
        ("services.loadbalancers".into(), whole(balancers)),
    ])
}

fn of_volume_claim(claim: &Value) -> Amounts {
    let mut usage = Amounts::from([
        ("persistentvolumeclaims".into(), whole(1)),
        ("count/persistentvolumeclaims".into(), whole(1)),
    ]);
    let class = class_of(claim);
    let mut charge = |name: &str, quantity: Quantity| {
        if !class.is_empty() {
            usage.insert(format!("{class}{STORAGE_CLASS}{name}").into(), quantity.clone());
        }
        usage.insert(name.into(), quantity);
    };
    charge("persistentvolumeclaims", whole(1));
    let amount = |path: &[&str]| match at(claim, path) {
        Value::Null => None,
        value => Quantity::from_value(value).ok(),
    };
    if let Some(mut size) = amount(&["spec", "resources", "requests", "storage"]) {
        if let Some(allocated) = amount(&["status", "allocatedResources", "storage"]).filter(|a| *a > size) {
            size = allocated;
        }
        // Whole bytes alone are valid in a quota's status.
        if !size.is_integer() {
            size.round_up(0);
        }
        charge("requests.storage", size);
    }
    usage
}

/// Devices that one request takes, by class.
fn of_request(request: &Value) -> Amounts {
    let count = match text(request, &["allocationMode"]) {
        "All" => MOST_DEVICES,
        _ => int(request, &["count"]).unwrap_or(1),
    };
    Amounts::from([(format!("{}{DEVICE_CLASS}", text(request, &["deviceClassName"])).into(), whole(count))])
}

fn of_device_claim(claim: &Value) -> Amounts {
    let mut usage = Amounts::from([("count/resourceclaims.resource.k8s.io".into(), whole(1))]);
    for request in items(claim, &["spec", "devices", "requests"]) {
        let exactly = at(request, &["exactly"]);
        if exactly.is_object() {
            add(&mut usage, &of_request(exactly));
            continue;
        }
        // Any of the alternatives may be chosen: the most of each counts.
        let mut most = Amounts::new();
        items(request, &["firstAvailable"]).iter().for_each(|sub| raise(&mut most, &of_request(sub)));
        add(&mut usage, &most);
    }
    usage
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::amounts::listed;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    #[test]
    fn a_pod_takes_what_it_asks_for_while_it_lives() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {
            "requests": {"cpu": "1", "example.com/gpu": "2"}, "limits": {"memory": "1Gi", "example.com/gpu": "2"}}}]}});
        assert_eq!(
            listed(&Meter::Pods.usage(&pod, now())),
            "count/pods=1,cpu=1,limits.memory=1Gi,pods=1,requests.cpu=1,requests.example.com/gpu=2"
        );
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        assert_eq!(listed(&Meter::Pods.usage(&pod, now())), "count/pods=1");
    }

    #[test]
    fn containers_that_say_nothing_are_named_by_resource() {
        let pod = json!({"spec": {"containers": [
            {"name": "b"}, {"name": "a"}, {"name": "c", "resources": {"requests": {"cpu": "1"}}}]}});
        let names = ["pods", "requests.memory", "requests.cpu", "requests.ephemeral-storage"];
        assert_eq!(
            Meter::Pods.unspecified(&names, &pod).unwrap(),
            "must specify requests.cpu for: a,b; requests.memory for: a,b,c"
        );
        assert_eq!(Meter::Pods.unspecified(&["pods"], &pod), None);
    }

    #[test]
    fn load_balancers_take_node_ports_unless_they_do_without() {
        let mut service =
            json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2, "nodePort": 31000}]}});
        let ports = |s: &Value| Meter::Services.usage(s, now())["services.nodeports"].value();
        assert_eq!(ports(&service), 2);
        service["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
        assert_eq!(ports(&service), 1);
    }

    #[test]
    fn claims_are_charged_to_their_class_too() {
        let claim =
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}}});
        assert_eq!(
            listed(&Meter::VolumeClaims.usage(&claim, now())),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2"
        );
        assert!(Meter::VolumeClaims.counts("gold.storageclass.storage.k8s.io/requests.storage"));
        assert!(!Meter::VolumeClaims.counts("requests.cpu"));
    }

    #[test]
    fn the_most_of_alternative_devices_counts() {
        let claim = json!({"spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu", "count": 2, "allocationMode": "ExactCount"}},
            {"name": "b", "firstAvailable": [
                {"deviceClassName": "gpu", "count": 3}, {"deviceClassName": "nic", "allocationMode": "All"}]},
        ]}}});
        assert_eq!(
            listed(&Meter::DeviceClaims.usage(&claim, now())),
            "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=5,\
             nic.deviceclass.resource.k8s.io/devices=32"
        );
    }

    #[test]
    fn other_objects_are_counted_under_their_qualified_name() {
        assert_eq!(Meter::of("apps", "deployments"), Meter::Objects(vec!["count/deployments.apps".into()]));
        let secrets = Meter::of("", "secrets");
        assert!(
            secrets.counts("secrets") && secrets.counts("count/secrets") && !secrets.counts("configmaps")
        );
        assert!(!secrets.handles(Operation::Update, ""));
    }
}
