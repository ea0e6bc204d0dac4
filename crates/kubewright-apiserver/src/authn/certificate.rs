//! Client certificates: the common name is the user, each organization a group.
//!
//! The TLS listener verified the chain against the client CA before a request gets here; this reads the subject.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authenticator, Refused, UserInfo};
use crate::server::Core;
use crate::{BoxFuture, ready};

/// The verified certificate chain of the connection, leaf first; the listener puts it into each request's extensions.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// Authenticates by the subject of the client certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificate;

impl Authenticator for ClientCertificate {
    fn authenticate<'a>(
        &'a self,
        _core: &'a Core,
        request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Option<UserInfo>, Refused>> {
        let leaf = request.extensions.get::<PeerCertificates>().and_then(|peer| peer.0.first());
        ready(leaf.map_or(Ok(None), |leaf| subject(leaf)))
    }
}

fn subject(der: &[u8]) -> Result<Option<UserInfo>, Refused> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|e| Refused::new(format!("unreadable certificate: {e}")))?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_string).collect();
    Ok(Some(UserInfo { name: name.to_string(), groups, ..UserInfo::default() }))
}
