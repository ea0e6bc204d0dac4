//! What every namespace has: the service account `default`, and the authority's certificate in `kube-root-ca.crt`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kubewright::{Action, Context, Controller, Key, Reconciler, Result, Verb};

const ACCOUNT: &str = "default";
const ROOT: &str = "kube-root-ca.crt";
const ROOT_KEY: &str = "ca.crt";

/// Makes the account and the certificate, again when somebody removes or changes them.
pub struct Accounts {
    root: String,
}

impl Accounts {
    /// The controller of all namespaces.
    pub fn controller(root: String) -> Controller {
        let into_namespace =
            |key: Option<String>| Ok(key.map(|name| Key::new("", &name)).into_iter().collect());
        Controller::new(Accounts { root })
            .named("serviceaccount")
            .writes::<ServiceAccount>([Verb::Create])
            .writes::<ConfigMap>([Verb::Create, Verb::Update])
            .watches::<ServiceAccount>(move |account, _| {
                into_namespace(account.metadata.namespace.clone().filter(|_| is(&account.metadata, ACCOUNT)))
            })
            .watches::<ConfigMap>(move |map, _| {
                into_namespace(map.metadata.namespace.clone().filter(|_| is(&map.metadata, ROOT)))
            })
    }
}

fn is(meta: &ObjectMeta, name: &str) -> bool {
    meta.name.as_deref() == Some(name)
}

impl Reconciler for Accounts {
    type Object = Namespace;

    async fn reconcile(&self, namespace: Arc<Namespace>, cx: &Context) -> Result<Action> {
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(Action::never());
        }
        let name = cx.key().name();
        let metadata = |object: &str| ObjectMeta {
            name: Some(object.into()),
            namespace: Some(name.into()),
            ..ObjectMeta::default()
        };
        if cx.get::<ServiceAccount>((name, ACCOUNT)).await?.is_none() {
            let account = ServiceAccount { metadata: metadata(ACCOUNT), ..ServiceAccount::default() };
            let api: Api<ServiceAccount> = Api::namespaced(cx.client(), name);
            unless_late(api.create(&PostParams::default(), &account).await)?;
        }
        let maps: Api<ConfigMap> = Api::namespaced(cx.client(), name);
        let data = [(ROOT_KEY.to_owned(), self.root.clone())].into();
        match cx.get::<ConfigMap>((name, ROOT)).await? {
            None => {
                let map = ConfigMap { metadata: metadata(ROOT), data: Some(data), ..ConfigMap::default() };
                unless_late(maps.create(&PostParams::default(), &map).await)?;
            }
            Some(map) if map.data.as_ref() != Some(&data) => {
                let map = ConfigMap { data: Some(data), ..(*map).clone() };
                unless_late(maps.replace(ROOT, &PostParams::default(), &map).await)?;
            }
            Some(_) => {}
        }
        Ok(Action::done())
    }
}

/// Somebody else was quicker, or the namespace goes or is gone: what is wanted then follows from the next event.
fn unless_late<T>(result: kube::Result<T>) -> Result {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
