//! Where the serving certificate comes from: made and rotated by the operator itself and shared by its replicas through a
//! Secret, or from files that somebody else (cert-manager, a person) puts there and replaces.
//!
//! The decisions are in `rotation`; here they are carried out: the Secret read and written under optimistic concurrency,
//! the authorities put into configurations, the certificate handed to the server. Replicas all do the same, at the same
//! time, and agree because only one of them can win a write.

pub(super) mod inject;
mod memory;
pub(super) mod rotation;
mod secret;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use http::Request;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DynamicObject, PostParams, WatchEvent};
use kubewright_pki::{Identity, PkiError, ServingCertificate};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use self::inject::{Target, inject};
pub(crate) use self::memory::Alone;
pub use self::rotation::Lives;
use self::rotation::{Decision, decide};
use super::metrics::CertificateMetrics;
use super::names::Names;

/// Tells the time.
pub(super) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// At least so often everything is looked at again, should a watch have missed something.
const REFRESH: Duration = Duration::from_secs(60);
/// How often files are looked at.
const FILES: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Writes in a row; more would mean that replicas disagree for ever.
const MAX_STEPS: usize = 20;

/// Where the serving certificate of webhooks comes from.
#[derive(Clone)]
pub struct Certificates {
    pub(super) source: Source,
}

#[derive(Clone)]
pub(super) enum Source {
    Own { lives: Lives, clock: Clock },
    Files { directory: PathBuf },
    CertManager { issuer: Option<String>, directory: PathBuf },
}

/// Where certificates are mounted by convention (controller-runtime's).
const DIRECTORY: &str = "/tmp/k8s-webhook-server/serving-certs";

impl Certificates {
    /// The operator makes and rotates them itself; the default. It needs nothing but its generated roles.
    pub fn own() -> Certificates {
        Certificates { source: Source::Own { lives: Lives::default(), clock: Arc::new(SystemTime::now) } }
    }

    /// Other lives of its own certificates.
    #[must_use]
    pub fn lives(mut self, wanted: Lives) -> Certificates {
        if let Source::Own { lives, .. } = &mut self.source {
            *lives = wanted;
        }
        self
    }

    /// Another clock for its own certificates, for tests that can't wait a year.
    #[must_use]
    pub fn clock(mut self, wanted: impl Fn() -> SystemTime + Send + Sync + 'static) -> Certificates {
        if let Source::Own { clock, .. } = &mut self.source {
            *clock = Arc::new(wanted);
        }
        self
    }

    /// From `tls.crt` and `tls.key` in a folder, loaded again when they change. Whoever provides them also sees to the
    /// `caBundle`s.
    pub fn files(directory: impl Into<PathBuf>) -> Certificates {
        Certificates { source: Source::Files { directory: directory.into() } }
    }

    /// From cert-manager: the manifests have a Certificate, an Issuer that signs itself, and the annotations by which
    /// cert-manager fills in the `caBundle`s. The Secret has to be mounted where [`files`](Self::files) of the usual
    /// place are: `/tmp/k8s-webhook-server/serving-certs`.
    pub fn cert_manager() -> Certificates {
        Certificates { source: Source::CertManager { issuer: None, directory: DIRECTORY.into() } }
    }

    /// A ClusterIssuer of cert-manager in place of one that signs itself.
    #[must_use]
    pub fn issuer(mut self, name: &str) -> Certificates {
        if let Source::CertManager { issuer, .. } = &mut self.source {
            *issuer = Some(name.into());
        }
        self
    }

    /// The Secret that has to be mounted, and where, if one has to be.
    pub(crate) fn mount(&self, names: &Names) -> Option<(String, String)> {
        match &self.source {
            Source::CertManager { directory, .. } => Some((names.secret(), directory.display().to_string())),
            Source::Own { .. } | Source::Files { .. } => None,
        }
    }

    pub(super) fn are_own(&self) -> bool {
        matches!(self.source, Source::Own { .. })
    }
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates::own()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Own { lives, .. } => write!(f, "Certificates::own({lives:?})"),
            Source::Files { directory } => write!(f, "Certificates::files({})", directory.display()),
            Source::CertManager { .. } => f.write_str("Certificates::cert_manager()"),
        }
    }
}

/// Why a certificate is not there or not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("Secret {namespace}/{name} is not there: apply what the operator's `manifests` print")]
    NoSecret { namespace: String, name: String },
    #[error("cannot {what}")]
    Api {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("cannot make or use a certificate")]
    Pki(#[from] PkiError),
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the certificates change without end: replicas disagree about them, or their clocks do")]
    Restless,
}

/// What a server shows, and whether it may call itself ready.
pub(crate) struct Shown {
    /// Whose server that is.
    whose: &'static str,
    current: Mutex<Option<(Arc<ServingCertificate>, String)>>,
    tls: watch::Sender<Option<TlsAcceptor>>,
    published: AtomicBool,
    metrics: Arc<CertificateMetrics>,
}

impl Shown {
    pub(super) fn new(whose: &'static str, metrics: Arc<CertificateMetrics>) -> Shown {
        Shown {
            whose,
            current: Mutex::new(None),
            tls: watch::Sender::new(None),
            published: AtomicBool::new(false),
            metrics,
        }
    }

    /// Resolves once there is a certificate.
    pub(crate) fn tls(&self) -> watch::Receiver<Option<TlsAcceptor>> {
        self.tls.subscribe()
    }

