//! All webhooks of an operator together: what they need of the cluster, and the tasks that serve them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kubewright_pki::{Bundle, ClientVerifier};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::certificates::inject::Target;
use super::certificates::{Certificates, Keeper, Shown};
use super::metrics::{CertificateMetrics, PathMetrics, WebhookMetrics};
use super::names::Names;
use super::server::{Hook, Route, Router};
use super::{Converts, Webhook, configuration, conversion};
use crate::client::{Permit, Permits, Verb};
use crate::context::Scoped;
use crate::serving::{Secured, serve};
use crate::{Error, Result};

/// What serves webhooks, besides the controllers.
#[derive(Clone, Default)]
pub(crate) struct Webhooks {
    pub hooks: Vec<Webhook>,
    pub conversions: Vec<Arc<dyn Converts>>,
    pub certificates: Certificates,
    /// A file of the authorities that have to vouch for callers.
    pub callers: Option<PathBuf>,
}

/// The tasks of webhooks, by name, and what is known of them.
pub(crate) struct Serving {
    pub tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    pub metrics: WebhookMetrics,
    pub is_ready: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Webhooks {
    pub(crate) fn is_empty(&self) -> bool {
        self.hooks.is_empty() && self.conversions.is_empty()
    }

    /// What they do in the cluster.
    pub(crate) fn permits(&self, operator: &str) -> Permits {
        let mut permits = Permits::default();
        self.hooks.iter().for_each(|hook| permits.extend(&hook.uses.permits));
        if self.certificates.are_own() {
            self.targets(operator).iter().for_each(|target| permits.add(target.permit()));
        }
        permits
    }

    /// What they do in the operator's own namespace.
    pub(crate) fn own_permits(&self, names: &Names) -> Permits {
        let mut permits = Permits::default();
        if !self.is_empty() && self.certificates.are_own() {
            let verbs = [Verb::Get, Verb::Watch, Verb::Update];
            permits.add(Permit::on_resource("", "secrets", verbs).named([&*names.secret()]));
        }
        permits
    }

    /// The objects that have to be told whom to trust.
    fn targets(&self, operator: &str) -> Vec<Target> {
        let mut targets = Vec::new();
        if self.hooks.iter().any(|hook| hook.mutating) {
            targets.push(Target::Mutating(operator.into()));
        }
        if self.hooks.iter().any(|hook| !hook.mutating) {
            targets.push(Target::Validating(operator.into()));
        }
        for conversion in &self.conversions {
            let kind = conversion.kind();
            targets.push(Target::Definition(format!("{}.{}", kind.plural, kind.group)));
        }
        targets
    }

    /// Definitions of the kinds that are judged or changed, and of those that are converted: these have all their
    /// versions, and take the place of others of the same name.
    pub(crate) fn definitions(
        &self,
        names: &Names,
        others: Vec<CustomResourceDefinition>,
    ) -> Result<Vec<CustomResourceDefinition>> {
        let mut definitions = Vec::new();
        for conversion in &self.conversions {
            let mut definition = conversion.definition(names)?;
            if let Some((key, value)) = configuration::annotation(&self.certificates, names) {
                definition.metadata.annotations.get_or_insert_default().insert(key.into(), value);
            }
            definitions.push(definition);
        }
        let known: BTreeSet<Option<String>> =
            definitions.iter().map(|definition| definition.metadata.name.clone()).collect();
        let judged = self.hooks.iter().filter_map(|hook| hook.definition.clone());
        definitions
            .extend(others.into_iter().chain(judged).filter(|other| !known.contains(&other.metadata.name)));
        Ok(definitions)
    }

    /// The Service, the Secret and the configurations.
    pub(crate) fn manifests(&self, names: &Names, port: u16) -> Vec<Value> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut objects = configuration::service(names, &self.certificates, port);
        objects.extend(configuration::configurations(&self.hooks, names, &self.certificates));
        objects
    }

    /// The tasks that serve, to be run by whoever calls. `scoped` gives a webhook what it may use; `client` is for the
    /// certificates.
    ///
    /// # Errors
    /// When two webhooks have the same path, or versions of a kind don't fit together.
    pub(crate) fn serve(
        self,
        names: Names,
        listener: TcpListener,
        client: kube::Client,
        mut scoped: impl FnMut(&Webhook) -> Result<Arc<Scoped>>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Serving> {
        let targets = self.targets(&names.operator);
        for conversion in &self.conversions {
            conversion.definition(&names)?;
        }
        let mut router = Router::default();
        let mut metrics = WebhookMetrics::default();
        let mut route = |path: String, route: Route| {
            let figures = Arc::new(PathMetrics::new(&path));
            metrics.paths.push(Arc::clone(&figures));
            match router.routes.insert(path.clone(), (route, figures)) {
                None => Ok(()),
                Some(_) => Err(Error::Usage(format!(
                    "two webhooks are served at {path}; give one another place with `.path(..)`"
                ))),
            }
        };
        for hook in &self.hooks {
            let served = Hook { handler: Arc::clone(&hook.handler), scoped: scoped(hook)? };
            route(hook.served_at(), Route::Admission(served))?;
        }
        if !self.conversions.is_empty() {
            route(conversion::PATH.into(), Route::Conversion(self.conversions.clone()))?;
        }
        let certificate = Arc::new(CertificateMetrics::default());
        metrics.certificate = Arc::clone(&certificate);
        let shown = Arc::new(Shown::new("webhooks", certificate));
        let secured =
            Secured { shown: shown.tls(), callers: self.callers.as_deref().map(callers).transpose()? };
        let server = serve(listener, Some(secured), "webhooks", Arc::new(router), stop.clone());
        let source = self.certificates.source;
        let keeper = Keeper { names, client, targets, shown: Arc::clone(&shown), source };
        Ok(Serving {
            tasks: vec![
                ("the webhook server", server.boxed()),
                ("the keeper of webhook certificates", keeper.run(stop.clone()).boxed()),
            ],
            metrics,
            is_ready: Box::new(move || shown.is_ready()),
        })
    }
}

/// Who vouches for callers, by a file of certificates.
fn callers(path: &Path) -> Result<ClientVerifier> {
    let unusable = |why: String| {
        let path = path.display();
        Error::Usage(format!("the authorities {path} of those who call webhooks can't be used: {why}"))
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let verifier = Bundle::from_pem(&text).and_then(|bundle| ClientVerifier::new(&bundle));
    verifier.map_err(|error| unusable(error.to_string()))
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.hooks).entries(self.conversions.iter().map(|one| one.kind())).finish()
    }
}
