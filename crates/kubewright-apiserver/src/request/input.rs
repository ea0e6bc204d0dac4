//! How request bodies are written: JSON and YAML, which the server reads itself, and media types that only somebody
//! who knows the kinds can read (protobuf needs a field's number and type), which are handed in.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use kubewright_machinery::gvk::GroupVersionKind;
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::negotiate::{SUPPORTED, content_type};

/// Reads request bodies of one media type.
pub trait BodyDecoder: Send + Sync {
    /// The media type, lower case and without parameters.
    fn media_type(&self) -> &str;

    /// The object in a body, with its kind and apiVersion; `default` stands in where the body names none.
    ///
    /// # Errors
    /// When the body is malformed or of a kind that is not known.
    fn decode(&self, body: &[u8], default: &GroupVersionKind) -> Result<Value, DecodeFault>;
}

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeFault {
    /// The kind that the body names, if it got that far.
    pub kind: Option<String>,
    /// What is wrong, as the client is told.
    pub error: String,
}

/// How the body of a create, update or delete is written.
#[derive(Clone)]
pub enum Input {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// What a decoder reads. Strict checks do not apply: there are no names that could be unknown or given twice.
    Decoder(Arc<dyn BodyDecoder>),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Decoder(decoder) => decoder.media_type(),
        })
    }
}

impl Input {
    /// Chooses by Content-Type; a body without one is JSON.
    ///
    /// # Errors
    /// 415 for a type that nobody reads, and for one with a parameter that has no value.
    pub fn of(headers: &HeaderMap, decoders: &[Arc<dyn BodyDecoder>]) -> Result<Self, Status> {
        let stated = headers.get(CONTENT_TYPE).and_then(|header| header.to_str().ok()).unwrap_or_default();
        if stated.split(';').skip(1).any(|param| !param.trim().is_empty() && !param.contains('=')) {
            return Err(Status::unsupported_media_type(&SUPPORTED));
        }
        match content_type(headers).as_str() {
            "" | "application/json" => Ok(Self::Json),
            "application/yaml" => Ok(Self::Yaml),
            other => match decoders.iter().find(|d| d.media_type() == other) {
                Some(decoder) => Ok(Self::Decoder(Arc::clone(decoder))),
                None => Err(Status::unsupported_media_type(&SUPPORTED)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Morse;

    impl BodyDecoder for Morse {
        fn media_type(&self) -> &str {
            "application/morse"
        }

        fn decode(&self, _: &[u8], _: &GroupVersionKind) -> Result<Value, DecodeFault> {
            Ok(Value::Null)
        }
    }

    #[test]
    fn the_content_type_chooses_who_reads_the_body() {
        let decoders: [Arc<dyn BodyDecoder>; 1] = [Arc::new(Morse)];
        let chosen = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, text.parse().unwrap());
            Input::of(&headers, &decoders).map(|input| format!("{input:?}")).map_err(|status| status.code)
        };
        assert_eq!(chosen("Application/JSON; charset=utf-8"), Ok("application/json".into()));
        assert_eq!(chosen("application/yaml"), Ok("application/yaml".into()));
        assert_eq!(chosen("application/morse;speed=12"), Ok("application/morse".into()));
        assert_eq!(chosen("text/plain"), Err(415));
        assert_eq!(chosen("application/json;speed"), Err(415));
        assert!(matches!(Input::of(&HeaderMap::new(), &[]), Ok(Input::Json)));
    }
}
