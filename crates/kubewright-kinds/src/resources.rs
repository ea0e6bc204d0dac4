//! The built-in resources as the server serves them: facts of the catalogue, rules of the strategies, columns.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use kubewright_apiserver::resources::{
    Action, Backing, Connect, Generation, MetaChecks, Propagation, Resource, ScaleFacts, Storage, Strategy,
    Subresource, SubresourceAction, Verbs, WriteRules,
};
use kubewright_apiserver::reviews;
use kubewright_apiserver::{aggregation, crds};

use crate::actions::{Binding, Eviction};
use crate::catalogue::{Catalogue, ResourceFacts, SubresourceFacts};
use crate::components::Components;
use crate::connections::{Admitted, NoConnection};
use crate::convert::{AutoscalerConverter, EventConverter};
use crate::defaults::{cluster, storage};
use crate::strategies::rbac::NoEscalation;
use crate::strategies::service_allocator::ServiceAllocator;
use crate::strategies::{
    Allocator, Builtin, Part, Row, StatusMetadata, certificates, core, pods, services, workloads,
};
use crate::{defaults, tables, warnings};

/// What the built-in resources need from outside.
#[derive(Clone)]
pub struct Options {
    /// Range of cluster addresses of services.
    pub service_range: IpNet,
    /// Range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// Takes over `log`, `exec`, `attach`, `portforward` and `proxy`; by default they answer that nothing runs there.
    pub connect: Arc<dyn Connect>,
    /// Issues tokens (`serviceaccounts/token`); without it the subresource is not served.
    pub token: Option<Arc<dyn Action>>,
    /// The components of the control plane that run, as component statuses name them.
    pub components: Vec<Box<str>>,
}

impl Options {
    /// Services in `service_range`, node ports 30000 to 32767, no connections, no tokens, a store alone.
    pub fn new(service_range: IpNet) -> Self {
        Self {
            service_range,
            node_ports: 30000..=32767,
            connect: Arc::new(NoConnection),
            token: None,
            components: vec!["etcd-0".into()],
        }
    }
}

/// All resources, in discovery's order. What reviews answer is the server's own business.
pub fn resources(options: &Options) -> Vec<Resource> {
    let services = Arc::new(ServiceAllocator::new(options.service_range, options.node_ports.clone()));
    Catalogue::builtin().resources().iter().map(|facts| resource(facts, options, &services)).collect()
}

fn resource(facts: &ResourceFacts, options: &Options, services: &Arc<ServiceAllocator>) -> Resource {
    // Definitions and APIServices are the server's own; only their type comes from here.
    if (facts.group, facts.plural) == (crds::GROUP, crds::PLURAL) {
        return crds::resource(facts.schema.clone());
    }
    if (facts.group, facts.plural) == (aggregation::GROUP, aggregation::PLURAL) {
        return aggregation::resource(facts.schema.clone());
    }
    let row = row(facts.group, facts.version, facts.plural);
    let has_status = facts.subresources.iter().any(|s| s.name == "status");
    let allocator: Option<Arc<dyn Allocator>> = match (facts.group, facts.plural) {
        ("", "services") => Some(Arc::clone(services) as _),
        ("rbac.authorization.k8s.io", _) => Some(Arc::new(NoEscalation)),
        _ => None,
    };
    Resource {
        singular: facts.singular.into(),
        short_names: facts.short_names.iter().map(|s| (*s).into()).collect(),
        categories: facts.categories.iter().map(|s| (*s).into()).collect(),
        verbs: Verbs::named(facts.verbs.iter().copied()),
        storage_version_hash: facts.storage_version_hash.into(),
        schema: facts.schema.clone(),
        backing: backing(facts, options),
        strategy: Arc::new(Builtin::new(facts.schema.clone(), row, has_status, allocator)),
        columns: tables::columns(facts.group, facts.plural),
        subresources: facts
            .subresources
            .iter()
            .filter_map(|sub| subresource(facts, sub, row, options))
            .collect(),
        rules: write_rules(facts.group, facts.plural),
        deprecation: deprecation(facts),
        ..Resource::stored(facts.group, facts.version, facts.kind, facts.plural, facts.namespaced)
    }
}

