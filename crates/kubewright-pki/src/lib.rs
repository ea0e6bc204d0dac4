//! Certificate authorities and certificates for API servers, webhook servers and their clients.
//!
//! An [`Authority`] signs [`Identity`]s (a certificate chain and its key) for servers and for users; a [`Bundle`] is
//! the set of authorities somebody trusts, several at once while one replaces another. From these come rustls
//! configurations, and from a presented client certificate the [`Subject`]: the user and groups it speaks for.
//!
//! The time is always an argument. What never happens here: a file is read or written, a socket is opened, or a
//! private key appears in a `Debug` output. Keys are ECDSA P-256: made and used in some ten microseconds.

mod authority;
mod bundle;
mod der;
mod identity;
mod pem;
mod subject;
mod tls;

use std::time::SystemTime;

pub use authority::Authority;
pub use bundle::Bundle;
pub use identity::Identity;
pub use subject::Subject;
pub use tls::{
    ClientVerifier, ServingCertificate, client_config, client_config_without_verification, server_config,
};

/// Why a certificate was not issued, read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// No key could be made or read.
    #[error("cannot make or read a private key")]
    Key {
        /// Why.
        source: rcgen::Error,
    },
    /// Signing a certificate failed.
    #[error("cannot sign a certificate")]
    Sign {
        /// Why.
        source: rcgen::Error,
    },
    /// A DNS name that a certificate cannot carry.
    #[error("{name:?} cannot be a DNS name of a certificate")]
    Name {
        /// The name.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A PEM text that cannot be read, or lacks what is looked for.
    #[error("cannot read {what} from PEM")]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// Bytes that are no X.509 certificate.
    #[error("not an X.509 certificate")]
    Certificate {
        /// Why; absent where the structure is wrong in a way that needs no more words.
        source: Option<x509_parser::error::X509Error>,
    },
    /// An authority was to be loaded from a certificate that may not sign others.
    #[error("the certificate is not that of a certificate authority")]
    NotAnAuthority,
    /// The private key is not the certificate's.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// A client certificate without a common name names no user.
    #[error("the certificate has no common name")]
    NoUser,
    /// A point in time that a certificate cannot express.
    #[error("the validity cannot be expressed in a certificate")]
    Time,
    /// A bundle was needed and none of its certificates can serve as an authority.
    #[error("no usable certificate authority in the bundle")]
    EmptyBundle,
    /// A certificate that no trusted authority vouches for at this time.
    #[error("the certificate is not trusted")]
    Untrusted {
        /// Why: unknown issuer, expired, not for this use or name.
        source: rustls::Error,
    },
    /// rustls refused a configuration.
    #[error("cannot configure TLS")]
    Tls {
        /// Why.
        source: rustls::Error,
    },
}

/// Validity of a certificate, in seconds since the epoch as X.509 writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Validity {
    /// After two thirds of it.
    fn renew_at(&self) -> SystemTime {
        let whole = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + whole / 3 * 2
    }
}
