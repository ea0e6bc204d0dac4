//! The certificate of a server whose callers learn of it by themselves, such as a scraper of metrics: from files, or made
//! and rotated in memory by each process for itself. Nothing of it is written anywhere.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kubewright_pki::{Authority, Identity, PkiError};
use tokio::sync::watch;

use super::rotation::Lives;
use super::{CertificateError, Certificates, FILES, MAX_BACKOFF, REFRESH, Shown, Source};
use crate::webhook::metrics::CertificateMetrics;

/// Keeps such a certificate what it should be.
pub(crate) struct Alone {
    names: Vec<String>,
    source: Source,
    shown: Arc<Shown>,
    made: Option<Identity>,
}

impl Alone {
    /// A certificate for these names.
    pub(crate) fn new(whose: &'static str, names: Vec<String>, certificates: &Certificates) -> Alone {
        let shown = Arc::new(Shown::new(whose, Arc::new(CertificateMetrics::default())));
        Alone { names, source: certificates.source.clone(), shown, made: None }
    }

    /// What the server shows.
    pub(crate) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// Works until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Duration::from_millis(500);
        loop {
            let pause = match self.step() {
                Ok(pause) => {
                    backoff = Duration::from_millis(500);
                    pause
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, whose = self.shown.whose, "no new certificate");
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    backoff
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Does what is due; how long nothing else is.
    fn step(&mut self) -> Result<Duration, CertificateError> {
        match self.source.clone() {
            Source::Own { lives, clock } => {
                let now = clock();
                let identity = made(self.made.take(), &self.names, &lives, now)?;
                self.shown.show(&identity)?;
                let until = identity.renew_at().duration_since(now).unwrap_or_default();
                self.made = Some(identity);
                Ok(until.clamp(Duration::from_millis(100), REFRESH))
            }
            Source::Files { directory } | Source::CertManager { directory, .. } => {
                self.shown.show_files(&directory)?;
                Ok(FILES)
            }
        }
    }
}

/// The certificate to show: the one that there is, as long as it is not old.
fn made(
    there: Option<Identity>,
    names: &[String],
    lives: &Lives,
    now: SystemTime,
) -> Result<Identity, PkiError> {
    if let Some(there) = there.filter(|there| now < there.renew_at()) {
        return Ok(there);
    }
    // Nobody keeps the authority: a new one with each certificate is trusted by as many.
    let authority = Authority::lasting("kubewright", lives.authority, now)?;
    authority.with_leaf_life(lives.serving).server(names, &[], now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_in_memory_is_kept_until_two_thirds_of_its_life() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let (names, lives) = (["op-metrics.op-system.svc".to_owned()], Lives::default());
        let first = made(None, &names, &lives, now).unwrap();
        assert_eq!(first.dns_names().unwrap(), names);
        let (chain, due) = (first.certificate_pem(), first.renew_at());
        let kept = made(Some(first), &names, &lives, due - Duration::from_secs(1)).unwrap();
        assert_eq!(kept.certificate_pem(), chain);
        assert_ne!(made(Some(kept), &names, &lives, due).unwrap().certificate_pem(), chain);
    }
}