fn deprecation(facts: &ResourceFacts) -> Option<Box<str>> {
    match (facts.group, facts.plural) {
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+".into()),
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into())
        }
        _ => None,
    }
}

fn backing(facts: &ResourceFacts, options: &Options) -> Backing {
    if let Some(answers) = reviews::answers(facts.group, facts.plural) {
        return Backing::Virtual(answers);
    }
    match (facts.group, facts.version, facts.plural) {
        // One store of events: the old form.
        ("events.k8s.io", _, "events") => Backing::Stored(Storage {
            converter: Some(Arc::new(EventConverter::new())),
            ..Storage::same("", "v1", "events")
        }),
        ("autoscaling", "v1", plural) => Backing::Stored(Storage {
            converter: Some(Arc::new(AutoscalerConverter::new())),
            ..Storage::same("autoscaling", "v2", plural)
        }),
        ("", _, "componentstatuses") => Backing::Virtual(Arc::new(Components(options.components.clone()))),
        ("", _, "bindings") => Backing::Virtual(Arc::new(Binding)),
        _ => Backing::Stored(Storage::same(facts.group, facts.version, facts.plural)),
    }
}

fn subresource(
    facts: &ResourceFacts,
    sub: &SubresourceFacts,
    row: Row,
    options: &Options,
) -> Option<Subresource> {
    let part = |row: Row| -> Arc<dyn Strategy> { Arc::new(Part::other(facts.schema.clone(), row)) };
    let action = match (facts.plural, sub.name) {
        (_, "status") => SubresourceAction::Update(Arc::new(Part::status(facts.schema.clone(), row))),
        (_, "scale") => SubresourceAction::Scale(scale()),
        ("namespaces", "finalize") => SubresourceAction::Update(part(core::NAMESPACE_FINALIZE)),
        ("pods", "resize") => SubresourceAction::Update(part(pods::RESIZE)),
        ("pods", "ephemeralcontainers") => SubresourceAction::Update(part(pods::EPHEMERAL_CONTAINERS)),
        ("certificatesigningrequests", "approval") => {
            SubresourceAction::Update(part(certificates::CSR_APPROVAL))
        }
        ("pods", "binding") => SubresourceAction::Action(Arc::new(Binding)),
        ("pods", "eviction") => SubresourceAction::Action(Arc::new(Eviction)),
        ("serviceaccounts", "token") => SubresourceAction::Action(options.token.clone()?),
        _ => SubresourceAction::Connect(Arc::new(Admitted(Arc::clone(&options.connect)))),
    };
    let (group, version) = sub.group_version.unwrap_or((facts.group, facts.version));
    // Kinds that only a subresource takes are in no table.
    let schema = (sub.kind != facts.kind)
        .then(|| Catalogue::builtin().kind(group, version, sub.kind).cloned())
        .flatten();
    Some(Subresource {
        schema,
        name: sub.name.into(),
        group: group.into(),
        version: version.into(),
        kind: sub.kind.into(),
        verbs: Verbs::named(sub.verbs.iter().copied()),
        action,
    })
}

fn scale() -> ScaleFacts {
    ScaleFacts {
        spec_replicas: ".spec.replicas".into(),
        status_replicas: ".status.replicas".into(),
        selector: ".spec.selector".into(),
    }
}

