//! PEM text in and out: certificates and private keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::PkiError;

const LINE: usize = 64;

pub(crate) fn write(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for start in (0..encoded.len()).step_by(LINE) {
        text.push_str(&encoded[start..encoded.len().min(start + LINE)]);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

pub(crate) fn write_certificates<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> String {
    certificates.into_iter().map(|certificate| write("CERTIFICATE", certificate)).collect()
}

pub(crate) fn write_key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    write(label, key.secret_der())
}

/// At least one certificate; other sections are skipped.
pub(crate) fn read_certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let failed = |source| PkiError::Pem { what: "a certificate", source };
    let found =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if found.is_empty() { Err(failed(rustls_pki_types::pem::Error::NoItemsFound)) } else { Ok(found) }
}

pub(crate) fn read_key(text: &str) -> Result<PrivateKeyDer<'static>, PkiError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|source| PkiError::Pem { what: "a private key", source })
}
