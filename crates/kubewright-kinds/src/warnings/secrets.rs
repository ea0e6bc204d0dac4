//! Warnings about secrets that hold a certificate and its key: whether the two can be read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::fields::text;
use crate::validation::pem_kinds;

pub(crate) fn secret(object: &Value, _: Option<&Value>) -> Vec<String> {
    if text(object, &["type"]) != "kubernetes.io/tls" {
        return Vec::new();
    }
    let kinds = |field: &str| {
        let bytes = STANDARD.decode(text(object, &["data", field])).unwrap_or_default();
        pem_kinds(&String::from_utf8_lossy(&bytes))
    };
    fault(&kinds("tls.crt"), &kinds("tls.key")).into_iter().collect()
}

/// What a reader of PEM finds wrong with the kinds of blocks in a certificate and in a key.
fn fault(certificate: &[String], key: &[String]) -> Option<String> {
    let is_key = |kind: &str| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY");
    if !certificate.iter().any(|kind| kind == "CERTIFICATE") {
        return Some(match certificate {
            [] => "tls: failed to find any PEM data in certificate input".into(),
            [only] if only.ends_with("PRIVATE KEY") => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs \
                 may have been switched"
                    .into()
            }
            kinds => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
                 following types: [{}]",
                kinds.join(" ")
            ),
        });
    }
    if !key.iter().any(|kind| is_key(kind)) {
        return Some(match key {
            [] => "tls: failed to find any PEM data in key input".into(),
            [only] if only == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key".into()
            }
            kinds => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM \
                 blocks of the following types: [{}]",
                kinds.join(" ")
            ),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(certificate: &str, key: &str) -> Vec<String> {
        let object = json!({"type": "kubernetes.io/tls",
            "data": {"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key)}});
        secret(&object, None)
    }

    #[test]
    fn a_certificate_and_its_key_are_pem() {
        let block = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        assert_eq!(of("x", "y"), ["tls: failed to find any PEM data in certificate input"]);
        let certificate = block("CERTIFICATE");
        assert_eq!(of(&certificate, "y"), ["tls: failed to find any PEM data in key input"]);
        assert_eq!(
            of(&certificate, &certificate),
            ["tls: found a certificate rather than a key in the PEM for the private key"]
        );
        assert_eq!(
            of(&block("RSA PRIVATE KEY"), &certificate),
            [
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
            ]
        );
    }
}
