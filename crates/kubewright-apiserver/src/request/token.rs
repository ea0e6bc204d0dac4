//! Continue tokens: where a list goes on and at which revision. Opaque to clients; the form is Kubernetes'.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine as _};
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The revision of the first page; `None` goes on at whatever is newest.
    pub revision: Option<u64>,
    /// Below the list's prefix, the last key that was returned.
    pub after: String,
}

impl Token {
    /// The text for clients. The key written is the one after the last, as in Kubernetes.
    pub fn encode(&self) -> String {
        let revision = self.revision.map_or(-1, |r| i64::try_from(r).unwrap_or(i64::MAX));
        let text = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": format!("{}\u{0}", self.after) });
        URL_SAFE_NO_PAD.encode(text.to_string())
    }

    /// Reads the text that a client sent back.
    ///
    /// # Errors
    /// 400 with the server's words for what [`Token::encode`] never writes.
    pub fn decode(text: &str) -> Result<Self, Status> {
        let invalid = |why: &str| {
            Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => {
                invalid(&format!("illegal base64 data at input byte {at}"))
            }
            error => invalid(&error.to_string()),
        })?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|e| invalid(&e.to_string()))?;
        if token["v"] != "meta.k8s.io/v1" {
            let version = token["v"].as_str().unwrap_or_default();
            return Err(invalid(&format!("server does not recognize this encoded version {version}")));
        }
        let start = token["start"].as_str().unwrap_or_default();
        if start.is_empty() {
            return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
        }
        if start.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(invalid(start));
        }
        let revision = match token["rv"].as_i64() {
            Some(rv) if rv > 0 => Some(rv as u64),
            Some(rv) if rv < 0 => None,
            _ => return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        };
        Ok(Self { revision, after: start.trim_end_matches('\u{0}').to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back() {
        for revision in [Some(7), None] {
            let token = Token { revision, after: "ns/name".into() };
            assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        }
    }

    #[test]
    fn what_is_no_token_is_a_bad_request() {
        for text in ["%%%", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ"] {
            assert_eq!(Token::decode(text).unwrap_err().code, 400, "{text}");
        }
    }
}
