//! Client certificates: the common name is the user, each organization a group.
//!
//! A listener asks for certificates and checks only that the client has the key; whether anybody vouches for the
//! certificate is judged here, again every half minute, so that an expired one is refused on an old connection as well.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use kubewright_pki::ClientVerifier;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;

use super::{Authenticator, Refused, UserInfo};
use crate::server::Core;
use crate::{BoxFuture, ready};

/// How long a good judgement holds: checking signatures costs more than most requests.
const HOLDS: SignedDuration = SignedDuration::from_secs(30);

/// The certificate chain that the peer of a connection presented, leaf first, not yet trusted; the listener makes one for
/// each connection and puts it into the extensions of its requests.
#[derive(Clone, Debug)]
pub struct PeerCertificates {
    chain: Arc<[CertificateDer<'static>]>,
    judged: Arc<Mutex<Option<(Timestamp, UserInfo)>>>,
}

impl From<Vec<CertificateDer<'static>>> for PeerCertificates {
    fn from(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain: chain.into(), judged: Arc::default() }
    }
}

impl PeerCertificates {
    /// The chain, leaf first; empty where the client presented none.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

/// Authenticates by the client certificate, where an authority vouches for it.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    verifier: ClientVerifier,
}

impl ClientCertificate {
    /// Trusts what this verifier trusts.
    pub fn new(verifier: ClientVerifier) -> Self {
        Self { verifier }
    }
}

impl Authenticator for ClientCertificate {
    fn authenticate<'a>(
        &'a self,
        core: &'a Core,
        request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, Refused>> {
        let Some(peer) = request.extensions.get::<PeerCertificates>().filter(|peer| !peer.chain.is_empty())
        else {
            return ready(Ok(None));
        };
        let now = core.now();
        let mut judged = peer.judged.lock();
        if let Some((when, user)) = &*judged
            && now.duration_since(*when).abs() < HOLDS
        {
            return ready(Ok(Some(user.clone())));
        }
        ready(match self.verifier.identify(&peer.chain, SystemTime::from(now)) {
            Ok(subject) => {
                let user = UserInfo { name: subject.user, groups: subject.groups, ..UserInfo::default() };
                *judged = Some((now, user.clone()));
                Ok(Some(user))
            }
            Err(error) => Err(Refused::new(error.to_string())),
        })
    }
}
