//! PATCH: JSON patch, merge patch, strategic merge patch and apply, each read once and applied to the object as often
//! as it takes.

use kubewright_machinery::decode::{self, Decoded};
use kubewright_machinery::meta;
use kubewright_machinery::patch::{self as machinery, json, merge, strategic};
use kubewright_machinery::schema::{self, SchemaRef};
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::body::{self, Expected};
use super::write::{Change, Writer};
use super::{Call, managers, read_body};
use crate::request::negotiate::{self, Endpoint};
use crate::request::params::WriteKind;
use crate::request::{FieldValidation, WriteOptions};
use crate::resources::RequestBody;
use crate::server::Response;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch that was read.
pub(super) enum Patch {
    /// RFC 6902.
    Json(json::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Strategic merge patch.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

/// What was read, with what a strict decoder says of it.
pub(super) struct Read {
    pub patch: Patch,
    pub strict: Vec<String>,
}

/// PATCH on an object, or on a subresource that is the object itself.
pub(super) async fn patch(call: &Call, body: RequestBody) -> Result<Response, Status> {
    let (output, options, read) = read(call, body).await?;
    let mut writer = Writer::new(call, options);
    writer.patch_faults = read.strict;
    let written = writer.update(Change::Patch(read.patch)).await?;
    written.answer(call, output)
}

/// Reads the patch of a request.
pub(super) async fn read(
    call: &Call,
    body: RequestBody,
) -> Result<(crate::request::Output, WriteOptions, Read), Status> {
    let content_type = negotiate::content_type(&call.parts.headers);
    let accepted: &[&str] =
        if call.resource.custom { &[JSON, MERGE, APPLY] } else { &[JSON, MERGE, STRATEGIC, APPLY] };
    if !accepted.contains(&&*content_type) {
        return Err(Status::unsupported_media_type(accepted));
    }
    let output = call.output(Endpoint::Object)?;
    let body = read_body(body).await?;
    let kind = if content_type == APPLY { WriteKind::Apply } else { WriteKind::Patch };
    let options = WriteOptions::parse(&call.info.query, kind)?;
    let (patch, strict) = match &*content_type {
        JSON => {
            let (patch, strict) = json::parse(&body).map_err(|e| e.status())?;
            if let Some(trail) = call.trail() {
                trail.sent(&serde_json::from_slice(&body).unwrap_or_default());
            }
            (Patch::Json(patch), strict)
        }
        MERGE => {
            let decoded = merge::parse(&body).map_err(|e| e.status())?;
            (Patch::Merge(decoded.value), decoded.strict)
        }
        STRATEGIC => {
            let decoded = strategic::parse(&body).map_err(|e| e.status())?;
            (Patch::Strategic(decoded.value), decoded.strict)
        }
        _ => {
            let undecodable = |e: String| Status::bad_request(format!("error decoding YAML: {e}"));
            let decoded = decode::yaml(&body)
                .map_err(|e| undecodable(format!("error converting YAML to JSON: {e}")))?;
            let value = match decoded.value {
                // An empty document is an object of no kind.
                Value::Null => Value::Object(serde_json::Map::new()),
                value @ Value::Object(_) => value,
                other => {
                    let what = decode::json_type(&other);
                    return Err(undecodable(format!(
                        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into Go value of \
                         type map[string]interface {{}}"
                    )));
                }
            };
            (Patch::Apply(value), decoded.strict)
        }
    };
    if let Patch::Merge(patch) | Patch::Strategic(patch) | Patch::Apply(patch) = &patch {
        call.note_sent(patch);
    }
    Ok((output, options, Read { patch, strict }))
}

impl Patch {
    /// Whether it creates an object that is not there.
    pub fn may_create(&self) -> bool {
        matches!(self, Patch::Apply(_))
    }

    /// The object that it creates.
    pub fn create(&self, writer: &Writer<'_>) -> Result<Value, Status> {
        match self {
            Patch::Apply(patch) => apply(writer, None, patch),
            _ => Err(writer.call.not_found(&writer.call.info.name)),
        }
    }

    /// The object after the patch, with its managedFields.
    pub fn apply(&self, writer: &Writer<'_>, old: &Value) -> Result<Value, Status> {
        let call = writer.call;
        let schema = &call.resource.schema;
        let expected = Expected::of(&call.resource);
        let mut object = match self {
            Patch::Apply(patch) => return apply(writer, Some(old), patch),
            _ => self.change(writer, old, &expected, schema)?,
        };
        call.resource.default(&mut object);
        let manager = writer.options.manager(call.user_agent());
        Ok(managers::update(call, Some(old), object, &manager, writer.now))
    }

    /// The object after a patch that is no apply, decoded again as its kind.
    pub fn change(
        &self,
        writer: &Writer<'_>,
        old: &Value,
        expected: &Expected<'_>,
        schema: &SchemaRef,
    ) -> Result<Value, Status> {
        let patched = match self {
            Patch::Json(patch) => patch.apply(old.clone()).map_err(|e| e.status())?,
            Patch::Merge(patch) => {
                let mut patched = old.clone();
                merge::apply(&mut patched, patch.clone());
                patched
            }
            Patch::Strategic(patch) => {
                strategic::apply(old.clone(), patch.clone(), schema).map_err(|e| e.status())?
            }
            Patch::Apply(_) => return Err(Status::internal("an apply has its own way")),
        };
        let refused = |error: String| match self {
            Patch::Strategic(patch) => machinery::undecodable_strategic(patch, error),
            _ => machinery::undecodable(&patched, error),
        };
        self.check_kind(writer.call, &patched, expected).map_err(refused)?;
        let mut decoded = match expected.custom {
            true => Decoded { value: patched.clone(), strict: Vec::new() },
            false => decode::value_as(patched.clone(), schema).map_err(|e| refused(e.to_string()))?,
        };
        body::settle(&mut decoded, expected).map_err(refused)?;
        let mut faults = writer.patch_faults.clone();
        faults.append(&mut decoded.strict);
        match writer.options.field_validation {
            FieldValidation::Strict if !faults.is_empty() => {
                return Err(refused(format!("strict decoding error: {}", faults.join(", "))));
            }
            FieldValidation::Warn => body::warn(writer.call, &faults),
            _ => {}
        }
        Ok(decoded.value)
    }
}

impl Patch {
    /// Whether the patched object is still what it was. A strategic merge patch goes from type to type and looks at no
    /// kind; others decode what they made.
    fn check_kind(&self, call: &Call, patched: &Value, expected: &Expected<'_>) -> Result<(), String> {
        let (kind, api_version) = (meta::kind(patched), meta::api_version(patched));
        let wanted = expected.api_version();
        if matches!(self, Patch::Strategic(_)) {
            return Ok(());
        }
        if expected.custom {
            // Validation says what is wrong with a kind that is named.
            return match (kind, api_version) {
                ("", _) => Err(format!("Object 'Kind' is missing in '{patched}'")),
                (_, "") => Err(format!("the patched object has the apiVersion \"\", not {wanted:?}")),
                _ => Ok(()),
            };
        }
        // A built-in kind is known without being named.
        let kind = if kind.is_empty() { expected.kind } else { kind };
        let api_version = if api_version.is_empty() { &wanted } else { api_version };
        if kind == expected.kind && api_version == wanted {
            return Ok(());
        }
        Err(body::inconvertible(call, kind, api_version, expected).unwrap_or_else(|| {
            format!("the patched object has the apiVersion {api_version:?}, not {wanted:?}")
        }))
    }
}

/// Server-side apply.
fn apply(writer: &Writer<'_>, live: Option<&Value>, patch: &Value) -> Result<Value, Status> {
    let call = writer.call;
    let options = &writer.options;
    let applied = managers::of(call)
        .apply(live, patch, &options.field_manager, options.force, writer.now)
        .map_err(|e| e.to_status())?;
    match options.field_validation {
        FieldValidation::Strict if !writer.patch_faults.is_empty() => {
            return Err(Status::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
                writer.patch_faults.join("\n  ")
            )));
        }
        FieldValidation::Warn => body::warn(call, &writer.patch_faults),
        _ => {}
    }
    let expected = Expected::of(&call.resource);
    let mut decoded = match expected.custom {
        true => Decoded { value: applied, strict: Vec::new() },
        false => decode::value_as(applied, &call.resource.schema)
            .map_err(|e| Status::internal(format!("failed to convert new object: {e}")))?,
    };
    body::settle(&mut decoded, &expected).map_err(Status::internal)?;
    match expected.custom {
        // What is applied is not decoded again: nulls stay, for validation to judge.
        true => schema::default::fill(&mut decoded.value, &call.resource.schema),
        false => call.resource.default(&mut decoded.value),
    }
    Ok(decoded.value)
}
