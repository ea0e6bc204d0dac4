//! A proxy in front of the server that has authenticated the caller and says in headers who it is
//! (`X-Remote-User` and its kin).
//!
//! Such headers count for nothing unless the connection's client certificate is of the authority, and for one of the
//! names, that were configured for it. They never go further than this.

use std::collections::BTreeMap;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName};
use kubewright_pki::ClientVerifier;

use super::{Authenticator, PeerCertificates, Refused, UserInfo};
use crate::server::Core;
use crate::{BoxFuture, ready};

/// Which headers say who calls. Of several for one purpose the first that is not empty counts; groups and extras are all
/// taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxyHeaders {
    /// The user name.
    pub user: Vec<HeaderName>,
    /// The uid.
    pub uid: Vec<HeaderName>,
    /// Groups, one a header.
    pub group: Vec<HeaderName>,
    /// What the names of extras begin with; lower case.
    pub extra_prefix: Vec<String>,
}

impl Default for FrontProxyHeaders {
    /// `X-Remote-User`, `X-Remote-Uid`, `X-Remote-Group` and `X-Remote-Extra-`.
    fn default() -> Self {
        Self {
            user: vec![HeaderName::from_static("x-remote-user")],
            uid: vec![HeaderName::from_static("x-remote-uid")],
            group: vec![HeaderName::from_static("x-remote-group")],
            extra_prefix: vec!["x-remote-extra-".into()],
        }
    }
}

impl FrontProxyHeaders {
    fn read(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let first = |names: &[HeaderName]| {
            names.iter().filter_map(|name| headers.get(name)).map(text).find(|value| !value.is_empty())
        };
        let name = first(&self.user)?;
        let groups = self.group.iter().flat_map(|name| headers.get_all(name)).map(text);
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_prefix {
            for (name, value) in headers {
                if let Some(key) = name.as_str().strip_prefix(prefix.as_str()) {
                    extra.entry(super::impersonation::unescaped(key)).or_default().push(text(value));
                }
            }
        }
        let groups = groups.filter(|group| !group.is_empty()).collect();
        Some(UserInfo { name, uid: first(&self.uid).unwrap_or_default(), groups, extra })
    }

    /// Takes all of these headers away.
    pub(crate) fn remove_from(&self, headers: &mut HeaderMap) {
        for name in self.user.iter().chain(&self.uid).chain(&self.group) {
            headers.remove(name);
        }
        let is_extra =
            |name: &HeaderName| self.extra_prefix.iter().any(|p| name.as_str().starts_with(p.as_str()));
        let extra: Vec<HeaderName> = headers.keys().filter(|name| is_extra(name)).cloned().collect();
        for name in extra {
            headers.remove(name);
        }
    }
}

/// Authenticates by what a front proxy says.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    verifier: ClientVerifier,
    names: Vec<String>,
    headers: FrontProxyHeaders,
}

impl FrontProxy {
    /// Believes proxies whose client certificate `verifier` vouches for and whose common name is among `names` (empty:
    /// any).
    pub fn new(verifier: ClientVerifier, names: Vec<String>, headers: FrontProxyHeaders) -> Self {
        Self { verifier, names, headers }
    }
}

impl Authenticator for FrontProxy {
    fn authenticate<'a>(
        &'a self,
        core: &'a Core,
        request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, Refused>> {
        let peer = request.extensions.get::<PeerCertificates>().filter(|peer| !peer.chain().is_empty());
        let (Some(peer), Some(said)) = (peer, self.headers.read(&request.headers)) else {
            return ready(Ok(None));
        };
        ready(match self.verifier.identify(peer.chain(), SystemTime::from(core.now())) {
            Ok(proxy) if self.names.is_empty() || self.names.contains(&proxy.user) => Ok(Some(said)),
            Ok(proxy) => {
                Err(Refused::new(format!("x509: subject with cn={} is not in the allowed list", proxy.user)))
            }
            Err(error) => Err(Refused::new(error.to_string())),
        })
    }

    fn forget(&self, headers: &mut HeaderMap) {
        self.headers.remove_from(headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn the_user_is_what_the_headers_say() {
        let said = headers(&[
            ("x-remote-user", "jane"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-uid", "u1"),
            ("x-remote-extra-acme.com%2fteam", "blue"),
        ]);
        let user = FrontProxyHeaders::default().read(&said).unwrap();
        assert_eq!((&*user.name, &*user.uid), ("jane", "u1"));
        assert_eq!(user.groups, ["dev", "ops"]);
        assert_eq!(user.extra["acme.com/team"], ["blue"]);
        assert_eq!(
            FrontProxyHeaders::default().read(&headers(&[("x-remote-group", "system:masters")])),
            None
        );
    }

    #[test]
    fn nothing_of_it_is_left_afterwards() {
        let mut said = headers(&[("x-remote-user", "jane"), ("x-remote-extra-a", "b"), ("accept", "*/*")]);
        FrontProxyHeaders::default().remove_from(&mut said);
        assert_eq!(said.len(), 1);
    }
}
