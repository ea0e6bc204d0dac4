//! Who the cluster's own parts are to the API server. Each has the identity that Kubernetes gives it, with the bootstrap
//! role of that name, so that authorizers judge it as they judge a user's operator; nobody is in `system:masters`.
//!
//! The controllers share one manager, and so one cache, as those of kube-controller-manager do with
//! `--use-service-account-credentials`: its informers read as `system:kube-controller-manager`, whose role lists and
//! watches everything, and what a controller asks and writes it sends as its own account. A manager for each identity
//! would keep pods and nodes three times in memory; a client costs one task and no time to speak of.
//!
//! The simulated machines are one controller that looks after all nodes, and so is `node-controller`: its role covers what
//! they do. `system:node:NAME` would take a client a node, authorization by `Node`, and a third party to take the
//! taint off that `NodeRestriction` forbids a node to touch.

use kubewright_apiserver::authn::{AUTHENTICATED, UserInfo};

/// The user whom the shared informers, and the recorder of events, work as.
pub(crate) const MANAGER: Identity = Identity::User("system:kube-controller-manager");

/// Who a part of the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A user of this name.
    User(&'static str),
    /// A service account of this name in `kube-system`.
    Account(&'static str),
}

impl Identity {
    /// The user as authentication would find them.
    pub(crate) fn user(self) -> UserInfo {
        match self {
            Self::User(name) => UserInfo::new(name, &[AUTHENTICATED]),
            Self::Account(name) => UserInfo::new(
                format!("system:serviceaccount:kube-system:{name}"),
                &["system:serviceaccounts", "system:serviceaccounts:kube-system", AUTHENTICATED],
            ),
        }
    }
}
