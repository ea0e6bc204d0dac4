//! Whom a client certificate speaks for, as Kubernetes reads it: the common name is the user, organizations are groups.

use rustls_pki_types::CertificateDer;

use crate::PkiError;
use crate::identity::parse;

/// The user and groups of a client certificate. Says nothing about whether the certificate can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The common name; the last one where there are several.
    pub user: String,
    /// The organizations, in order.
    pub groups: Vec<String>,
}

impl Subject {
    /// Reads the subject of a certificate. [`PkiError::NoUser`] where it has no common name.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let parsed = parse(certificate)?;
        let name = parsed.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute
                .as_str()
                .map(str::to_owned)
                .map_err(|source| PkiError::Certificate { source: Some(source) })
        };
        let user = name.iter_common_name().last().map(text).transpose()?.filter(|user| !user.is_empty());
        let groups = name.iter_organization().map(text).collect::<Result<_, _>>()?;
        Ok(Self { user: user.ok_or(PkiError::NoUser)?, groups })
    }
}
