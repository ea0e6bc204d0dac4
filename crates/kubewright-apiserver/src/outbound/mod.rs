//! Calls that the server itself makes: conversion webhooks, and whoever else is asked over HTTPS with a JSON body; and
//! where the services lead that are called.
//!
//! An [`Endpoint`] as configurations name it flows in, with a body; the body of the answer comes out. What is in the
//! bodies is the caller's matter. Nothing is retried or cached here.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::BoxFuture;
use crate::server::Core;

pub(crate) mod connector;
pub(crate) mod dial;
mod https;
mod peer;
mod services;

pub use https::Https;
pub use peer::{Peer, PeerError};
pub(crate) use services::{Address, addresses, authority, is_ready, is_slice_of};
pub use services::{LocalServices, ServiceError, resolve};

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An `https:` URL.
    Url(String),
    /// A service in the cluster.
    Service {
        /// Namespace of the service.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
        /// Path of the URL; empty for the root.
        path: String,
    },
}

impl Endpoint {
    /// Reads a `clientConfig` (`url`, or `service`), as webhooks and conversions have it. `None` where it names nobody.
    pub fn of(client: &Value) -> Option<Self> {
        if let Some(url) = client.get("url").and_then(Value::as_str) {
            return Some(Self::Url(url.to_string()));
        }
        let service = client.get("service").filter(|s| s.is_object())?;
        let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
        Some(Self::Service {
            namespace: text("namespace"),
            name: text("name"),
            port: u16::try_from(port).unwrap_or(443),
            path: text("path"),
        })
    }

    /// The URL, as error messages name it.
    pub fn url(&self) -> String {
        match self {
            Self::Url(url) => url.clone(),
            Self::Service { namespace, name, port, path } => {
                let slash = if path.starts_with('/') { "" } else { "/" };
                format!("https://{name}.{namespace}.svc:{port}{slash}{path}")
            }
        }
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who is called.
    pub endpoint: Endpoint,
    /// PEM certificates of the authorities that vouch for it; empty for none.
    pub ca_bundle: String,
    /// How long an answer may take.
    pub timeout: Duration,
    /// JSON.
    pub body: Bytes,
}

/// Why there is no answer. The texts are what answers of the API show, and they are those of Kubernetes.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The URL cannot be used.
    #[error("Post {url:?}: unsupported URL")]
    Url {
        /// The URL.
        url: String,
    },
    /// The service leads nowhere.
    #[error("Post {url:?}: {source}")]
    Service {
        /// The URL.
        url: String,
        /// Why.
        source: ServiceError,
    },
    /// Nobody answers there.
    #[error("Post {url:?}: dial tcp {address}: connect: {}", plain(source))]
    Connect {
        /// The URL.
        url: String,
        /// What was dialled.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The CA bundle holds no certificate that can be used.
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    Authorities {
        /// Why.
        source: kubewright_pki::PkiError,
    },
    /// TLS failed: usually a certificate that nobody vouches for.
    #[error("Post {url:?}: tls: failed to verify certificate: {source}")]
    Tls {
        /// The URL.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("Post {url:?}: {source}")]
    Broken {
        /// The URL.
        url: String,
        /// Why.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("Post {url:?}: context deadline exceeded")]
    Timeout {
        /// The URL.
        url: String,
    },
    /// An answer that is none.
    #[error("the server responded with the status code {code} but did not return more information")]
    Refused {
        /// The HTTP status.
        code: u16,
    },
}

/// An I/O error as Go words it.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        _ => error.to_string(),
    }
}

/// Makes calls. A seam, so that tests need no sockets.
pub trait Outbound: Send + Sync {
    /// POSTs and gives the body of a 2xx answer. Services are looked up in the server (see [`resolve`]).
    fn post<'a>(&'a self, core: &'a Core, call: Call) -> BoxFuture<'a, Result<Bytes, CallError>>;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn endpoints_are_read_from_client_configurations() {
        assert_eq!(Endpoint::of(&json!({"url": "https://a/b"})), Some(Endpoint::Url("https://a/b".into())));
        let service =
            Endpoint::of(&json!({"service": {"namespace": "n", "name": "s", "path": "/c"}})).unwrap();
        assert_eq!(service.url(), "https://s.n.svc:443/c");
        assert_eq!(Endpoint::of(&json!({})), None);
    }
}
