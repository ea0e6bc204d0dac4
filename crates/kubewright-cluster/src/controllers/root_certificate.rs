//! The authority's certificate, which every namespace has in `kube-root-ca.crt`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kubewright::{Action, Context, Controller, Reconciler, Result, Verb};

use super::{of_each_namespace, unless_late};

const ROOT: &str = "kube-root-ca.crt";
const ROOT_KEY: &str = "ca.crt";

/// Publishes the certificate, again when somebody removes or changes it.
pub struct RootCertificates {
    root: String,
}

impl RootCertificates {
    /// The controller of all namespaces.
    pub fn controller(root: String) -> Controller {
        Controller::new(RootCertificates { root })
            .named("root-ca-cert-publisher")
            .writes::<ConfigMap>([Verb::Create, Verb::Update])
            .watches::<ConfigMap>(of_each_namespace(ROOT))
    }
}

impl Reconciler for RootCertificates {
    type Object = Namespace;

    async fn reconcile(&self, namespace: Arc<Namespace>, cx: &Context) -> Result<Action> {
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(Action::never());
        }
        let name = cx.key().name();
        let maps: Api<ConfigMap> = Api::namespaced(cx.client(), name);
        let data = [(ROOT_KEY.to_owned(), self.root.clone())].into();
        match cx.get::<ConfigMap>((name, ROOT)).await? {
            None => {
                let metadata = ObjectMeta {
                    name: Some(ROOT.into()),
                    namespace: Some(name.into()),
                    ..ObjectMeta::default()
                };
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
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
