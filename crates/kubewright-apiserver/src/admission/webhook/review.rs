//! AdmissionReview: the question to a webhook and what its answer means.
//!
//! Pure: values in, values out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubewright_machinery::field::quote;
use kubewright_machinery::patch::json as json_patch;
use kubewright_machinery::status::Status;
use serde::Serialize;
use serde_json::{Value, json};

use crate::admission::Attributes;
use crate::resources::Resource;

/// The version of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    V1,
    /// Answers are not held to kind and uid.
    V1Beta1,
}

impl Form {
    /// The first of a webhook's `admissionReviewVersions` that is known. None given means v1.
    pub fn of(versions: &Value) -> Option<Self> {
        let Some(versions) = versions.as_array() else { return Some(Form::V1) };
        versions.iter().find_map(|version| match version.as_str() {
            Some("v1") => Some(Form::V1),
            Some("v1beta1") => Some(Form::V1Beta1),
            _ => None,
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Form::V1 => "admission.k8s.io/v1",
            Form::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The objects that a webhook is shown.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub object: Option<&'a Value>,
    pub old: Option<&'a Value>,
}

/// What a webhook said.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Its refusal, if it refused.
    pub refusal: Option<Status>,
    /// Its patch, if it has one that does anything.
    pub patch: Option<json_patch::Patch>,
    /// The same, as it was sent.
    pub patch_text: Value,
    /// Warnings for the client.
    pub warnings: Vec<String>,
    /// Annotations for the audit log.
    pub annotations: Vec<(String, String)>,
}

/// Why an answer is none. The texts are what answers of the API show.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("failed to call webhook: {0}")]
    Json(serde_json::Error),
    #[error("received invalid webhook response: webhook response was absent")]
    Absent,
    #[error(
        "received invalid webhook response: expected response.uid={}, got {}",
        quote(expected),
        quote(found)
    )]
    Uid { expected: String, found: String },
    #[error("received invalid webhook response: expected webhook response of {expected}, got {found}")]
    Kind { expected: String, found: String },
    #[error("received invalid webhook response: {0}")]
    Patch(&'static str),
    #[error("received invalid webhook response: webhook returned invalid response.patchType of \"\"")]
    EmptyPatchType,
    #[error("unsupported patch type {}", quote(_0))]
    PatchType(String),
    #[error("received undecodable patch in webhook response: {0}")]
    Base64(base64::DecodeError),
    #[error("received undecodable patch in webhook response: {0}")]
    Undecodable(json_patch::ParseError),
}

/// A review on its way out: objects are borrowed, they may be large.
#[derive(Serialize)]
struct Review<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: Value,
    resource: Value,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: Value,
    request_resource: Value,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'static str,
    user_info: Value,
    object: Option<&'a Value>,
    old_object: Option<&'a Value>,
    dry_run: bool,
    options: &'a Value,
}

/// Kind and resource of a write, as a version has them.
fn named(attributes: &Attributes<'_>, resource: &Resource) -> (Value, Value) {
    let sub = attributes.subresource.map(|sub| {
        // The subresource of the other version; its kind may be the parent's.
        resource.subresources.iter().find(|s| s.name == sub.name).unwrap_or(sub)
    });
    let (group, version, kind) = match sub {
        Some(sub) => (&*sub.group, &*sub.version, &*sub.kind),
        None => (&*resource.group, &*resource.version, &*resource.kind),
    };
    (
        json!({"group": group, "version": version, "kind": kind}),
        json!({"group": resource.group, "version": resource.version, "resource": resource.plural}),
    )
}

/// The review that asks about a write, as JSON. `version` is where it is shown in another version.
pub(super) fn question(
    attributes: &Attributes<'_>,
    version: Option<&Resource>,
    shown: Shown<'_>,
    form: Form,
    uid: &str,
) -> Vec<u8> {
    let (request_kind, request_resource) = named(attributes, attributes.resource);
    let (kind, resource) = match version {
        Some(version) => named(attributes, version),
        None => (request_kind.clone(), request_resource.clone()),
    };
    let mut user = json!({"username": attributes.user.name, "groups": attributes.user.groups});
    if !attributes.user.uid.is_empty() {
        user["uid"] = attributes.user.uid.as_str().into();
    }
    if !attributes.user.extra.is_empty() {
        user["extra"] = json!(attributes.user.extra);
    }
    let sub = attributes.subresource_name();
    let review = Review {
        kind: "AdmissionReview",
        api_version: form.api_version(),
        request: Request {
            uid,
            kind,
            resource,
            sub_resource: sub,
            request_kind,
            request_resource,
            request_sub_resource: sub,
            name: attributes.name,
            namespace: attributes.namespace,
            operation: attributes.operation.as_str(),
            user_info: user,
            object: shown.object,
            old_object: shown.old,
            dry_run: attributes.dry_run,
            options: attributes.options,
        },
    };
    serde_json::to_vec(&review).expect("values are always JSON")
}