/// The rules of a kind that are functions.
fn row(group: &str, version: &str, plural: &str) -> Row {
    match (group, plural) {
        ("", "namespaces") => core::NAMESPACE,
        ("", "nodes") => core::NODE,
        ("", "pods") => pods::POD,
        ("", "services") => services::SERVICE,
        ("", "secrets") => core::SECRET,
        ("", "events") => core::EVENT,
        ("events.k8s.io", "events") => core::EVENT_NEW,
        ("", "replicationcontrollers") => core::REPLICATION_CONTROLLER,
        ("", "podtemplates") => core::POD_TEMPLATE,
        ("", "limitranges") => core::LIMIT_RANGE,
        ("", "resourcequotas") => core::RESOURCE_QUOTA,
        ("", "persistentvolumes") => core::PERSISTENT_VOLUME,
        ("", "persistentvolumeclaims") => core::PERSISTENT_VOLUME_CLAIM,
        ("apps", "deployments") => workloads::DEPLOYMENT,
        ("apps", "replicasets") => workloads::REPLICA_SET,
        ("apps", "statefulsets") => workloads::STATEFUL_SET,
        ("apps", "daemonsets") => workloads::DAEMON_SET,
        ("batch", "jobs") => workloads::JOB,
        ("batch", "cronjobs") => workloads::CRON_JOB,
        ("autoscaling", "horizontalpodautoscalers") if version == "v1" => workloads::AUTOSCALER_V1,
        ("autoscaling", "horizontalpodautoscalers") => workloads::AUTOSCALER,
        ("networking.k8s.io", "networkpolicies") => workloads::NETWORK_POLICY,
        ("networking.k8s.io", "ingressclasses") => workloads::INGRESS_CLASS,
        ("discovery.k8s.io", "endpointslices") => workloads::ENDPOINT_SLICE,
        ("coordination.k8s.io", "leases") => workloads::LEASE,
        ("certificates.k8s.io", "certificatesigningrequests") => certificates::CSR,
        ("storage.k8s.io", "storageclasses") => {
            Row { default: storage::storage_class, warnings: warnings::storage_class, ..Row::PLAIN }
        }
        ("storage.k8s.io", "csistoragecapacities") => {
            Row { warnings: warnings::storage_capacity, ..Row::PLAIN }
        }
        ("node.k8s.io", "runtimeclasses") => {
            Row { default: cluster::runtime_class, warnings: warnings::runtime_class, ..Row::PLAIN }
        }
        ("storage.k8s.io", "csidrivers") => workloads::CSI_DRIVER,
        ("", "serviceaccounts") => Row { warnings: warnings::service_account, ..Row::PLAIN },
        ("", "endpoints") => {
            Row { default: defaults::core::endpoints, warnings: warnings::endpoints, ..Row::PLAIN }
        }
        ("networking.k8s.io", "ingresses") => {
            Row { warnings: warnings::ingress, status_warnings: warnings::ingress_status, ..Row::PLAIN }
        }
        ("storage.k8s.io", "volumeattachments") => workloads::VOLUME_ATTACHMENT,
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            Row { default: cluster::binding, ..Row::PLAIN }
        }
        ("scheduling.k8s.io", "priorityclasses") => core::PRIORITY_CLASS,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => {
            Row { default: cluster::flow_schema, status_metadata: StatusMetadata::Keep, ..Row::PLAIN }
        }
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            Row { default: cluster::priority_level, status_metadata: StatusMetadata::Keep, ..Row::PLAIN }
        }
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => Row { default: cluster::webhooks, ..Row::PLAIN },
        ("admissionregistration.k8s.io", "validatingadmissionpolicies" | "mutatingadmissionpolicies") => {
            Row { default: cluster::policy, status_metadata: StatusMetadata::Keep, ..Row::PLAIN }
        }
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
        ) => Row { default: cluster::policy_binding, ..Row::PLAIN },
        ("resource.k8s.io", "resourceslices") => {
            Row { fields: &["spec.nodeName", "spec.driver"], ..Row::PLAIN }
        }
        ("resource.k8s.io", _) => Row { status_metadata: StatusMetadata::Keep, ..Row::PLAIN },
        _ => Row::PLAIN,
    }
}

