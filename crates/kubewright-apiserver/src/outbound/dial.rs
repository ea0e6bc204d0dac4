//! Connecting to others over TLS: whom to trust, and what is said when it fails, in the words of clients written in Go.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use kubewright_pki::{Bundle, Identity};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Address, authority};

/// Where systems keep the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Said of a server that nobody vouches for.
const UNKNOWN: &str = "tls: failed to verify certificate: x509: certificate signed by unknown authority";

/// Whom to trust.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// PEM certificates in base64, as configurations have them; empty for whom the system trusts.
    Bundle(&'a str),
    /// Anybody at all.
    Anybody,
}

/// A set-up of TLS with these protocols on offer.
pub(crate) fn tls(
    trust: Trust<'_>,
    identity: Option<&Identity>,
    protocols: &[&[u8]],
) -> Result<TlsConnector, String> {
    let mut tls = match trust {
        Trust::Anybody => {
            kubewright_pki::client_config_without_verification(identity).map_err(|e| e.to_string())?
        }
        Trust::Bundle(text) => {
            let bundle = if text.is_empty() {
                system_authorities().clone()
            } else {
                let pem = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| UNKNOWN)?;
                Bundle::from_pem(&String::from_utf8_lossy(&pem)).map_err(|error| error.to_string())?
            };
            kubewright_pki::client_config(&bundle, identity).map_err(|_| UNKNOWN)?
        }
    };
    tls.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(tls)))
}

/// Read once; empty where the system keeps none in a known place.
pub(crate) fn system_authorities() -> &'static Bundle {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let read = |path: &&str| Bundle::from_pem(&std::fs::read_to_string(path).ok()?).ok();
        SYSTEM_AUTHORITIES.iter().find_map(read).unwrap_or_default()
    })
}

/// Connects to an address, whose certificate has to be for `server_name`.
pub(crate) async fn connect(
    tls: &TlsConnector,
    address: &Address,
    server_name: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(server_name.to_string()).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((address.0.as_str(), address.1))
        .await
        .map_err(|error| format!("dial tcp {}: {}", authority(address), dialled(&error)))?;
    let _ = stream.set_nodelay(true);
    tls.connect(name, stream).await.map_err(|error| handshake(&error, server_name))
}

fn dialled(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        _ => error.to_string(),
    }
}

/// Why TLS failed.
fn handshake(error: &std::io::Error, server_name: &str) -> String {
    use rustls::CertificateError as Certificate;
    let source = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = source else { return format!("tls: {error}") };
    let why = match why {
        Certificate::UnknownIssuer => return UNKNOWN.into(),
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            format!("x509: certificate is not valid for {server_name}")
        }
        Certificate::Expired
        | Certificate::ExpiredContext { .. }
        | Certificate::NotValidYet
        | Certificate::NotValidYetContext { .. } => {
            "x509: certificate has expired or is not yet valid".to_string()
        }
        other => format!("x509: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}
