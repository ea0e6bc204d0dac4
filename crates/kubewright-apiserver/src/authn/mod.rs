//! Who sends a request: the [`Authenticator`] seam and the identity it yields.
//!
//! Request heads flow in, a [`UserInfo`] comes out. Authenticators are asked in order until one knows the caller; an
//! error of one is remembered and answered as 401 only if no other knows the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubewright_machinery::status::Status;

use crate::BoxFuture;
use crate::authz::{self, Decision};
use crate::server::Core;

mod certificate;
mod token;

pub use certificate::{ClientCertificate, PeerCertificates};
pub use token::{StaticTokens, TokenFileError};

/// An authenticated caller (`user.Info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The user name, such as `system:serviceaccount:default:builder`.
    pub name: String,
    /// A stable id, where the source has one.
    pub uid: String,
    /// Groups, in the order the source states them.
    pub groups: Vec<String>,
    /// Extra facts, such as scopes; keys are lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group of everybody who is allowed everything.
pub const MASTERS: &str = "system:masters";
/// The group that every authenticated caller is in.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

impl UserInfo {
    /// A user in groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_string()).collect(),
            ..Self::default()
        }
    }

    /// The caller without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// The identity of the server itself: what its own controllers and bootstrap write as.
    pub fn server() -> Self {
        Self::new("system:apiserver", &[MASTERS, AUTHENTICATED])
    }

    /// Whether the user is in the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
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
    /// adds [`AUTHENTICATED`]. The peer's certificates are in the extensions as [`PeerCertificates`].
    fn authenticate<'a>(
        &'a self,
        core: &'a Core,
        request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, Refused>>;
}

/// The bearer token of a request, if it carries one.
pub fn bearer_token(request: &http::request::Parts) -> Option<&str> {
    let value = request.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Asks the authenticators in order. Without credentials the caller is anonymous, where that is allowed.
pub(crate) async fn authenticate(core: &Core, request: &http::request::Parts) -> Result<UserInfo, Status> {
    let unauthorized = || Status::failure(401, "Unauthorized", "Unauthorized");
    let mut refused = None;
    for authenticator in core.authenticators() {
        match authenticator.authenticate(core, request).await {
            Ok(Some(mut user)) => {
                if !user.in_group(AUTHENTICATED) && user.name != ANONYMOUS {
                    user.groups.push(AUTHENTICATED.to_string());
                }
                return Ok(user);
            }
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => {
            tracing::debug!(%error, "not authenticated");
            Err(unauthorized())
        }
        None if core.config().anonymous => Ok(UserInfo::anonymous()),
        None => Err(unauthorized()),
    }
}

/// The user that the caller acts as (`Impersonate-*` headers), if it may.
pub(crate) async fn impersonate(
    core: &Core,
    user: Arc<UserInfo>,
    request: &http::request::Parts,
) -> Result<Arc<UserInfo>, Status> {
    let header = |name: &str| -> Vec<String> {
        let values = request.headers.get_all(name).iter();
        values.filter_map(|v| v.to_str().ok()).map(str::to_string).collect()
    };
    let Some(name) = header("impersonate-user").into_iter().next().filter(|n| !n.is_empty()) else {
        return Ok(user);
    };
    let mut groups = header("impersonate-group");
    for (resource, name) in
        std::iter::once(("users", &name)).chain(groups.iter().map(|group| ("groups", group)))
    {
        let attributes = authz::Attributes {
            user: &user,
            verb: "impersonate".into(),
            group: "".into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: "".into(),
            namespace: "".into(),
            name: name.as_str().into(),
            path: "".into(),
            resource_request: true,
            label_selector: None,
            field_selector: None,
        };
        match authz::decide(core, &attributes).await {
            Decision::Allow(_) => {}
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                return Err(authz::forbidden(&attributes, &reason));
            }
        }
    }
    if name != ANONYMOUS && !groups.iter().any(|g| g == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_string());
    }
    Ok(Arc::new(UserInfo { name, groups, ..UserInfo::default() }))
}
