//! rustls configurations from identities and bundles.
//!
//! A server asks every client for a certificate but judges none during the handshake, as kube-apiserver does: the
//! client proves that it has the key, and whether its certificate is trusted is for authentication to say, with an
//! HTTP status. So authorities can be added or dropped without touching open listeners, and so can the serving
//! certificate.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{Bundle, Identity, PkiError, Subject};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn tls(source: rustls::Error) -> PkiError {
    PkiError::Tls { source }
}

/// The certificate a server shows; it can be replaced while the server runs.
#[derive(Debug)]
pub struct ServingCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServingCertificate {
    /// Serves with this identity. [`PkiError::Tls`] where its key is unusable or not its certificate's.
    pub fn new(identity: &Identity) -> Result<Self, PkiError> {
        Ok(Self { current: RwLock::new(certified(identity)?) })
    }

    /// Serves new connections with this identity.
    pub fn replace(&self, identity: &Identity) -> Result<(), PkiError> {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certified(identity)?;
        Ok(())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, PkiError> {
    let key = CertifiedKey::from_der(identity.chain().to_vec(), identity.key().clone_key(), &provider());
    key.map(Arc::new).map_err(tls)
}

/// A server's side of TLS 1.2 and 1.3 that offers HTTP/2 and HTTP/1.1 and asks clients for a certificate.
///
/// A handshake with any certificate succeeds if the client has its key; [`ClientVerifier`] tells whom it speaks for.
pub fn server_config(serving: Arc<ServingCertificate>) -> Result<ServerConfig, PkiError> {
    let provider = provider();
    let asks = Arc::new(AsksForCertificate { provider: Arc::clone(&provider) });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_client_cert_verifier(asks)
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A client's side: trusts servers that `authorities` vouch for, and shows `identity` where the server asks. The
/// protocols to offer (`alpn_protocols`) are left to the caller.
pub fn client_config(authorities: &Bundle, identity: Option<&Identity>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(authorities.roots()?);
    showing(builder, identity)
}

/// A client's side that takes any server for the one it wants: what `insecureSkipTLSVerify` asks for. The connection is
/// encrypted, and nobody knows towards whom.
pub fn client_config_without_verification(identity: Option<&Identity>) -> Result<ClientConfig, PkiError> {
    let provider = provider();
    let anybody = Arc::new(TakesAnybody(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(anybody);
    showing(builder, identity)
}

/// A client's side that shows `identity` where the server asks for a certificate.
fn showing(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&Identity>,
) -> Result<ClientConfig, PkiError> {
    match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain().to_vec(), identity.key().clone_key()).map_err(tls)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Checks only that the server has the key to the certificate that it shows.
#[derive(Debug)]
struct TakesAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Judges the certificates that clients presented. Cheap to clone.
#[derive(Clone)]
pub struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    /// Trusts clients that these authorities vouch for.
    pub fn new(authorities: &Bundle) -> Result<Self, PkiError> {
        let roots = Arc::new(authorities.roots()?);
        // The bundle is known to hold an authority, which is all that this can fail for.
        let inner = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        Ok(Self { inner: inner.map_err(|_| PkiError::EmptyBundle)? })
    }

    /// Whom a presented chain (leaf first) speaks for. [`PkiError::Untrusted`] where no authority vouches for it, it
    /// is not valid at `now`, or it is not for clients.
    pub fn identify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Subject, PkiError> {
        let (leaf, intermediates) = chain.split_first().ok_or(PkiError::Certificate { source: None })?;
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| PkiError::Time)?;
        self.inner
            .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since_epoch))
            .map_err(|source| PkiError::Untrusted { source })?;
        Subject::of(leaf)
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientVerifier")
    }
}

/// Asks for a certificate and checks only that the client has the key to it.
#[derive(Debug)]
struct AsksForCertificate {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AsksForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a client may show whatever it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
