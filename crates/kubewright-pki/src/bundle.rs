//! The authorities somebody trusts.
//!
//! Several at once: while one authority replaces another, both are trusted, so that neither servers nor clients have
//! to change at the same moment.

use std::time::SystemTime;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use crate::identity::{parse, validity};
use crate::{PkiError, pem};

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

    pub(crate) fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(self.certificates.iter().cloned());
        if added == 0 { Err(PkiError::EmptyBundle) } else { Ok(roots) }
    }
}
