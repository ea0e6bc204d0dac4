//! Request bodies in protobuf (`application/vnd.kubernetes.protobuf`), which Go clients send for built-in kinds.
//!
//! A body is four bytes of prefix and a `runtime.Unknown` message: apiVersion and kind of the object, and the object
//! as the message of that kind. It becomes the same JSON value that a JSON body would be; nothing is validated or
//! defaulted here, and answers are never written in protobuf.

mod message;
mod wire;

use kubewright_apiserver::request::{BodyDecoder, DecodeFault};
use kubewright_machinery::gvk::{GroupVersion, GroupVersionKind};
use kubewright_machinery::schema::SchemaRef;
use serde_json::Value;
use thiserror::Error;

use crate::catalogue::Catalogue;
pub use message::MessageError;
pub use wire::WireError;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What a body begins with.
const PREFIX: &[u8] = b"k8s\0";

/// A kind of every group and version.
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// A body cannot be decoded. The text is what a Kubernetes API server says.
#[derive(Debug, Error)]
pub enum ProtobufError {
    /// There are no bytes.
    #[error("empty data")]
    Empty,
    /// The prefix is missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// Nothing follows the prefix.
    #[error("empty body")]
    EmptyBody,
    /// What follows the prefix is no envelope.
    #[error(transparent)]
    Envelope(MessageError),
    /// Neither the body nor the endpoint names a kind.
    #[error("Object 'Kind' is missing in '&runtime.TypeMeta{{APIVersion:\"{api_version}\", Kind:\"\"}}'")]
    MissingKind {
        /// What the body names as apiVersion.
        api_version: String,
    },
    /// No built-in kind.
    #[error(
        "no kind \"{kind}\" is registered for version \"{group_version}\" in scheme \
         \"pkg/api/legacyscheme/scheme.go:30\""
    )]
    UnknownKind {
        /// Group and version.
        group_version: GroupVersion,
        /// Kind.
        kind: String,
    },
    /// The object is not a message of its kind.
    #[error("{source}")]
    Message {
        /// Kind.
        kind: String,
        /// What is wrong.
        source: MessageError,
    },
}

/// The object in a body, with its kind and apiVersion. Kind and apiVersion of `default` (which may be empty) stand in
/// where the body names none. Pure; linear in the size of the body.
///
/// # Errors
/// When the body is malformed, or not of a built-in kind.
pub fn decode(body: &[u8], default: &GroupVersionKind) -> Result<Value, ProtobufError> {
    let envelope = match body.strip_prefix(PREFIX) {
        Some([]) => return Err(ProtobufError::EmptyBody),
        Some(envelope) => envelope,
        None if body.is_empty() => return Err(ProtobufError::Empty),
        None => return Err(ProtobufError::Prefix),
    };
    let (kind, raw) = open(envelope, default)?;
    let group_version = GroupVersion::new(kind.group, kind.version);
    let kind = kind.kind;
    let Some(schema) = schema(&group_version, &kind) else {
        return Err(ProtobufError::UnknownKind { group_version, kind });
    };
    match message::decode(raw, schema) {
        Ok(mut object) => {
            object.insert("apiVersion".into(), group_version.to_string().into());
            object.insert("kind".into(), kind.into());
            Ok(Value::Object(object))
        }
        Err(source) => Err(ProtobufError::Message { kind, source }),
    }
}

/// Kind and message of an envelope.
fn open<'a>(
    envelope: &'a [u8],
    default: &GroupVersionKind,
) -> Result<(GroupVersionKind, &'a [u8]), ProtobufError> {
    let type_meta = message::bytes_at(envelope, 1, "typeMeta").map_err(ProtobufError::Envelope)?;
    let raw = message::bytes_at(envelope, 2, "raw").map_err(ProtobufError::Envelope)?;
    let api_version = message::text_at(type_meta, 1, "apiVersion").map_err(ProtobufError::Envelope)?;
    let mut kind = message::text_at(type_meta, 2, "kind").map_err(ProtobufError::Envelope)?;
    if kind.is_empty() {
        kind.clone_from(&default.kind);
    }
    if kind.is_empty() {
        return Err(ProtobufError::MissingKind { api_version });
    }
    let mut group_version: GroupVersion = api_version.parse().unwrap_or_default();
    if group_version.version.is_empty() {
        group_version = GroupVersion::new(default.group.as_str(), default.version.as_str());
    }
    Ok((group_version.with_kind(kind), raw))
}

fn schema(group_version: &GroupVersion, kind: &str) -> Option<&'static SchemaRef> {
    let catalogue = Catalogue::builtin();
    match kind {
        "DeleteOptions" => catalogue.schema(DELETE_OPTIONS),
        _ => catalogue.kind(&group_version.group, &group_version.version, kind),
    }
}

/// Reads bodies in protobuf, of the built-in kinds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protobuf;

impl BodyDecoder for Protobuf {
    fn media_type(&self) -> &str {
        MEDIA_TYPE
    }

    fn decode(&self, body: &[u8], default: &GroupVersionKind) -> Result<Value, DecodeFault> {
        decode(body, default).map_err(|error| {
            let text = error.to_string();
            let kind = match error {
                ProtobufError::UnknownKind { kind, .. } | ProtobufError::Message { kind, .. } => Some(kind),
                _ => None,
            };
            DecodeFault { kind, error: text }
        })
    }
}

#[cfg(test)]
mod tests;
