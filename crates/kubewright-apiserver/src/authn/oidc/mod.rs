//! Tokens of OpenID Connect issuers: signed elsewhere, checked here against the keys that the issuer publishes.
//!
//! A token flows in; who it stands for is read from its claims as [`Settings`] say. Only RS256 and ES256 are known, keys
//! are fetched when they are first needed and again when a token names one that is not there, and while they can't be
//! had nobody is let in.

mod claims;
mod provider;

use kubewright_pki::{Bundle, PkiError};
use thiserror::Error;

use super::keys::{unverified_claims, verified_claims};
use super::{Authenticated, Authenticator, Refused};
use crate::BoxFuture;
use crate::outbound::{Peer, PeerError};
use crate::server::Core;

use provider::Provider;

/// A claim that becomes a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The claim.
    pub claim: String,
    /// What is put in front of its values.
    pub prefix: String,
}

/// An issuer, and what its tokens mean.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The claim `iss`, an `https` URL.
    pub issuer_url: String,
    /// Where the provider's configuration is, where that is not below the issuer's URL.
    pub discovery_url: Option<String>,
    /// Authorities that vouch for the issuer's server, as PEM; those of the system where there are none.
    pub authorities: Option<String>,
    /// Whom a token has to be for: one of these.
    pub audiences: Vec<String>,
    /// The user name.
    pub username: Mapping,
    /// The groups, where tokens have any.
    pub groups: Option<Mapping>,
    /// The claim with the uid.
    pub uid_claim: Option<String>,
    /// Claims that have to be there with these values.
    pub required: Vec<(String, String)>,
    /// The algorithms that are accepted, of `RS256` and `ES256`.
    pub algorithms: Vec<String>,
}

impl Settings {
    /// An issuer whose `sub` is the user name, behind the issuer's URL and `#`.
    pub fn new(issuer_url: impl Into<String>, audience: impl Into<String>) -> Self {
        let issuer_url = issuer_url.into();
        Self {
            username: Mapping { claim: "sub".into(), prefix: format!("{issuer_url}#") },
            issuer_url,
            discovery_url: None,
            authorities: None,
            audiences: vec![audience.into()],
            groups: None,
            uid_claim: None,
            required: Vec::new(),
            algorithms: vec!["RS256".into(), "ES256".into()],
        }
    }
}

/// Why an issuer can't be used.
#[derive(Debug, Error)]
pub enum OidcError {
    /// Its URL is none.
    #[error("the issuer cannot be used")]
    Url(#[source] PeerError),
    /// The authorities are no certificates.
    #[error("the authorities of the issuer cannot be used")]
    Authorities(#[source] PkiError),
    /// No audience is given: any token of the issuer would do.
    #[error("the issuer {issuer:?} needs an audience (client id)")]
    NoAudience {
        /// The issuer.
        issuer: String,
    },
    /// An algorithm that is not known here.
    #[error("the signing algorithm {algorithm:?} is not supported (RS256 and ES256 are)")]
    Algorithm {
        /// The algorithm.
        algorithm: String,
    },
}

/// Authenticates by the tokens of one issuer.
pub struct Oidc {
    settings: Settings,
    provider: Provider,
}

impl Oidc {
    /// Accepts the tokens of an issuer. Nothing is fetched yet.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn new(settings: Settings) -> Result<Self, OidcError> {
        if settings.audiences.iter().all(String::is_empty) {
            return Err(OidcError::NoAudience { issuer: settings.issuer_url.clone() });
        }
        if let Some(algorithm) = settings.algorithms.iter().find(|a| !matches!(a.as_str(), "RS256" | "ES256"))
        {
            return Err(OidcError::Algorithm { algorithm: algorithm.clone() });
        }
        let trust = match &settings.authorities {
            Some(pem) => Bundle::from_pem(pem).map_err(OidcError::Authorities)?,
            None => crate::outbound::dial::system_authorities().clone(),
        };
        let peer = Peer::new(&settings.issuer_url, &trust, None).map_err(OidcError::Url)?;
        let provider = Provider::new(peer, &settings);
        Ok(Self { settings, provider })
    }

    async fn bearer(
        &self,
        core: &Core,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Refused> {
        if unverified_claims(token).is_none_or(|claims| claims["iss"] != self.settings.issuer_url.as_str()) {
            return Ok(None);
        }
        let keys = self.provider.keys(core.now(), false).await?;
        let mut verified = verified_claims(token, keys.iter());
        if verified.is_none() {
            // It may be signed by a key that the issuer has made since.
            let newer = self.provider.keys(core.now(), true).await?;
            verified = verified_claims(token, newer.iter());
        }
        let Some(claims) = verified else {
            return Err(Refused::new("oidc: failed to verify signature"));
        };
        let user = claims::user(&claims, &self.settings, core.now().as_second())?;
        // Such a token is for this server, whatever the issuer calls it.
        let audiences = super::common_audiences(audiences, &core.config().api_audiences);
        Ok((!audiences.is_empty()).then_some(Authenticated { user, audiences }))
    }
}

impl Authenticator for Oidc {
    fn authenticate_token<'a>(
        &'a self,
        core: &'a Core,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Authenticated>, Refused>> {
        Box::pin(self.bearer(core, token, audiences))
    }
}
