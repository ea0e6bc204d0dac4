//! The three patches that are applied to a document: JSON patch ([`json`]), merge patch ([`merge`]) and strategic
//! merge patch ([`strategic`]). (Server-side apply is a merge of field sets and lives in `fieldset`.)
//!
//! Each takes a decoded document and gives a document; whether that is a valid object is judged by decoding it
//! again ([`crate::decode::value_as`]).

pub mod diff;
pub mod json;
pub mod merge;
pub mod strategic;

#[cfg(test)]
pub(crate) use merge::tests::any_json_without_nulls as any_json;
use serde_json::Value;

use crate::field::{self, Path};
use crate::gojson::{self, Style};
use crate::status::Status;

/// The answer to a JSON or merge patch whose result can't be decoded, or not strictly: 422 with the cause `patch`.
pub fn undecodable(patched: &Value, error: impl std::fmt::Display) -> Status {
    let mut text = String::new();
    gojson::write(&mut text, patched, Style::Standard);
    Status::invalid("", "", "", &[field::Error::invalid(&Path::new("patch"), text, error.to_string())])
}

/// The answer to a strategic merge patch whose result can't be decoded, or not strictly: 422 with the cause
/// `patch`. Takes the patch, which is shown as Go prints maps.
pub fn undecodable_strategic(patch: &Value, error: impl std::fmt::Display) -> Status {
    let error = field::Error::invalid(&Path::new("patch"), go_text(patch), error.to_string());
    Status::invalid("", "", "", &[error])
}

/// A value as Go's `%v` prints it: `map[a:1 b:[x y]]`.
pub(crate) fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.clone(),
        Value::Number(n) => field::number(n),
        Value::Bool(b) => b.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_text(v))).collect();
            format!("map[{}]", members.join(" "))
        }
    }
}