/// Reads an answer.
///
/// # Errors
/// What is wrong with it: the webhook then counts as failing.
pub(super) fn verdict(
    answer: &[u8],
    form: Form,
    uid: &str,
    webhook: &str,
    may_patch: bool,
) -> Result<Verdict, AnswerError> {
    let review: Value = serde_json::from_slice(answer).map_err(AnswerError::Json)?;
    let kinds_match = review["kind"] == "AdmissionReview" && review["apiVersion"] == form.api_version();
    let wrong_kind = || AnswerError::Kind {
        expected: format!("{}, Kind=AdmissionReview", form.api_version()),
        found: format!("{}, Kind={}", text(&review["apiVersion"]), text(&review["kind"])),
    };
    let Some(response) = review.get("response").filter(|r| r.is_object()) else {
        return Err(if kinds_match { AnswerError::Absent } else { wrong_kind() });
    };
    if form == Form::V1 {
        if response["uid"] != uid {
            return Err(AnswerError::Uid { expected: uid.into(), found: text(&response["uid"]).into() });
        }
        if !kinds_match {
            return Err(wrong_kind());
        }
    }
    let (patch, patch_text) = patch_of(response, form, may_patch)?;
    let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let warnings = warnings.map(str::to_string).collect();
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let annotations = annotations.map(|(key, value)| (key.clone(), text(value).to_string())).collect();
    let refusal = (response["allowed"] != true).then(|| refused(&response["status"], webhook));
    Ok(Verdict { refusal, patch, patch_text, warnings, annotations })
}

fn patch_of(
    response: &Value,
    form: Form,
    may_patch: bool,
) -> Result<(Option<json_patch::Patch>, Value), AnswerError> {
    let patch = response.get("patch").and_then(Value::as_str).filter(|p| !p.is_empty());
    let patch_type = response.get("patchType").and_then(Value::as_str);
    if !may_patch {
        return match (form, patch, patch_type) {
            (Form::V1, Some(_), _) => {
                Err(AnswerError::Patch("validating webhook may not return response.patch"))
            }
            (Form::V1, _, Some(_)) => {
                Err(AnswerError::Patch("validating webhook may not return response.patchType"))
            }
            _ => Ok((None, Value::Null)),
        };
    }
    if form == Form::V1 {
        match (patch, patch_type) {
            (Some(_), None) => {
                return Err(AnswerError::Patch("webhook returned response.patch but not response.patchType"));
            }
            (None, Some(_)) => {
                return Err(AnswerError::Patch("webhook returned response.patchType but not response.patch"));
            }
            (_, Some("")) => return Err(AnswerError::EmptyPatchType),
            _ => {}
        }
    }
    let Some(patch) = patch else { return Ok((None, Value::Null)) };
    let bytes = STANDARD.decode(patch).map_err(AnswerError::Base64)?;
    let (patch, _) = json_patch::parse(&bytes).map_err(AnswerError::Undecodable)?;
    if let (Form::V1, Some(other)) = (form, patch_type.filter(|t| *t != "JSONPatch")) {
        return Err(AnswerError::PatchType(other.into()));
    }
    let sent = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok((Some(patch).filter(|p| !p.is_empty()), sent))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn refused(status: &Value, webhook: &str) -> Status {
    let denied = format!("admission webhook {} denied the request", quote(webhook));
    let (message, reason) = (text(&status["message"]), text(&status["reason"]));
    let message = match (message, reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = status["code"].as_u64().and_then(|c| u16::try_from(c).ok()).filter(|c| (400..600).contains(c));
    let mut refusal = Status::failure(code.unwrap_or(400), reason, message);
    refusal.details = serde_json::from_value(status["details"].clone()).ok().map(Box::new);
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
            .to_string()
            .into()
    }

    fn read(said: &[u8], may_patch: bool) -> Result<Verdict, String> {
        verdict(said, Form::V1, "u", "a", may_patch).map_err(|error| error.to_string())
    }

    #[test]
    fn a_refusal_is_worded_by_the_webhook_and_never_a_success() {
        let said = answer(json!({"uid": "u", "allowed": false, "status": {"message": "no", "code": 200}}));
        let refusal = read(&said, false).unwrap().refusal.unwrap();
        assert_eq!(refusal.code, 400);
        assert_eq!(refusal.message, "admission webhook \"a\" denied the request: no");
        let said = answer(json!({"uid": "u"}));
        let refusal = read(&said, false).unwrap().refusal.unwrap();
        assert_eq!(refusal.message, "admission webhook \"a\" denied the request without explanation");
    }

    #[test]
    fn answers_to_other_questions_and_unexpected_patches_are_failures() {
        let why = |said: &[u8], may_patch| read(said, may_patch).unwrap_err();
        assert_eq!(
            why(&answer(json!({"uid": "other", "allowed": true})), true),
            "received invalid webhook response: expected response.uid=\"u\", got \"other\""
        );
        assert_eq!(
            why(b"{}", true),
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, \
             Kind=AdmissionReview, got , Kind="
        );
        assert!(why(b"not json", true).starts_with("failed to call webhook: "));
        let patch = |ty: &str, patch: &str| {
            answer(json!({"uid": "u", "allowed": true, "patchType": ty, "patch": patch}))
        };
        assert!(why(&patch("JSONPatch", "W10="), false).contains("validating webhook may not return"));
        assert!(read(&patch("JSONPatch", "W10="), true).unwrap().patch.is_none(), "it does nothing");
        assert_eq!(why(&patch("Merge", "W10="), true), "unsupported patch type \"Merge\"");
        assert!(why(&patch("JSONPatch", "%%"), true).starts_with("received undecodable patch"));
        let half = answer(json!({"uid": "u", "allowed": true, "patch": "W10="}));
        assert!(why(&half, true).contains("response.patch but not response.patchType"));
    }

    #[test]
    fn older_reviews_are_not_held_to_uid_and_kind() {
        let said = br#"{"response": {"allowed": true, "patch": "W10="}}"#;
        let verdict = verdict(said, Form::V1Beta1, "u", "a", true).unwrap();
        assert!(verdict.refusal.is_none());
        assert_eq!(Form::of(&json!(["v2", "v1beta1", "v1"])), Some(Form::V1Beta1));
        assert_eq!(Form::of(&json!(["v2"])), None);
    }
}
