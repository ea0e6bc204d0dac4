//! AdmissionReview: the question to a webhook and what its answer means.
//!
//! Pure: values in, values out.

use kubewright_machinery::patch::json as json_patch;
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use crate::admission::Attributes;

const API_VERSION: &str = "admission.k8s.io/v1";

/// What a webhook said.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Its refusal, if it refused.
    pub refusal: Option<Status>,
    /// Its patch, if it has one.
    pub patch: Option<json_patch::Patch>,
    /// Warnings for the client.
    pub warnings: Vec<String>,
}

/// The review that asks about a write.
pub(super) fn question(attributes: &Attributes<'_>, uid: &str) -> Value {
    let resource = attributes.resource;
    let (group, version, kind) = match attributes.subresource {
        Some(sub) => (&*sub.group, &*sub.version, &*sub.kind),
        None => (&*resource.group, &*resource.version, &*resource.kind),
    };
    let kind = json!({"group": group, "version": version, "kind": kind});
    let plural = json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
    let mut user = json!({"username": attributes.user.name, "groups": attributes.user.groups});
    if !attributes.user.uid.is_empty() {
        user["uid"] = attributes.user.uid.as_str().into();
    }
    if !attributes.user.extra.is_empty() {
        user["extra"] = json!(attributes.user.extra);
    }
    let mut request = json!({
        "uid": uid,
        "kind": kind,
        "resource": plural,
        "requestKind": kind,
        "requestResource": plural,
        "operation": attributes.operation.as_str(),
        "userInfo": user,
        "object": attributes.object.clone().unwrap_or(Value::Null),
        "oldObject": attributes.old.as_deref().cloned().unwrap_or(Value::Null),
        "dryRun": attributes.dry_run,
        "options": attributes.options,
    });
    let sub = attributes.subresource_name();
    for (field, value) in [
        ("name", attributes.name),
        ("namespace", attributes.namespace),
        ("subResource", sub),
        ("requestSubResource", sub),
    ] {
        if !value.is_empty() {
            request[field] = value.into();
        }
    }
    json!({"kind": "AdmissionReview", "apiVersion": API_VERSION, "request": request})
}

/// Reads an answer.
///
/// # Errors
/// What is wrong with it, as text: the webhook then counts as failing.
pub(super) fn verdict(answer: &[u8], uid: &str, webhook: &str, may_patch: bool) -> Result<Verdict, String> {
    let review: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    if review["kind"] != "AdmissionReview" || review["apiVersion"] != API_VERSION {
        let got = format!("{}, Kind={}", text(&review["apiVersion"]), text(&review["kind"]));
        return Err(format!("expected webhook response of {API_VERSION}, Kind=AdmissionReview, got {got}"));
    }
    let response = review.get("response").filter(|r| r.is_object()).ok_or("webhook response was absent")?;
    if response["uid"] != uid {
        let got = text(&response["uid"]);
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    let patch = match response.get("patch").filter(|p| !p.is_null()) {
        None => None,
        Some(_) if !may_patch => {
            return Err(format!("validating webhook {webhook:?} may not return response.patch"));
        }
        Some(patch) => {
            if response["patchType"] != "JSONPatch" {
                return Err(format!("invalid response.patchType {:?}", text(&response["patchType"])));
            }
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text(patch))
                .map_err(|error| format!("response.patch is no base64: {error}"))?;
            let (patch, _) = json_patch::parse(&bytes).map_err(|error| error.to_string())?;
            Some(patch)
        }
    };
    let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let warnings = warnings.map(str::to_string).collect();
    let refusal = (response["allowed"] != true).then(|| refused(&response["status"], webhook));
    Ok(Verdict { refusal, patch, warnings })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn refused(status: &Value, webhook: &str) -> Status {
    let denied =
        format!("admission webhook {} denied the request", kubewright_machinery::field::quote(webhook));
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
        json!({"kind": "AdmissionReview", "apiVersion": API_VERSION, "response": response}).to_string().into()
    }

    #[test]
    fn a_refusal_is_worded_by_the_webhook_and_never_a_success() {
        let said = answer(json!({"uid": "u", "allowed": false, "status": {"message": "no", "code": 200}}));
        let refusal = verdict(&said, "u", "a.example.com", false).unwrap().refusal.unwrap();
        assert_eq!(refusal.code, 400);
        assert_eq!(refusal.message, "admission webhook \"a.example.com\" denied the request: no");
        let said = answer(json!({"uid": "u"}));
        let refusal = verdict(&said, "u", "a", false).unwrap().refusal.unwrap();
        assert_eq!(refusal.message, "admission webhook \"a\" denied the request without explanation");
    }

    #[test]
    fn answers_to_other_questions_and_unexpected_patches_are_failures() {
        let fails = |said: &[u8], may_patch| verdict(said, "u", "a", may_patch).is_err();
        assert!(fails(&answer(json!({"uid": "other", "allowed": true})), true));
        assert!(fails(b"{}", true));
        assert!(fails(b"not json", true));
        let patch = |ty: &str, patch: &str| {
            answer(json!({"uid": "u", "allowed": true, "patchType": ty, "patch": patch}))
        };
        assert!(fails(&patch("JSONPatch", "W10="), false));
        assert!(!fails(&patch("JSONPatch", "W10="), true));
        assert!(fails(&patch("Merge", "W10="), true));
        assert!(fails(&patch("JSONPatch", "%%"), true));
    }
}
