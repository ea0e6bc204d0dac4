//! AdmissionReview as bytes: the question that an API server sends, read without touching the objects in it, and the
//! answer. Pure. What comes from outside is bounded by the server before it gets here, and by the JSON reader in depth.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubewright_machinery::patch::diff::diff;
use kubewright_machinery::reviews::Operation;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::verdict::Verdict;

/// Why a body is no question.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    /// Not JSON, too deep, or not of this shape.
    #[error("the body is no AdmissionReview: {0}")]
    Decode(#[source] serde_json::Error),
    /// Another kind or version.
    #[error("expected kind AdmissionReview of admission.k8s.io/v1, got {kind} of {api_version:?}")]
    Kind {
        /// The kind found.
        kind: String,
        /// The version found.
        api_version: String,
    },
    /// No question in it.
    #[error("the review has no request")]
    NoRequest,
}

/// Who does it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// The name, such as `jane` or `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// An identifier beyond the name, where there is one.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What the authenticator knows beside.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Group, version and plural name of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GroupVersionResource {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural name.
    pub resource: String,
}

/// The kind of an object, as far as it is told to people.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GroupKind {
    pub group: String,
    pub kind: String,
}

/// What an answer says of the question.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub api_version: String,
    pub uid: String,
    pub kind: GroupKind,
    pub name: String,
}

/// The question.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub kind: GroupKind,
    #[serde(default)]
    pub resource: GroupVersionResource,
    #[serde(default)]
    pub sub_resource: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    pub operation: Operation,
    #[serde(default)]
    pub user_info: UserInfo,
    #[serde(default)]
    pub object: Option<Box<RawValue>>,
    #[serde(default)]
    pub old_object: Option<Box<RawValue>>,
    #[serde(default)]
    pub dry_run: Option<bool>,
    #[serde(default)]
    pub options: Option<Box<RawValue>>,
}

/// A review of any kind, as API servers send it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review<R> {
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub api_version: String,
    pub request: Option<R>,
}

/// Reads a question; also gives what the answer has to repeat.
pub(super) fn read(body: &[u8]) -> Result<(Request, Asked), ReviewError> {
    let review: Review<Request> = serde_json::from_slice(body).map_err(ReviewError::Decode)?;
    let known = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];
    if review.kind != "AdmissionReview" || !known.contains(&&*review.api_version) {
        return Err(ReviewError::Kind { kind: review.kind, api_version: review.api_version });
    }
    let request = review.request.ok_or(ReviewError::NoRequest)?;
    let asked = Asked {
        api_version: review.api_version,
        uid: request.uid.clone(),
        kind: request.kind.clone(),
        name: request.name.clone(),
    };
    Ok((request, asked))
}

/// The answer. `original` is the object that a replacement in the verdict is compared with.
pub(super) fn answer(asked: &Asked, verdict: &Verdict, original: Option<&Value>) -> Vec<u8> {
    let mut response = json!({"uid": asked.uid, "allowed": verdict.is_allowed()});
    if let Some(denial) = &verdict.denial {
        let mut status = denial.to_status();
        // kubectl says by these what is invalid.
        if let Some(details) = status.get_mut("details") {
            details["name"] = asked.name.clone().into();
            details["group"] = asked.kind.group.clone().into();
            details["kind"] = asked.kind.kind.clone().into();
        }
        response["status"] = status;
    } else if let (Some(from), Some(to)) = (original, &verdict.replacement) {
        let operations = diff(from, to);
        if !operations.is_empty() {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(Value::from(operations).to_string()).into();
        }
    }
    if !verdict.warnings.is_empty() {
        response["warnings"] = json!(verdict.warnings);
    }
    if !verdict.annotations.is_empty() {
        response["auditAnnotations"] = json!(verdict.annotations);
    }
    json!({"kind": "AdmissionReview", "apiVersion": asked.api_version, "response": response})
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(request: Value) -> Vec<u8> {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
            .to_string()
            .into_bytes()
    }

    fn asked() -> Asked {
        Asked { api_version: "admission.k8s.io/v1".into(), uid: "u".into(), ..Asked::default() }
    }

    #[test]
    fn a_question_is_read_and_its_objects_stay_as_they_are() {
        let body = review(json!({"uid": "u", "operation": "DELETE", "oldObject": {"a": 1.0}, "object": null,
            "userInfo": {"username": "jane", "groups": ["g"], "extra": {"k": ["v"]}}, "dryRun": true,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"}}));
        let (request, asked) = read(&body).unwrap();
        assert_eq!((request.operation, &*asked.api_version), (Operation::Delete, "admission.k8s.io/v1"));
        assert_eq!((&*asked.uid, &*asked.kind.kind), ("u", "Pod"));
        assert_eq!(request.old_object.unwrap().get(), r#"{"a":1.0}"#);
        assert!(request.object.is_none() && request.dry_run == Some(true));
        assert_eq!(request.user_info.extra["k"], ["v"]);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        assert!(matches!(read(b"{"), Err(ReviewError::Decode(_))));
        assert!(matches!(read(b"{}"), Err(ReviewError::Kind { .. })));
        assert!(matches!(
            read(br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#),
            Err(ReviewError::NoRequest)
        ));
        assert!(matches!(read(&review(json!({"operation": "FLY"}))), Err(ReviewError::Decode(_))));
    }

    #[test]
    fn depth_beyond_reason_is_an_error_and_not_a_crash() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let body = format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"operation":"CREATE","options":{deep}}},"x":{deep}}}"#
        );
        // Read or refused: what matters is that it comes back, and that nobody gets a tree that deep.
        if let Ok((request, _)) = read(body.as_bytes()) {
            let options = request.options.expect("it was sent");
            assert!(serde_json::from_str::<Value>(options.get()).is_err());
        }
    }

    #[test]
    fn answers_carry_what_the_verdict_says() {
        let verdict = Verdict::allow().warn("careful").audit("why", "because").replace(json!({"a": 2}));
        let answer: Value =
            serde_json::from_slice(&answer(&asked(), &verdict, Some(&json!({"a": 1})))).unwrap();
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u"), &json!(true)));
        assert_eq!(
            (&response["warnings"], &response["auditAnnotations"]),
            (&json!(["careful"]), &json!({"why": "because"}))
        );
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&patch).unwrap(),
            json!([{"op": "replace", "path": "/a", "value": 2}])
        );
    }

    #[test]
    fn an_unchanged_object_is_no_patch() {
        let verdict = Verdict::allow().replace(json!({"a": 1}));
        let answer: Value =
            serde_json::from_slice(&answer(&asked(), &verdict, Some(&json!({"a": 1})))).unwrap();
        assert!(answer["response"].get("patch").is_none());
    }
}
