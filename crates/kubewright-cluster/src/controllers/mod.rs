//! The controllers of the embedded cluster: ordinary Kubewright controllers, each with the rights it declares, under an
//! identity whose role grants them.

mod account;
mod cluster_roles;
mod deployment;
mod labels;
mod namespace;
pub(crate) mod pods;
mod replicaset;
mod root_certificate;
mod scheduler;
mod status;
pub(crate) mod time;

use kubewright::{Controller, Key, Object, View};

pub use account::Accounts;
pub use cluster_roles::ClusterRoles;
pub use deployment::Deployments;
pub use namespace::Namespaces;
pub use replicaset::ReplicaSets;
pub use root_certificate::RootCertificates;
pub use scheduler::Scheduler;

use crate::identity::Identity;
use crate::nodes::{Kubelet, Machine};

/// All of them, each with who it is. `root` is the certificate of the cluster's authority, which every namespace gets
/// to see.
pub(crate) fn all(root: String) -> Vec<(Identity, Controller)> {
    use Identity::{Account, User};
    vec![
        (Account("service-account-controller"), Accounts::controller()),
        (Account("root-ca-cert-publisher"), RootCertificates::controller(root)),
        (Account("clusterrole-aggregation-controller"), ClusterRoles::controller()),
        (Account("namespace-controller"), Namespaces::controller()),
        (Account("deployment-controller"), Deployments::controller()),
        (Account("replicaset-controller"), ReplicaSets::controller()),
        (User("system:kube-scheduler"), Scheduler::controller()),
        (Account("node-controller"), Machine::controller()),
        (Account("node-controller"), Kubelet::controller()),
    ]
}

/// An object that every namespace has, under this name, concerns its namespace.
fn of_each_namespace<K: Object>(name: &'static str) -> impl Fn(&K, &View) -> kubewright::Result<Vec<Key>> {
    move |object, _| {
        let meta = object.meta();
        let namespace = meta.namespace.as_deref().filter(|_| meta.name.as_deref() == Some(name));
        Ok(namespace.map(Key::from).into_iter().collect())
    }
}

/// Makes of an answer to a write what it means to whoever looks again after the next event: somebody else was quicker, or
/// the namespace goes or is gone.
fn unless_late<T>(result: kube::Result<T>) -> kubewright::Result {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) || terminates(&status) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a write was refused because its namespace goes, and not for want of a right.
fn terminates(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_right_that_is_missing_is_an_error_and_a_namespace_that_goes_is_none() {
        let refused = |causes: serde_json::Value| {
            let status = json!({"status": "Failure", "message": "no", "reason": "Forbidden", "code": 403,
                "details": {"causes": causes}});
            let status: kube::core::Status = serde_json::from_value(status).unwrap();
            unless_late::<()>(Err(kube::Error::Api(Box::new(status))))
        };
        assert!(refused(json!([])).is_err());
        assert!(refused(json!([{"reason": "NamespaceTerminating", "message": "", "field": ""}])).is_ok());
    }
}
