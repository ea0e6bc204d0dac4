//! Continue tokens: where a list goes on and at which revision. Opaque to clients; the form is Kubernetes'.

use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD};
use base64::{DecodeError, Engine as _};
use kubewright_machinery::decode;
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

/// Reads what clients send back, also where the last character has bits that mean nothing.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

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
        let bytes = LENIENT.decode(text).map_err(|error| match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => {
                invalid(&format!("illegal base64 data at input byte {at}"))
            }
            DecodeError::InvalidLength(length) => {
                invalid(&format!("illegal base64 data at input byte {}", length.saturating_sub(1)))
            }
            error => invalid(&error.to_string()),
        })?;
        let token = decode::json(&bytes).map_err(|error| invalid(&error.to_string()))?.value;
        if !token.is_object() && !token.is_null() {
            let what = decode::json_type(&token);
            return Err(invalid(&format!(
                "json: cannot unmarshal {what} into Go value of type storage.continueToken"
            )));
        }
        type Check = fn(&Value) -> bool;
        let fields: [(&str, &str, Check); 3] = [
            ("v", "string", Value::is_string),
            ("rv", "int64", Value::is_i64),
            ("start", "string", Value::is_string),
        ];
        for (field, ty, is) in fields {
            if let Some(found) = token.get(field).filter(|found| !found.is_null() && !is(found)) {
                let what = match found {
                    Value::Number(number) if ty == "int64" => format!("number {number}"),
                    found => decode::json_type(found).to_string(),
                };
                return Err(invalid(&format!(
                    "json: cannot unmarshal {what} into Go struct field continueToken.{field} of type {ty}"
                )));
            }
        }
        let text = |field: &str| token.get(field).and_then(Value::as_str).unwrap_or_default();
        let version = text("v");
        if version != "meta.k8s.io/v1" {
            return Err(invalid(&format!("server does not recognize this encoded version {version}")));
        }
        let revision = match token.get("rv").and_then(Value::as_i64) {
            Some(rv) if rv > 0 => Some(rv.unsigned_abs()),
            Some(rv) if rv < 0 => None,
            _ => return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        };
        let start = text("start");
        if start.is_empty() {
            return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
        }
        // A path that is not as short as it can be leads somewhere else.
        let parts = start.strip_prefix('/').unwrap_or(start);
        if start != "/" && parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid(start));
        }
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
    fn what_is_no_token_is_a_bad_request_that_says_why() {
        let of = |token: &str| URL_SAFE_NO_PAD.encode(token);
        for (text, why) in [
            ("%%%".to_string(), "illegal base64 data at input byte 0"),
            ("a".to_string(), "illegal base64 data at input byte 0"),
            (of("x"), "invalid character 'x' looking for beginning of value"),
            (of("[]"), "json: cannot unmarshal array into Go value of type storage.continueToken"),
            (
                of(r#"{"v":1}"#),
                "json: cannot unmarshal number into Go struct field continueToken.v of type string",
            ),
            (of("{}"), "server does not recognize this encoded version "),
            (
                of(r#"{"v":"meta.k8s.io/v1"}"#),
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (of(r#"{"v":"meta.k8s.io/v1","rv":1}"#), "encoded start key empty (version meta.k8s.io/v1)"),
            (of(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a/../../b"}"#), "a/../../b"),
            (of(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a//b"}"#), "a//b"),
        ] {
            let status = Token::decode(&text).unwrap_err();
            assert_eq!(status.code, 400, "{text}");
            assert_eq!(status.message, format!("invalid continue token: continue key is not valid: {why}"));
        }
    }
}