    /// Whether there is a certificate that those who call were told to trust.
    pub(crate) fn is_ready(&self) -> bool {
        self.current.lock().is_some() && self.published.load(Ordering::Acquire)
    }

    /// Shows what is in the files of a folder, if that is new.
    fn show_files(&self, directory: &Path) -> Result<(), CertificateError> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path).map_err(|source| CertificateError::Read { path, source })
        };
        self.show(&Identity::from_pem(&read("tls.crt")?, &read("tls.key")?)?)?;
        self.published.store(true, Ordering::Release);
        Ok(())
    }

    /// New connections see this from now on.
    fn show(&self, identity: &Identity) -> Result<(), PkiError> {
        let chain = identity.certificate_pem();
        let mut current = self.current.lock();
        match &mut *current {
            Some((_, shown)) if *shown == chain => return Ok(()),
            Some((serving, shown)) => {
                serving.replace(identity)?;
                *shown = chain;
            }
            None => {
                let serving = Arc::new(ServingCertificate::new(identity)?);
                let config = kubewright_pki::server_config(Arc::clone(&serving))?;
                *current = Some((serving, chain));
                self.tls.send_replace(Some(TlsAcceptor::from(Arc::new(config))));
            }
        }
        self.metrics.loaded(identity.not_after());
        tracing::info!(whose = self.whose, "a new certificate is shown");
        Ok(())
    }
}

/// Keeps the certificate of webhooks what it should be.
pub(super) struct Keeper {
    pub(super) names: Names,
    pub(super) client: kube::Client,
    pub(super) targets: Vec<Target>,
    pub(super) shown: Arc<Shown>,
    pub(super) source: Source,
}

impl Keeper {
    /// Works until told to stop.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let changed = Arc::new(Notify::new());
        let mut watches = JoinSet::new();
        if let Source::Own { .. } = self.source {
            let secrets = format!("/api/v1/namespaces/{}/secrets", self.names.namespace);
            watches.spawn(tell(self.client.clone(), secrets, self.names.secret(), Arc::clone(&changed)));
            for target in &self.targets {
                let (collection, name) = (target.collection(), target.name().to_owned());
                watches.spawn(tell(self.client.clone(), collection, name, Arc::clone(&changed)));
            }
        }
        let mut backoff = Duration::from_millis(500);
        loop {
            let pause = match self.step().await {
                Ok(pause) => {
                    backoff = Duration::from_millis(500);
                    pause
                }
                Err(error) => {
                    self.shown.metrics.failed();
                    tracing::warn!(error = &error as &dyn std::error::Error, "webhook certificates");
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    backoff
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changed.notified() => {}
                _ = stop.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Does what is due; how long nothing else is.
    async fn step(&self) -> Result<Duration, CertificateError> {
        match &self.source {
            Source::Own { lives, clock } => self.step_own(lives, clock).await,
            Source::Files { directory } | Source::CertManager { directory, .. } => {
                self.shown.show_files(directory)?;
                Ok(FILES)
            }
        }
    }

    async fn step_own(&self, lives: &Lives, clock: &Clock) -> Result<Duration, CertificateError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.names.namespace);
        let name = self.names.secret();
        for _ in 0..MAX_STEPS {
            let mut secret = secrets.get(&name).await.map_err(|error| match error {
                kube::Error::Api(status) if status.code == 404 => {
                    CertificateError::NoSecret { namespace: self.names.namespace.clone(), name: name.clone() }
                }
                error => api(format!("read Secret {name}"), error),
            })?;
            let data = secret.data.take().unwrap_or_default();
            let found = secret::decode(&data).unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the Secret of the webhook certificates is unusable and made anew");
                None
            });
            if let Some(found) = &found {
                // First whom to trust, then what to show.
                let bundle = found.trusted.to_pem();
                for target in &self.targets {
                    inject(&self.client, target, &self.names, &bundle)
                        .await
                        .map_err(|error| api(format!("tell {target:?} whom to trust"), error))?;
                }
                self.shown.show(&found.serving)?;
                self.shown.published.store(true, Ordering::Release);
            }
            let now = clock();
            // Everything was told just now, so it is published.
            match decide(found, &self.names.dns(), lives, true, now)? {
                Decision::Keep(until) => {
                    return Ok(until
                        .duration_since(now)
                        .unwrap_or_default()
                        .clamp(Duration::from_millis(100), REFRESH));
                }
                Decision::Write(next) => {
                    tracing::info!(phase = ?next.phase, "webhook certificates");
                    secret.data = Some(secret::encode(&next));
                    match secrets.replace(&name, &PostParams::default(), &secret).await {
                        Ok(_) => {}
                        // Another replica was faster: what it wrote is what there is.
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        Err(error) => return Err(api(format!("write Secret {name}"), error)),
                    }
                }
            }
        }
        Err(CertificateError::Restless)
    }
}

fn api(what: String, error: kube::Error) -> CertificateError {
    CertificateError::Api { what, source: Box::new(error) }
}

/// Tells of every change of one object, for ever.
async fn tell(client: kube::Client, collection: String, name: String, changed: Arc<Notify>) {
    let url = format!("{collection}?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=290");
    loop {
        let Ok(request) = Request::get(&url).body(Vec::new()) else { return };
        if let Ok(events) = client.request_events::<DynamicObject>(request).await {
            let mut events = std::pin::pin!(events);
            while let Some(Ok(event)) = events.next().await {
                if !matches!(event, WatchEvent::Bookmark(_)) {
                    changed.notify_one();
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests;
