//! Validation of the built-in kinds: what a kube-apiserver refuses, in its words and in the order of its checks.
//!
//! Objects reach these functions decoded, with defaults and with the right types. They are pure: what depends on
//! other objects (addresses that are taken, quotas, classes that must exist) is the business of strategies and
//! admission. Metadata is checked where each kind's validator checks it; the generic server checks it once more.

mod admission_policies;
mod admission_registration;
mod affinity;
mod apiregistration;
mod autoscaling;
mod certificates;
mod checks;
mod claim;
mod cluster;
mod conditions;
mod config;
mod container;
mod container_env;
mod coordination;
mod cron_job;
mod discovery;
mod errors;
mod events;
mod flowcontrol;
mod gojson;
mod gopod;
mod gotypes;
mod ingress;
mod job;
mod job_indexes;
mod job_status;
mod linediff;
mod metadata;
mod names_of;
mod networking;
mod persistent_volume;
mod pod;
mod pod_quantities;
mod pod_resize;
mod pod_security;
mod pod_update;
mod policy;
mod probe;
mod quota;
mod rbac;
mod read;
mod resources;
mod scheduling;
mod service;
mod stateful_set;
mod storage;
mod time_zones;
mod volume;
mod volume_projected;
mod volume_sources;
mod workloads;

pub(crate) use certificates::pem_kinds;
pub(crate) use checks::{parse_cidr, parse_ip};
use errors::Errors;
use kubewright_machinery::field::Error;
pub(crate) use resources::is_of_pods;
use serde_json::Value;

/// Validates an object to be created.
pub fn create(group: &str, kind: &str, object: &Value) -> Vec<Error> {
    let mut errors = Errors::new();
    let e = &mut errors;
    match (group, kind) {
        ("", "Pod") => pod::create(object, e),
        ("", "PodTemplate") => pod::pod_template_create(object, e),
        ("", "ConfigMap") => config::config_map_create(object, e),
        ("", "Secret") => config::secret_create(object, e),
        ("", "ServiceAccount") => config::service_account_create(object, e),
        ("", "Namespace") => cluster::namespace_create(object, e),
        ("", "Node") => cluster::node_create(object, e),
        ("", "Service") => service::create(object, e),
        ("", "PersistentVolume") => persistent_volume::create(object, e),
        ("", "PersistentVolumeClaim") => claim::create(object, e),
        ("", "ReplicationController") => workloads::controller_create(object, e),
        ("", "Binding") => pod::binding(object, e),
        ("apps", "Deployment") => workloads::deployment_create(object, e),
        ("apps", "ReplicaSet") => workloads::replica_set_create(object, e),
        ("apps", "DaemonSet") => workloads::daemon_set_create(object, e),
        ("apps", "StatefulSet") => stateful_set::create(object, e),
        ("apps", "ControllerRevision") => stateful_set::revision_create(object, e),
        ("autoscaling", "Scale") => workloads::scale(object, e),
        ("rbac.authorization.k8s.io", "Role") => rbac::role(object, e),
        ("rbac.authorization.k8s.io", "ClusterRole") => rbac::cluster_role(object, e),
        ("rbac.authorization.k8s.io", "RoleBinding") => rbac::role_binding(object, e),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rbac::cluster_role_binding(object, e),
        ("batch", "Job") => job::create(object, e),
        ("batch", "CronJob") => cron_job::create(object, e),
        ("", "ResourceQuota") => quota::quota_create(object, e),
        ("", "LimitRange") => quota::limit_range(object, e),
        ("", "Endpoints") => discovery::endpoints_create(object, e),
        ("", "Event") => events::create(object, events::Via::Core, e),
        ("events.k8s.io", "Event") => events::create(object, events::Via::Events, e),
        ("discovery.k8s.io", "EndpointSlice") => discovery::slice_create(object, e),
        ("networking.k8s.io", "NetworkPolicy") => networking::policy_create(object, e),
        ("networking.k8s.io", "IPAddress") => networking::address_create(object, e),
        ("networking.k8s.io", "ServiceCIDR") => networking::service_cidr_create(object, e),
        ("networking.k8s.io", "Ingress") => ingress::create(object, e),
        ("networking.k8s.io", "IngressClass") => ingress::class_create(object, e),
        ("storage.k8s.io", "StorageClass") => storage::class_create(object, e),
        ("storage.k8s.io", "VolumeAttributesClass") => storage::attributes_class_create(object, e),
        ("storage.k8s.io", "VolumeAttachment") => storage::attachment_create(object, e),
        ("storage.k8s.io", "CSINode") => storage::csi_node_create(object, e),
        ("storage.k8s.io", "CSIDriver") => storage::driver_create(object, e),
        ("storage.k8s.io", "CSIStorageCapacity") => storage::capacity_create(object, e),
        ("coordination.k8s.io", "Lease") => coordination::create(object, e),
        ("scheduling.k8s.io", "PriorityClass") => scheduling::priority_create(object, e),
        ("node.k8s.io", "RuntimeClass") => scheduling::runtime_create(object, e),
        ("policy", "PodDisruptionBudget") => policy::budget(object, e),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::create(object, e),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::create(object, e),
        ("apiregistration.k8s.io", "APIService") => apiregistration::create(object, e),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flowcontrol::schema(object, e),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => flowcontrol::level(object, e),
        ("admissionregistration.k8s.io", kind) => admission(kind, object, None, e),
        _ => {}
    }
    errors.into_vec()
}

