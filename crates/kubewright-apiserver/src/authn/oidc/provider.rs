//! The keys of an issuer, fetched from where its configuration says they are, and fetched again when they have changed.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::Mutex;

use super::Settings;
use crate::authn::{PublicKey, Refused};
use crate::outbound::{Peer, PeerError};

/// How long an answer of the issuer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Keys are not fetched more often than this: tokens of nobody's key are no way to keep the issuer busy.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// Where the keys come from.
pub(super) struct Provider {
    peer: Peer,
    issuer: String,
    configuration: String,
    algorithms: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<Vec<PublicKey>>>,
    tried: Option<Timestamp>,
}

impl Provider {
    pub(super) fn new(peer: Peer, settings: &Settings) -> Self {
        let below =
            || format!("{}/.well-known/openid-configuration", settings.issuer_url.trim_end_matches('/'));
        Self {
            peer,
            issuer: settings.issuer_url.clone(),
            configuration: settings.discovery_url.clone().unwrap_or_else(below),
            algorithms: settings.algorithms.clone(),
            state: Mutex::default(),
        }
    }

    /// The keys; `anew` where those that are known have not been enough. Requests that come together fetch once.
    pub(super) async fn keys(&self, now: Timestamp, anew: bool) -> Result<Arc<Vec<PublicKey>>, Refused> {
        let mut state = self.state.lock().await;
        let recently = state.tried.is_some_and(|tried| now.duration_since(tried).abs() < PAUSE);
        match &state.keys {
            Some(keys) if !anew || recently => return Ok(Arc::clone(keys)),
            None if recently => return Err(Refused::new("oidc: authenticator not initialized")),
            _ => {}
        }
        state.tried = Some(now);
        match self.fetch().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                state.keys = Some(Arc::clone(&keys));
                Ok(keys)
            }
            Err(why) => {
                tracing::warn!(issuer = self.issuer, why, "the keys of an issuer cannot be fetched");
                // The old ones are as good as they were.
                state.keys.clone().ok_or_else(|| Refused::new(format!("oidc: {why}")))
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<PublicKey>, String> {
        let failed = |error: PeerError| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let configuration = self.peer.get(&self.configuration, TIMEOUT).await.map_err(failed)?;
        if configuration["issuer"] != self.issuer.as_str() {
            let found = &configuration["issuer"];
            return Err(format!("the provider calls itself {found}, not {:?}", self.issuer));
        }
        let at = configuration["jwks_uri"].as_str().ok_or("the provider names no key set")?;
        let set = self.peer.get(at, TIMEOUT).await.map_err(failed)?;
        Ok(self.read(&set))
    }

    fn read(&self, set: &Value) -> Vec<PublicKey> {
        let keys = set["keys"].as_array().into_iter().flatten().filter_map(PublicKey::from_jwk);
        keys.filter(|key| self.algorithms.iter().any(|algorithm| algorithm == key.algorithm)).collect()
    }
}
