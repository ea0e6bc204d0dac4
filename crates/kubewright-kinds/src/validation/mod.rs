//! Validation of the built-in kinds: what a kube-apiserver refuses, in its words and in the order of its checks.
//!
//! Objects reach these functions decoded, with defaults and with the right types. They are pure: what depends on
//! other objects (addresses that are taken, quotas, classes that must exist) is the business of strategies and
//! admission. Metadata is checked where each kind's validator checks it; the generic server checks it once more.

mod affinity;
mod checks;
mod claim;
mod cluster;
mod config;
mod container;
mod container_env;
mod errors;
mod gojson;
mod gopod;
mod gotypes;
mod linediff;
mod metadata;
mod names_of;
mod persistent_volume;
mod pod;
mod pod_quantities;
mod pod_security;
mod pod_update;
mod probe;
mod rbac;
mod read;
mod resources;
mod service;
mod volume;
mod volume_projected;
mod volume_sources;
mod workloads;

use errors::Errors;
use kubewright_machinery::field::Error;
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
        ("autoscaling", "Scale") => workloads::scale(object, e),
        ("rbac.authorization.k8s.io", "Role") => rbac::role(object, e),
        ("rbac.authorization.k8s.io", "ClusterRole") => rbac::cluster_role(object, e),
        ("rbac.authorization.k8s.io", "RoleBinding") => rbac::role_binding(object, e),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rbac::cluster_role_binding(object, e),
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
        ("", "Pod", "resize") => pod_update::resize(object, old, e),
        ("", "Namespace", "finalize") => cluster::namespace_finalize(object, old, e),
        (_, _, "status") => return update_status(group, kind, object, old),
        _ => return update(group, kind, object, old),
    }
    errors.into_vec()
}
