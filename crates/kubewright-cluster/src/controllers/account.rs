//! The service account `default` that every namespace has.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kubewright::{Action, Context, Controller, Reconciler, Result, Verb};

use super::{of_each_namespace, unless_late};

const ACCOUNT: &str = "default";

/// Makes the account, again when somebody removes it.
pub struct Accounts;

impl Accounts {
    /// The controller of all namespaces.
    pub fn controller() -> Controller {
        Controller::new(Accounts)
            .named("serviceaccount")
            .writes::<ServiceAccount>([Verb::Create])
            .watches::<ServiceAccount>(of_each_namespace(ACCOUNT))
    }
}

impl Reconciler for Accounts {
    type Object = Namespace;

    async fn reconcile(&self, namespace: Arc<Namespace>, cx: &Context) -> Result<Action> {
        let name = cx.key().name();
        if namespace.metadata.deletion_timestamp.is_some()
            || cx.get::<ServiceAccount>((name, ACCOUNT)).await?.is_some()
        {
            return Ok(Action::done());
        }
        let metadata =
            ObjectMeta { name: Some(ACCOUNT.into()), namespace: Some(name.into()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        let api: Api<ServiceAccount> = Api::namespaced(cx.client(), name);
        unless_late(api.create(&PostParams::default(), &account).await)?;
        Ok(Action::done())
    }
}
