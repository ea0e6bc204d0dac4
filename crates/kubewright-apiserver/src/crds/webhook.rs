//! Conversion by webhook (apiextensions.k8s.io ConversionReview): the review goes out, converted objects come back and
//! are held to what a conversion may change: everything but identity, and of metadata labels and annotations alone.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubewright_machinery::field::{self, Path};
use kubewright_machinery::meta;
use serde_json::{Value, json};

use super::registry::Registry;
use crate::outbound::{Call, CallError, Endpoint};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Why objects were not converted. The texts are what answers of the API show.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    /// The definition names nobody to call.
    #[error("no webhook is configured")]
    NoClient,
    /// None of the review versions is known.
    #[error("no supported conversion review versions")]
    NoReviewVersion,
    /// The server that would call is gone.
    #[error("the server is going down")]
    Stopping,
    /// The call failed.
    #[error("{0}")]
    Call(#[from] CallError),
    /// The answer is no JSON.
    #[error("the answer is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The answer is no ConversionReview of the version asked for.
    #[error("expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {0}")]
    Kind(String),
    /// The review has no response.
    #[error("no response provided")]
    NoResponse,
    /// The response is to another request.
    #[error("expected response.uid={expected:?}, got {found:?}")]
    Uid {
        /// Of the request.
        expected: String,
        /// Of the response.
        found: String,
    },
    /// The webhook refused.
    #[error("{0}")]
    Refused(String),
    /// Another number of objects came back.
    #[error("returned {found} objects, expected {expected}")]
    Count {
        /// How many were sent.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// An object is not what a conversion may give.
    #[error("returned invalid converted object at index {index}: {why}")]
    Object {
        /// Which.
        index: usize,
        /// Why.
        why: String,
    },
}

/// Converts objects to a version. The result has as many objects, in the same order.
pub(super) async fn convert(
    registry: &Registry,
    client: &Value,
    review_versions: &[String],
    objects: &[&mut Value],
    api_version: &str,
    kind: &str,
) -> Result<Vec<Value>, ConvertError> {
    let version = review_versions.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1"));
    let version = version.ok_or(ConvertError::NoReviewVersion)?;
    let endpoint = Endpoint::of(client).ok_or(ConvertError::NoClient)?;
    let core = registry.core().ok_or(ConvertError::Stopping)?;
    let uid = core.uid();
    let review = json!({
        "kind": "ConversionReview",
        "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
    });
    let bundle = client.get("caBundle").and_then(Value::as_str).unwrap_or_default();
    let call = Call {
        endpoint,
        ca_bundle: STANDARD
            .decode(bundle)
            .map(|pem| String::from_utf8_lossy(&pem).into_owned())
            .unwrap_or_default(),
        timeout: TIMEOUT,
        body: review.to_string().into(),
    };
    let answer = registry.outbound().post(&core, call).await?;
    let converted = objects_of(serde_json::from_slice(&answer)?, version, &uid)?;
    if converted.len() != objects.len() {
        return Err(ConvertError::Count { expected: objects.len(), found: converted.len() });
    }
    let pairs = objects.iter().zip(converted).enumerate();
    pairs
        .map(|(index, (original, mut converted))| {
            accept(original, &mut converted, api_version, kind)
                .map_err(|why| ConvertError::Object { index, why })?;
            Ok(converted)
        })
        .collect()
}

fn objects_of(mut review: Value, version: &str, uid: &str) -> Result<Vec<Value>, ConvertError> {
    if version == "v1" {
        let (found, kind) = (meta::api_version(&review), meta::kind(&review));
        if found != "apiextensions.k8s.io/v1" || kind != "ConversionReview" {
            return Err(ConvertError::Kind(format!("{found}, Kind={kind}")));
        }
    }
    let response = review.get_mut("response").filter(|r| r.is_object()).ok_or(ConvertError::NoResponse)?;
    let found = response["uid"].as_str().unwrap_or_default();
    if version == "v1" && found != uid {
        return Err(ConvertError::Uid { expected: uid.into(), found: found.into() });
    }
    let status = response.pointer("/result/status").and_then(Value::as_str).unwrap_or_default();
    if status != "Success" {
        let message = response.pointer("/result/message").and_then(Value::as_str).filter(|m| !m.is_empty());
        let message = message.map(Into::into);
        return Err(ConvertError::Refused(
            message.unwrap_or_else(|| format!("response.result.status was '{status}', not 'Success'")),
        ));
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// Checks a converted object, and puts back the metadata that a conversion may not change.
fn accept(original: &Value, converted: &mut Value, api_version: &str, kind: &str) -> Result<(), String> {
    let found = meta::api_version(converted);
    if found != api_version {
        return Err(format!("invalid groupVersion (expected {api_version}, received {found})"));
    }
    if meta::kind(converted) != kind {
        return Err(format!("invalid kind (expected {kind}, received {})", meta::kind(converted)));
    }
    for (what, field) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (before, after) = (meta::text(original, field), meta::text(converted, field));
        if before != after {
            return Err(format!("must have the same {what}: {before} != {after}"));
        }
    }
    let Some(returned) = converted.get("metadata").cloned() else {
        return Err("missing metadata in converted object".into());
    };
    if !returned.is_object() {
        return Err("invalid metadata in converted object".into());
    }
    let mut metadata = original.get("metadata").cloned().unwrap_or_else(|| json!({}));
    for field in ["labels", "annotations"] {
        let Some(fields) = metadata.as_object_mut() else { break };
        let Some(value) = returned.get(field).filter(|v| !v.is_null()) else {
            fields.remove(field);
            continue;
        };
        let Some(texts) = value.as_object() else {
            return Err(format!("invalid metadata.{field} in converted object"));
        };
        if let Some((key, _)) = texts.iter().find(|(_, text)| !text.is_string()) {
            return Err(format!("metadata.{field}[{key}] must be a string in converted object"));
        }
        if fields.get(field) != Some(value) {
            let mut errors = Vec::new();
            let path = Path::new("metadata");
            match field {
                "labels" => meta::validate_labels(Some(texts), &path.child("labels"), &mut errors),
                _ => meta::validate_annotations(Some(texts), &path.child("annotation"), &mut errors),
            }
            if let Some(faults) = field::aggregate(&errors) {
                return Err(faults);
            }
        }
        fields.insert(field.into(), value.clone());
    }
    converted["metadata"] = metadata;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, metadata: Value) -> Value {
        json!({"kind": "W", "apiVersion": version, "metadata": metadata})
    }

    #[test]
    fn only_labels_and_annotations_of_metadata_may_change() {
        let original =
            object("x.io/v1", json!({"name": "a", "uid": "1", "generation": 2, "labels": {"a": "b"}}));
        let mut converted =
            object("x.io/v2", json!({"name": "a", "uid": "1", "generation": 9, "annotations": {"c": "d"}}));
        accept(&original, &mut converted, "x.io/v2", "W").unwrap();
        assert_eq!(
            converted["metadata"],
            json!({"name": "a", "uid": "1", "generation": 2, "annotations": {"c": "d"}})
        );
        let mut renamed = object("x.io/v2", json!({"name": "b", "uid": "1"}));
        let why = accept(&original, &mut renamed, "x.io/v2", "W").unwrap_err();
        assert_eq!(why, "must have the same name: a != b");
        assert!(accept(&original, &mut object("x.io/v3", json!({})), "x.io/v2", "W").is_err());
    }

    #[test]
    fn a_refusal_is_told_in_the_webhooks_words() {
        let review = |response: Value| json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
        let refused = json!({"uid": "u", "result": {"status": "Failure", "message": "no"}});
        assert_eq!(objects_of(review(refused), "v1", "u").unwrap_err().to_string(), "no");
        let fine = json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]});
        assert_eq!(objects_of(review(fine.clone()), "v1", "u").unwrap().len(), 1);
        assert!(matches!(objects_of(review(fine), "v1", "other"), Err(ConvertError::Uid { .. })));
        assert!(matches!(objects_of(json!({}), "v1beta1", "u"), Err(ConvertError::NoResponse)));
    }
}