/// What is wrong with the cluster addresses of a service, by themselves: asked before any are allocated.
pub(crate) fn service_addresses(service: &Value, old: Option<&Value>) -> Vec<Error> {
    let mut errors = Errors::new();
    service::addresses(service, old, &mut errors);
    errors.into_vec()
}

/// Validates an update of an object.
pub fn update(group: &str, kind: &str, object: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Errors::new();
    let e = &mut errors;
    match (group, kind) {
        ("", "Pod") => pod_update::update(object, old, e),
        ("", "PodTemplate") => pod::pod_template_update(object, old, e),
        ("", "ConfigMap") => config::config_map_update(object, old, e),
        ("", "Secret") => config::secret_update(object, old, e),
        ("", "ServiceAccount") => config::service_account_update(object, old, e),
        ("", "Namespace") => {
            cluster::namespace_create(object, e);
            metadata::update(object, old, e);
        }
        ("", "Node") => {
            cluster::node_create(object, e);
            cluster::node_update(object, old, e);
        }
        ("", "Service") => service::update(object, old, e),
        ("", "PersistentVolume") => {
            persistent_volume::create(object, e);
            persistent_volume::update(object, old, e);
        }
        ("", "PersistentVolumeClaim") => {
            claim::create(object, e);
            claim::update(object, old, e);
        }
        ("", "ReplicationController") => {
            workloads::controller_create(object, e);
            workloads::controller_update(object, old, e);
        }
        ("apps", "Deployment") => workloads::deployment_update(object, old, e),
        ("apps", "ReplicaSet") => {
            workloads::replica_set_create(object, e);
            workloads::replica_set_update(object, old, e);
        }
        ("apps", "DaemonSet") => {
            workloads::daemon_set_create(object, e);
            workloads::daemon_set_update(object, old, e);
        }
        ("apps", "StatefulSet") => stateful_set::update(object, old, e),
        ("apps", "ControllerRevision") => stateful_set::revision_update(object, old, e),
        ("autoscaling", "Scale") => workloads::scale(object, e),
        ("rbac.authorization.k8s.io", "Role") => {
            rbac::role(object, e);
            metadata::update(object, old, e);
        }
        ("rbac.authorization.k8s.io", "ClusterRole") => {
            rbac::cluster_role(object, e);
            metadata::update(object, old, e);
        }
        ("rbac.authorization.k8s.io", "RoleBinding") => {
            rbac::role_binding(object, e);
            rbac::binding_update(object, old, e);
        }
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => {
            rbac::cluster_role_binding(object, e);
            rbac::binding_update(object, old, e);
        }
        ("batch", "Job") => job::update(object, old, e),
        ("batch", "CronJob") => cron_job::update(object, old, e),
        ("", "ResourceQuota") => quota::quota_update(object, old, e),
        ("", "LimitRange") => quota::limit_range(object, e),
        ("", "Endpoints") => discovery::endpoints_update(object, old, e),
        ("", "Event") => events::update(object, old, events::Via::Core, e),
        ("events.k8s.io", "Event") => events::update(object, old, events::Via::Events, e),
        ("discovery.k8s.io", "EndpointSlice") => discovery::slice_update(object, old, e),
        ("networking.k8s.io", "NetworkPolicy") => networking::policy_update(object, old, e),
        ("networking.k8s.io", "IPAddress") => networking::address_update(object, old, e),
        ("networking.k8s.io", "ServiceCIDR") => networking::service_cidr_update(object, old, e),
        ("networking.k8s.io", "Ingress") => ingress::update(object, old, e),
        ("networking.k8s.io", "IngressClass") => ingress::class_update(object, old, e),
        ("storage.k8s.io", "StorageClass") => storage::class_update(object, old, e),
        ("storage.k8s.io", "VolumeAttributesClass") => storage::attributes_class_update(object, old, e),
        ("storage.k8s.io", "VolumeAttachment") => storage::attachment_update(object, old, e),
        ("storage.k8s.io", "CSINode") => storage::csi_node_update(object, old, e),
        ("storage.k8s.io", "CSIDriver") => storage::driver_update(object, old, e),
        ("storage.k8s.io", "CSIStorageCapacity") => storage::capacity_update(object, old, e),
        ("coordination.k8s.io", "Lease") => coordination::update(object, old, e),
        ("scheduling.k8s.io", "PriorityClass") => scheduling::priority_update(object, old, e),
        ("node.k8s.io", "RuntimeClass") => scheduling::runtime_update(object, old, e),
        ("policy", "PodDisruptionBudget") => policy::budget(object, e),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::update(object, old, e),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            certificates::update(object, old, certificates::Via::Main, e);
        }
        ("apiregistration.k8s.io", "APIService") => apiregistration::update(object, old, e),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flowcontrol::schema(object, e),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => flowcontrol::level(object, e),
        ("admissionregistration.k8s.io", kind) => admission(kind, object, Some(old), e),
        _ => metadata::update(object, old, e),
    }
    errors.into_vec()
}

