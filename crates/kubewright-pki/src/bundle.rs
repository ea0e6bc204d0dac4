//! The authorities somebody trusts.
//!
//! Several at once: while one authority replaces another, both are trusted, so that neither servers nor clients have
//! to change at the same moment.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::identity::{parse, validity};
use crate::{Identity, PkiError, pem};

/// Certificates of trusted authorities, each once, in the order they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    certificates: Vec<CertificateDer<'static>>,
}

impl From<Vec<CertificateDer<'static>>> for Bundle {
    fn from(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut bundle = Self::default();
        for certificate in certificates {
            bundle.add(certificate);
        }
        bundle
    }
}

impl Bundle {
    /// Reads one or more certificates.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        Ok(Self::from(pem::read_certificates(text)?))
    }

    /// All certificates as PEM, one after the other.
    pub fn to_pem(&self) -> String {
        pem::write_certificates(&self.certificates)
    }

    /// The certificates.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Trusts one more authority; one that is there already is not added again.
    pub fn add(&mut self, certificate: CertificateDer<'static>) {
        if !self.certificates.contains(&certificate) {
            self.certificates.push(certificate);
        }
    }

    /// Drops the authorities that have expired. [`PkiError::Certificate`] where one cannot be read.
    pub fn prune(&mut self, now: SystemTime) -> Result<(), PkiError> {
        let mut kept = Vec::new();
        for certificate in &self.certificates {
            if validity(&parse(certificate)?)?.not_after >= now {
                kept.push(certificate.clone());
            }
        }
        self.certificates = kept;
        Ok(())
    }

    /// Whether a client that trusts this bundle would talk to a server with this identity under this name.
    /// [`PkiError::Untrusted`] where it would not: unknown issuer, expired, for other names.
    pub fn vouches_for(&self, server: &Identity, name: &str, now: SystemTime) -> Result<(), PkiError> {
        let (leaf, intermediates) =
            server.chain().split_first().ok_or(PkiError::Certificate { source: None })?;
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| PkiError::Time)?;
        let untrusted = |source| PkiError::Untrusted { source };
        let name = ServerName::try_from(name)
            .map_err(|_| untrusted(rustls::CertificateError::NotValidForName.into()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider)
            .build()
            // The bundle is known to hold an authority, which is all that this can fail for.
            .map_err(|_| PkiError::EmptyBundle)?;
        let now = UnixTime::since_unix_epoch(since_epoch);
        verifier.verify_server_cert(leaf, intermediates, &name, &[], now).map(drop).map_err(untrusted)
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(self.certificates.iter().cloned());
        if added == 0 { Err(PkiError::EmptyBundle) } else { Ok(roots) }
    }
}
