//! Whom the cluster says to believe: the configmap kube-system/extension-apiserver-authentication, which names the
//! authority of the cluster's front proxy, and that of its clients.
//!
//! It is read before anybody is answered, and again all the time: authorities change while servers run. What cannot be
//! read leaves what was known; what was never known lets nobody in.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName};
use kubewright_pki::{Bundle, ClientVerifier};
use parking_lot::RwLock;
use serde_json::Value;

use crate::BoxFuture;
use crate::authn::{Authenticator, ClientCertificate, FrontProxy, FrontProxyHeaders, Refused, UserInfo};
use crate::outbound::{Peer, PeerError};
use crate::server::Core;

const PATH: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is read again.
const AGAIN: Duration = Duration::from_secs(10);

/// Who vouches for callers.
#[derive(Default)]
pub(super) struct Trust {
    believed: RwLock<Believed>,
}

#[derive(Clone, Default)]
struct Believed {
    version: String,
    proxy: Option<FrontProxy>,
    clients: Option<ClientCertificate>,
}

impl Trust {
    /// Reads what the cluster says.
    ///
    /// # Errors
    /// When it says nothing; what was believed before stays.
    pub(super) async fn refresh(&self, cluster: &Peer) -> Result<(), PeerError> {
        let map = cluster.at(PATH).ask(http::Method::GET, "", &Value::Null, TIMEOUT).await?;
        let version = map["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if self.believed.read().version != version {
            *self.believed.write() = believed(version, &map["data"]);
            tracing::info!(version, "read whom the cluster believes");
        }
        Ok(())
    }

    /// Keeps reading, for ever.
    pub(super) async fn follow(self: Arc<Self>, cluster: Peer) {
        loop {
            tokio::time::sleep(AGAIN).await;
            if let Err(error) = self.refresh(&cluster).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot read whom the cluster believes");
            }
        }
    }
}

fn believed(version: &str, data: &Value) -> Believed {
    let text = |key: &str| data[key].as_str().filter(|text| !text.trim().is_empty());
    let list = |key: &str| -> Vec<String> {
        text(key).and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
    };
    let verifier = |key: &str| {
        let bundle = Bundle::from_pem(text(key)?).and_then(|bundle| ClientVerifier::new(&bundle));
        bundle.inspect_err(|error| tracing::error!(%error, key, "unusable certificates")).ok()
    };
    let names = |key: &str| -> Vec<HeaderName> {
        list(key).iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect()
    };
    let headers = FrontProxyHeaders {
        user: names("requestheader-username-headers"),
        uid: names("requestheader-uid-headers"),
        group: names("requestheader-group-headers"),
        extra_prefix: list("requestheader-extra-headers-prefix")
            .iter()
            .map(|p| p.to_ascii_lowercase())
            .collect(),
    };
    let allowed = list("requestheader-allowed-names");
    // A list that cannot be read must not come to mean anybody.
    let readable = text("requestheader-allowed-names")
        .is_none_or(|list| serde_json::from_str::<Vec<String>>(list).is_ok());
    let proxy = verifier("requestheader-client-ca-file").filter(|_| readable && !headers.user.is_empty());
    Believed {
        version: version.into(),
        proxy: proxy.map(|verifier| FrontProxy::new(verifier, allowed, headers)),
        clients: verifier("client-ca-file").map(ClientCertificate::new),
    }
}

/// Authenticates by what the cluster believes at the time.
struct Following<A> {
    trust: Arc<Trust>,
    of: fn(&Believed) -> Option<&A>,
}

/// An authenticator by the cluster's front proxy.
pub(super) fn proxies(trust: &Arc<Trust>) -> Arc<dyn Authenticator> {
    Arc::new(Following { trust: Arc::clone(trust), of: |believed| believed.proxy.as_ref() })
}

/// An authenticator by client certificates that the cluster's authority vouches for.
pub(super) fn clients(trust: &Arc<Trust>) -> Arc<dyn Authenticator> {
    Arc::new(Following { trust: Arc::clone(trust), of: |believed| believed.clients.as_ref() })
}

impl<A: Authenticator + Clone> Authenticator for Following<A> {
    fn authenticate<'a>(
        &'a self,
        core: &'a Core,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, Refused>> {
        Box::pin(async move {
            let authenticator = (self.of)(&self.trust.believed.read()).cloned();
            match authenticator {
                Some(authenticator) => authenticator.authenticate(core, request).await,
                None => Ok(None),
            }
        })
    }

    fn forget(&self, headers: &mut HeaderMap) {
        if let Some(authenticator) = (self.of)(&self.trust.believed.read()) {
            authenticator.forget(headers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use kubewright_pki::Authority;
    use serde_json::json;

    use super::*;

    #[test]
    fn nobody_is_believed_where_nothing_clear_is_said() {
        let authority = Authority::new("proxies", SystemTime::now()).unwrap().certificate_pem();
        let said = |names: &str, headers: &str| {
            let data = json!({
                "requestheader-client-ca-file": authority, "requestheader-allowed-names": names,
                "requestheader-username-headers": headers,
            });
            believed("1", &data).proxy.is_some()
        };
        assert!(said("[\"front-proxy\"]", "[\"X-Remote-User\"]"));
        assert!(!said("front-proxy", "[\"X-Remote-User\"]"));
        assert!(!said("[]", "[]"));
        let nothing = believed("1", &json!({"client-ca-file": "x", "requestheader-client-ca-file": ""}));
        assert!(nothing.proxy.is_none() && nothing.clients.is_none());
        assert!(believed("1", &json!({"client-ca-file": authority})).clients.is_some());
    }
}