/// Validates an update of an object through its `status` subresource.
pub fn update_status(group: &str, kind: &str, object: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Errors::new();
    let e = &mut errors;
    match (group, kind) {
        ("", "Pod") => pod_update::status(object, old, e),
        ("", "Namespace") => cluster::namespace_status(object, old, e),
        ("", "Node") => {
            cluster::node_create(object, e);
            cluster::node_update(object, old, e);
        }
        ("", "Service") => service::status(object, old, e),
        ("", "PersistentVolume") => persistent_volume::status(object, old, e),
        ("", "PersistentVolumeClaim") => claim::status(object, old, e),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => workloads::replica_status(object, old, e),
        ("apps", "Deployment") => workloads::deployment_status(object, old, e),
        ("apps", "DaemonSet") => workloads::daemon_set_status(object, old, e),
        ("apps", "StatefulSet") => stateful_set::status(object, old, e),
        ("batch", "Job") => job_status::update(object, old, e),
        ("batch", "CronJob") => cron_job::update(object, old, e),
        ("", "ResourceQuota") => quota::quota_status(object, old, e),
        ("networking.k8s.io", "Ingress") => ingress::status(object, old, e),
        ("policy", "PodDisruptionBudget") => policy::budget_status(object, e),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::status(object, old, e),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            certificates::update(object, old, certificates::Via::Status, e);
        }
        ("apiregistration.k8s.io", "APIService") => apiregistration::status(object, old, e),
        ("flowcontrol.apiserver.k8s.io", _) => flowcontrol::status(object, e),
        _ => metadata::update(object, old, e),
    }
    errors.into_vec()
}

/// Validates an update of an object through a subresource other than `status`: `ephemeralcontainers` and
/// `resize` of pods, `finalize` of namespaces, `approval` of certificate signing requests.
pub fn update_subresource(
    group: &str,
    kind: &str,
    subresource: &str,
    object: &Value,
    old: &Value,
) -> Vec<Error> {
    let mut errors = Errors::new();
    let e = &mut errors;
    match (group, kind, subresource) {
        ("", "Pod", "ephemeralcontainers") => pod_update::ephemeral_containers(object, old, e),
        ("", "Pod", "resize") => pod_resize::resize(object, old, e),
        ("", "Namespace", "finalize") => cluster::namespace_finalize(object, old, e),
        ("certificates.k8s.io", "CertificateSigningRequest", "approval") => {
            certificates::update(object, old, certificates::Via::Approval, e);
        }
        (_, _, "status") => return update_status(group, kind, object, old),
        _ => return update(group, kind, object, old),
    }
    errors.into_vec()
}

/// Kinds of `admissionregistration.k8s.io`; `old` is `None` on creation.
fn admission(kind: &str, object: &Value, old: Option<&Value>, e: &mut Errors) {
    match kind {
        "ValidatingWebhookConfiguration" => {
            admission_registration::webhooks(object, old, admission_registration::Webhooks::Validating, e);
        }
        "MutatingWebhookConfiguration" => {
            admission_registration::webhooks(object, old, admission_registration::Webhooks::Mutating, e);
        }
        "ValidatingAdmissionPolicy" => admission_policies::validating(object, old, e),
        "MutatingAdmissionPolicy" => admission_policies::mutating(object, old, e),
        "ValidatingAdmissionPolicyBinding" => admission_policies::binding(object, false, e),
        "MutatingAdmissionPolicyBinding" => admission_policies::binding(object, true, e),
        _ => {}
    }
}
