//! Cluster roles made of others: their rules follow those of the roles that their selectors take.
//!
//! Which rules these are is the server's knowledge ([`aggregated_rules`]); this file applies them, as a field manager of
//! its own, when they are others than those that are there.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kubewright::{Action, Context, Controller, Key, Reconciler, Result, Verb};
use kubewright_apiserver::authz::rbac::aggregated_rules;
use serde_json::{Value, json};

/// The name of the controller, and of its field manager.
const NAME: &str = "clusterrole-aggregation-controller";

/// Keeps aggregated cluster roles.
pub struct ClusterRoles;

impl ClusterRoles {
    /// The controller of all cluster roles.
    pub fn controller() -> Controller {
        Controller::new(ClusterRoles).named(NAME).writes::<ClusterRole>([Verb::Patch]).watches::<ClusterRole>(
            // Whatever changes may be part of any of them.
            |_, view| {
                let roles = view.list::<ClusterRole>()?;
                let aggregated = roles.iter().filter(|role| role.aggregation_rule.is_some());
                Ok(aggregated.filter_map(|role| Some(Key::new("", role.metadata.name.as_deref()?))).collect())
            },
        )
    }
}

impl Reconciler for ClusterRoles {
    type Object = ClusterRole;

    async fn reconcile(&self, role: Arc<ClusterRole>, cx: &Context) -> Result<Action> {
        if role.aggregation_rule.is_none() || role.metadata.deletion_timestamp.is_some() {
            return Ok(Action::never());
        }
        let all = cx.list::<ClusterRole>().await?.into_vec();
        let all: Vec<Value> = all.iter().filter_map(|role| serde_json::to_value(&**role).ok()).collect();
        let own = serde_json::to_value(&*role).unwrap_or_default();
        let Some(rules) = aggregated_rules(&own, &all) else { return Ok(Action::done()) };
        if own["rules"].as_array().map_or(&[][..], Vec::as_slice) == rules {
            return Ok(Action::done());
        }
        let api: Api<ClusterRole> = Api::all(cx.client());
        let name = cx.key().name();
        let wanted = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        });
        match api.patch(name, &PatchParams::apply(NAME).force(), &Patch::Apply(wanted)).await {
            Ok(_) => Ok(Action::done()),
            // It has gone meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Action::done()),
            Err(error) => Err(error.into()),
        }
    }
}
