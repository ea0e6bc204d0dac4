//! The controllers of the embedded cluster: ordinary Kubewright controllers, each with the rights it declares.

mod account;
mod cluster_roles;
mod deployment;
mod labels;
mod namespace;
pub(crate) mod pods;
mod replicaset;
mod scheduler;
pub(crate) mod time;

use kubewright::Controller;

pub use account::Accounts;
pub use cluster_roles::ClusterRoles;
pub use deployment::Deployments;
pub use namespace::Namespaces;
pub use replicaset::ReplicaSets;
pub use scheduler::Scheduler;

use crate::nodes::{Kubelet, Machine};

/// All of them. `root` is the certificate of the cluster's authority, which every namespace gets to see.
pub fn all(root: String) -> Vec<Controller> {
    vec![
        Accounts::controller(root),
        ClusterRoles::controller(),
        Namespaces::controller(),
        Deployments::controller(),
        ReplicaSets::controller(),
        Scheduler::controller(),
        Machine::controller(),
        Kubelet::controller(),
    ]
}
