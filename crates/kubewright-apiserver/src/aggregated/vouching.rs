//! Making the cluster trust this server: it signs its own certificate and puts its authority into the `caBundle` of its
//! APIServices. Replicas keep each other's authorities; the oldest go when there are many.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubewright_pki::{Authority, Bundle, Identity, PkiError, ServingCertificate};
use serde_json::{Value, json};

use crate::outbound::{Peer, PeerError};

/// Authorities that an APIService keeps.
const KEPT: usize = 8;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// When to look again, and when to try again.
const AGAIN: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// An authority of the server's own.
pub(super) struct Vouching {
    authority: Authority,
    names: Vec<String>,
    serving: Arc<ServingCertificate>,
    identity: Identity,
    /// Names of the APIServices.
    services: Vec<String>,
}

impl Vouching {
    /// A new authority with a certificate for these names.
    pub(super) fn new(name: &str, names: Vec<String>, services: Vec<String>) -> Result<Self, PkiError> {
        let authority = Authority::new(name, SystemTime::now())?;
        let identity = issue(&authority, &names)?;
        let serving = Arc::new(ServingCertificate::new(&identity)?);
        Ok(Self { authority, names, serving, identity, services })
    }

    /// What the server shows.
    pub(super) fn serving(&self) -> Arc<ServingCertificate> {
        Arc::clone(&self.serving)
    }

    /// Keeps the certificate good and the APIServices up to date, for ever.
    pub(super) async fn keep(mut self, cluster: Peer) {
        let mut complained = false;
        loop {
            if SystemTime::now() >= self.identity.renew_at() {
                match issue(&self.authority, &self.names) {
                    Ok(identity) if self.serving.replace(&identity).is_ok() => self.identity = identity,
                    Ok(_) => tracing::error!("the new certificate cannot be used"),
                    Err(error) => tracing::error!(%error, "cannot renew the certificate"),
                }
            }
            let mut all = true;
            for name in &self.services {
                if let Err(error) = self.introduce(&cluster, name).await {
                    all = false;
                    if !complained {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            name,
                            "cannot write the authority into the APIService; trying again"
                        );
                        complained = true;
                    }
                }
            }
            complained &= !all;
            tokio::time::sleep(if all { AGAIN } else { RETRY }).await;
        }
    }

    /// Sees to it that an APIService trusts this server.
    async fn introduce(&self, cluster: &Peer, name: &str) -> Result<(), PeerError> {
        let service = cluster.at(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}"));
        let object = service.ask(http::Method::GET, "", &Value::Null, TIMEOUT).await?;
        let Some(bundle) = with(&object["spec"], &self.authority) else { return Ok(()) };
        let patch = json!({
            "metadata": {"resourceVersion": object["metadata"]["resourceVersion"]},
            "spec": {"caBundle": STANDARD.encode(bundle)},
        });
        service.ask(http::Method::PATCH, "application/merge-patch+json", &patch, TIMEOUT).await?;
        tracing::info!(name, "the cluster trusts this server");
        Ok(())
    }
}

fn issue(authority: &Authority, names: &[String]) -> Result<Identity, PkiError> {
    let addresses = [std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()];
    authority.server(names, &addresses, SystemTime::now())
}

/// The bundle that the spec should have; `None` if it needs no change.
fn with(spec: &Value, authority: &Authority) -> Option<String> {
    let pem = STANDARD.decode(spec["caBundle"].as_str().unwrap_or_default()).unwrap_or_default();
    let mut bundle = Bundle::from_pem(&String::from_utf8_lossy(&pem)).unwrap_or_default();
    if bundle.certificates().contains(authority.certificate()) || spec["insecureSkipTLSVerify"] == true {
        return None;
    }
    // What cannot be read goes as well.
    if bundle.prune(SystemTime::now()).is_err() {
        bundle = Bundle::default();
    }
    let oldest = bundle.certificates().len().saturating_sub(KEPT - 1);
    let mut bundle = Bundle::from(bundle.certificates()[oldest..].to_vec());
    bundle.add(authority.certificate().clone());
    Some(bundle.to_pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_added_once_and_the_oldest_make_room() {
        let mut spec = json!({});
        let mut first = None;
        for n in 0..KEPT + 2 {
            let authority = Authority::new(&format!("a{n}"), SystemTime::now()).unwrap();
            let bundle = with(&spec, &authority).unwrap();
            spec["caBundle"] = json!(STANDARD.encode(&bundle));
            assert_eq!(with(&spec, &authority), None);
            assert_eq!(Bundle::from_pem(&bundle).unwrap().certificates().len(), (n + 1).min(KEPT));
            first.get_or_insert(authority);
        }
        assert!(with(&spec, &first.unwrap()).is_some(), "the first one is gone");
        let skips = json!({"insecureSkipTLSVerify": true});
        assert_eq!(with(&skips, &Authority::new("a", SystemTime::now()).unwrap()), None);
    }
}
