//! Who sends a request: the [`Authenticator`] seam and the identity it yields.
//!
//! Request heads flow in, a [`UserInfo`] comes out. Authenticators are asked in order until one knows the caller; an
//! error of one is remembered and answered as 401 only if no other knows the caller.

use std::sync::LazyLock;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use kubewright_machinery::status::Status;
pub use kubewright_machinery::user::{ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, UserInfo};

use crate::server::Core;
use crate::{BoxFuture, ready};

mod certificate;
mod front_proxy;
pub(crate) mod impersonation;
mod issuer;
mod keys;
pub mod oidc;
pub mod service_account;
mod token;
mod token_request;
mod webhook;
mod websocket;

pub use certificate::{ClientCertificate, PeerCertificates};
pub use front_proxy::{FrontProxy, FrontProxyHeaders};
pub use issuer::{Binding, Grant, Issuer};
pub use keys::{KeyError, PublicKey, SigningKey};
pub use token::{StaticTokens, TokenFileError};
pub use token_request::TokenRequests;
pub use webhook::TokenWebhook;
pub(crate) use websocket::take_token;

/// Whether requests without credentials are let in, as [`UserInfo::anonymous`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// All of them.
    #[default]
    Everywhere,
    /// Those of these paths alone, such as `/livez`.
    Paths(Vec<String>),
    /// None.
    Nowhere,
}

impl Anonymous {
    fn lets_in(&self, path: &str) -> bool {
        match self {
            Anonymous::Everywhere => true,
            Anonymous::Paths(paths) => paths.iter().any(|allowed| allowed == path),
            Anonymous::Nowhere => false,
        }
    }
}

/// Why credentials were refused. Answered as 401 without the text; the text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("invalid credentials: {reason}")]
pub struct Refused {
    /// Why, for the log.
    pub reason: String,
}

impl Refused {
    /// Refused for a reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// One way of telling who calls.
pub trait Authenticator: Send + Sync {
    /// `None` when the request carries no credentials of this kind, an error when it does and they are bad. The chain
    /// adds [`AUTHENTICATED`]. The peer's certificates are in the extensions as [`PeerCertificates`]. An authenticator of
    /// tokens does not write this: by itself it asks [`authenticate_token`](Self::authenticate_token) about the bearer
    /// token, for the server's own audiences.
    fn authenticate<'a>(
        &'a self,
        core: &'a Core,
        request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, Refused>> {
        let Some(token) = bearer_token(request) else { return ready(Ok(None)) };
        let asked = self.authenticate_token(core, token, &core.config().api_audiences);
        Box::pin(async move { Ok(asked.await?.map(|found| found.user)) })
    }

    /// Whom a bearer token alone stands for, as TokenReview asks. `audiences` is never empty: an authenticator answers
    /// with those of them that the token is good for, and knows nobody when there are none.
    fn authenticate_token<'a>(
        &'a self,
        core: &'a Core,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Authenticated>, Refused>> {
        let _ = (core, token, audiences);
        ready(Ok(None))
    }

    /// Takes away headers that are credentials of this kind, whoever was authenticated by what.
    fn forget(&self, headers: &mut HeaderMap) {
        let _ = headers;
    }
}

/// Whom a token stands for, and towards whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// The user.
    pub user: UserInfo,
    /// Which of the audiences asked for the token is good for.
    pub audiences: Vec<String>,
}

/// The audiences of `asked` that are also among `offered`, in the order asked.
pub(crate) fn common_audiences(asked: &[String], offered: &[String]) -> Vec<String> {
    asked.iter().filter(|audience| offered.contains(audience)).cloned().collect()
}

/// The bearer token of a request, if it carries one.
pub fn bearer_token(request: &http::request::Parts) -> Option<&str> {
    let value = request.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let mut words = value.trim().splitn(3, ' ');
    let (scheme, token) = (words.next()?, words.next()?);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Asks the authenticators in order. Without credentials the caller is anonymous, where that is allowed; with a token
/// that nobody knows it is refused.
pub(crate) async fn authenticate(core: &Core, request: &http::request::Parts) -> Result<UserInfo, Status> {
    let unauthorized = || Status::unauthorized("Unauthorized");
    let mut refused = None;
    for authenticator in core.authenticators() {
        match authenticator.authenticate(core, request).await {
            Ok(Some(user)) => return Ok(authenticated(user)),
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
    }
    if refused.is_none() && !core.authenticators().is_empty() && bearer_token(request).is_some() {
        refused = Some(Refused::new("invalid bearer token"));
    }
    match refused {
        Some(error) => {
            tracing::debug!(%error, "not authenticated");
            Err(unauthorized())
        }
        None if core.config().anonymous.lets_in(request.uri.path()) => Ok(UserInfo::anonymous()),
        None => Err(unauthorized()),
    }
}

/// Takes the credentials away from a request whose sender is known: nothing that serves it, here or elsewhere, gets to
/// see them.
pub(crate) fn forget_credentials(core: &Core, headers: &mut HeaderMap) {
    static USUAL: LazyLock<FrontProxyHeaders> = LazyLock::new(FrontProxyHeaders::default);
    headers.remove(AUTHORIZATION);
    USUAL.remove_from(headers);
    for authenticator in core.authenticators() {
        authenticator.forget(headers);
    }
}

fn authenticated(mut user: UserInfo) -> UserInfo {
    if !user.in_group(AUTHENTICATED) && user.name != ANONYMOUS {
        user.groups.push(AUTHENTICATED.to_string());
    }
    user
}

/// Whom a token stands for; the error is in the words of a TokenReview.
pub(crate) async fn review(core: &Core, token: &str, audiences: &[String]) -> Result<Authenticated, String> {
    const INVALID: &str = "invalid bearer token";
    let mut refusals = Vec::new();
    for authenticator in core.authenticators() {
        match authenticator.authenticate_token(core, token, audiences).await {
            Ok(Some(found)) => {
                return Ok(Authenticated { user: authenticated(found.user), audiences: found.audiences });
            }
            Ok(None) => {}
            Err(refused) => refusals.push(refused.reason),
        }
    }
    if refusals.is_empty() {
        Err(INVALID.into())
    } else {
        Err(format!("[{INVALID}, {}]", refusals.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> Option<String> {
        let request = http::Request::builder().header("authorization", header).body(()).unwrap();
        bearer_token(&request.into_parts().0).map(str::to_string)
    }

    #[test]
    fn a_bearer_token_is_the_second_word_whatever_the_case_of_the_first() {
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bEARER abc").as_deref(), Some("abc"));
        assert_eq!(token("Bearer  abc"), None);
        assert_eq!(token("Bearer "), None);
        assert_eq!(token("Basic abc"), None);
    }

    #[test]
    fn anonymous_requests_can_be_kept_to_some_paths() {
        let paths = Anonymous::Paths(vec!["/livez".into()]);
        assert!(paths.lets_in("/livez") && !paths.lets_in("/livez/etcd") && !paths.lets_in("/api"));
        assert!(!Anonymous::Nowhere.lets_in("/livez"));
    }
}
