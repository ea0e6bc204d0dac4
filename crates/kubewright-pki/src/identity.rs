//! What a server or a user shows and proves: a certificate chain with its private key.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::{PkiError, Validity, pem};

/// A certificate chain, leaf first, and the leaf's private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    validity: Validity,
}

impl Identity {
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, PkiError> {
        let leaf = chain.first().ok_or(PkiError::Certificate { source: None })?;
        let validity = validity(&parse(leaf)?)?;
        Ok(Self { chain, key, validity })
    }

    /// Reads a certificate chain (leaf first) and a key (PKCS #8, PKCS #1 or SEC 1). Whether they belong together is
    /// checked where they are put to use.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, PkiError> {
        Self::new(pem::read_certificates(certificates)?, pem::read_key(key)?)
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The leaf's private key.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The chain as PEM.
    pub fn certificate_pem(&self) -> String {
        pem::write_certificates(&self.chain)
    }

    /// The private key as PEM. Keep it to yourself.
    pub fn key_pem(&self) -> String {
        pem::write_key(&self.key)
    }

    /// The leaf is valid until then.
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    /// When to issue a successor: after two thirds of the validity.
    pub fn renew_at(&self) -> SystemTime {
        self.validity.renew_at()
    }

    /// The DNS names that the leaf is for. [`PkiError::Certificate`] where it cannot be read.
    pub fn dns_names(&self) -> Result<Vec<String>, PkiError> {
        let leaf = self.chain.first().ok_or(PkiError::Certificate { source: None })?;
        let parsed = parse(leaf)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|source| PkiError::Certificate { source: Some(source) })?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Ok(names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect())
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), validity: self.validity }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificates", &self.chain.len())
            .field("validity", &self.validity)
            .finish()
    }
}

/// A certificate, which must be the whole of `der`.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PkiError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(PkiError::Certificate { source: None }),
        Err(x509_parser::nom::Err::Error(source) | x509_parser::nom::Err::Failure(source)) => {
            Err(PkiError::Certificate { source: Some(source) })
        }
        Err(x509_parser::nom::Err::Incomplete(_)) => Err(PkiError::Certificate { source: None }),
    }
}

pub(crate) fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, PkiError> {
    let validity = certificate.validity();
    Ok(Validity {
        not_before: system_time(validity.not_before)?,
        not_after: system_time(validity.not_after)?,
    })
}

fn system_time(time: ASN1Time) -> Result<SystemTime, PkiError> {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let point = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    point.ok_or(PkiError::Time)
}