/// The rules of a kind that are data.
fn write_rules(group: &str, plural: &str) -> WriteRules {
    let fields = |names: &[&str]| Generation::Fields(names.iter().map(|n| (*n).into()).collect());
    let generation = match (group, plural) {
        ("apps", "controllerrevisions") => Generation::None,
        ("apps", "deployments") => fields(&["spec", "metadata.annotations"]),
        ("apps" | "batch" | "policy" | "flowcontrol.apiserver.k8s.io", _)
        | ("", "pods" | "replicationcontrollers")
        | ("networking.k8s.io", "ingresses" | "networkpolicies" | "ingressclasses") => fields(&["spec"]),
        ("admissionregistration.k8s.io", plural) if plural.ends_with("webhookconfigurations") => {
            fields(&["webhooks"])
        }
        ("admissionregistration.k8s.io", _) => fields(&["spec"]),
        ("", "podtemplates") => fields(&["template"]),
        ("scheduling.k8s.io", "priorityclasses") => Generation::Fields(vec![]),
        // Its strategy counts changes of labels too.
        ("discovery.k8s.io", "endpointslices") => Generation::AllExcept(vec![]),
        ("resource.k8s.io", "resourceslices" | "deviceclasses") => fields(&["spec"]),
        _ => Generation::None,
    };
    WriteRules {
        create_on_update: matches!(
            (group, plural),
            ("", "events" | "services" | "endpoints" | "limitranges")
                | ("events.k8s.io", "events")
                | ("coordination.k8s.io", "leases")
                | ("rbac.authorization.k8s.io", _)
                | ("node.k8s.io", "runtimeclasses")
        ),
        unconditional_update: !matches!(
            (group, plural),
            ("policy", "poddisruptionbudgets")
                | ("coordination.k8s.io", "leases")
                | ("node.k8s.io", "runtimeclasses")
                | (
                    "storage.k8s.io",
                    "csidrivers" | "csinodes" | "volumeattachments" | "csistoragecapacities"
                )
                | ("admissionregistration.k8s.io", _)
        ),
        delete_returns_object: matches!(
            (group, plural),
            (
                "",
                "pods"
                    | "services"
                    | "serviceaccounts"
                    | "podtemplates"
                    | "resourcequotas"
                    | "persistentvolumes"
                    | "persistentvolumeclaims"
            ) | ("storage.k8s.io", _)
                | ("resource.k8s.io", _)
        ),
        default_propagation: match (group, plural) {
            ("", "replicationcontrollers") | ("batch", "jobs") => Propagation::Orphan,
            _ => Propagation::Background,
        },
        garbage_collected: !matches!((group, plural), ("" | "events.k8s.io", "events")),
        generation,
        name: crate::names::rule(group, plural),
        meta_checks: MetaChecks::Strategy,
        ..WriteRules::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_kind_of_discovery_is_served_once() {
        let options = Options::new("10.0.0.0/24".parse().expect("a range"));
        let all = resources(&options);
        let mut seen = std::collections::HashSet::new();
        for resource in &all {
            assert!(seen.insert((resource.api_version(), resource.plural.clone())), "{resource:?} twice");
        }
        assert!(all.iter().any(|r| &*r.plural == "pods" && r.subresource("eviction").is_some()));
        assert_eq!(all.len(), Catalogue::builtin().resources().len());
    }

    #[test]
    fn the_page_of_kinds_has_one_row_for_each_and_tells_which_have_columns_of_their_own() {
        let page = include_str!("../../../docs/kinds.md");
        let rows: Vec<Vec<&str>> = page
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
            .collect();
        let all = resources(&Options::new("10.0.0.0/24".parse().expect("a range")));
        for resource in &all {
            let version = resource.api_version();
            let about: Vec<_> = rows.iter().filter(|r| r[0] == &*resource.kind && r[1] == version).collect();
            assert_eq!(about.len(), 1, "rows of {version} {}", resource.kind);
            let columns: Vec<&str> = resource.columns.columns().iter().map(|c| &*c.name).collect();
            let table = if columns == ["Name", "Created At"] { "no" } else { "yes" };
            assert_eq!((about[0].len(), about[0][3]), (5, table), "the row of {version} {}", resource.kind);
        }
        assert_eq!(rows.len(), all.len(), "rows of kinds that are not served");
    }
}
