//! `metav1.Status`: the one error type that an API server answers with.
//!
//! Constructors here give the reasons, codes, details and messages that Kubernetes gives
//! (apimachinery `api/errors`); nobody else spells them.

use serde::{Deserialize, Serialize};

use crate::field;

/// A `metav1.Status` of a request that failed (or, rarely, succeeded without an object).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`; empty where Kubernetes gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The message for humans.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `Failure` or `Success`.
    pub status: String,
    /// What the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

/// `metav1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Kind, or the plural resource name: Kubernetes uses both.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Uid of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The single faults, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// `metav1.StatusCause`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// Such as `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The message of this cause alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field, such as `spec.containers[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Status {
    /// A failure with a code, a reason and a message, without details.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), status: "Failure".into(), details: None }
    }

    /// Sets the details.
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// 400 `BadRequest`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 500 `InternalError` as `apierrors.NewInternalError` words it.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::failure(500, "InternalError", format!("Internal error occurred: {message}")).with_details(
            Details {
                causes: vec![Cause { message: message.to_string(), ..Cause::default() }],
                ..Details::default()
            },
        )
    }

    /// 404 `NotFound` for an object. `resource` is the plural name.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::failure(
            404,
            "NotFound",
            format!("{} {} not found", qualified(group, resource), field::quote(name)),
        )
        .with_details(named(group, resource, name))
    }

    /// 409 `AlreadyExists`.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::failure(
            409,
            "AlreadyExists",
            format!("{} {} already exists", qualified(group, resource), field::quote(name)),
        )
        .with_details(named(group, resource, name))
    }

    /// 409 `Conflict`: the operation cannot be fulfilled because of `why`.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        Self::failure(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} {}: {why}",
                qualified(group, resource),
                field::quote(name)
            ),
        )
        .with_details(named(group, resource, name))
    }

    /// 403 `Forbidden`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let message = if resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{} is forbidden: {why}", qualified(group, resource))
        } else {
            format!("{} {} is forbidden: {why}", qualified(group, resource), field::quote(name))
        };
        Self::failure(403, "Forbidden", message).with_details(named(group, resource, name))
    }

    /// 409 `AlreadyExists` after a name made from generateName met existing objects too often.
    pub fn generate_name_conflict(group: &str, resource: &str, name: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            qualified(group, resource),
            field::quote(name)
        );
        Self::failure(409, "AlreadyExists", message)
            .with_details(Details { retry_after_seconds, ..named(group, resource, name) })
    }

    /// 401 `Unauthorized`.
    pub fn unauthorized(message: &str) -> Self {
        Self::failure(401, "Unauthorized", if message.is_empty() { "not authorized" } else { message })
    }

    /// 409 `Conflict` of a server-side apply, with a cause per field.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<Cause>) -> Self {
        Self::failure(409, "Conflict", message).with_details(Details { causes, ..Details::default() })
    }

    /// 410 `Expired`: a resourceVersion or continue token that history no longer reaches.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 410 `Gone`.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Gone", message)
    }

    /// 405 `MethodNotAllowed`: `action` is a verb of the API, such as `create`.
    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Self {
        let what = qualified(group, resource);
        Self::failure(
            405,
            "MethodNotAllowed",
            format!("{action} is not supported on resources of kind \"{what}\""),
        )
        .with_details(named(group, resource, ""))
    }

    /// 405 `MethodNotAllowed` for a method that a path does not have.
    pub fn method_not_allowed() -> Self {
        Self::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_details(Details::default())
    }

    /// 404 `NotFound` for a path that nobody serves.
    pub fn path_not_found() -> Self {
        Self::failure(404, "NotFound", "the server could not find the requested resource")
            .with_details(Details::default())
    }

    /// 422 `Invalid` of a patch whose operation cannot be done on this object; it has no words of its own.
    pub fn unprocessable() -> Self {
        Self::failure(422, "Invalid", "the server rejected our request due to an error in our request")
            .with_details(Details::default())
    }

    /// 406 `NotAcceptable` with the media types that would be.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::failure(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {}", accepted.join(", ")),
        )
    }

    /// 415 `UnsupportedMediaType` with the media types that would be.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::failure(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 413 `RequestEntityTooLarge`.
    pub fn too_large(message: impl std::fmt::Display) -> Self {
        Self::failure(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// 429 `TooManyRequests`, to be tried again after some seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(429, "TooManyRequests", message)
            .with_details(Details { retry_after_seconds, ..Details::default() })
    }

    /// 503 `ServiceUnavailable`.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// 504 `Timeout`, to be tried again after some seconds.
    pub fn timeout(message: impl std::fmt::Display, retry_after_seconds: u32) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}"))
            .with_details(Details { retry_after_seconds, ..Details::default() })
    }

    /// 422 `Invalid` with one cause per field error. `kind` is the kind's name, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[field::Error]) -> Self {
        let causes = errors
            .iter()
            .map(|e| Cause { reason: e.kind.cause().into(), message: e.body(), field: e.field.clone() })
            .collect();
        let what = format!("{} {}", qualified(group, kind), field::quote(name));
        let message = match field::aggregate(errors) {
            Some(text) => format!("{what} is invalid: {text}"),
            None => format!("{what} is invalid"),
        };
        Self::failure(422, "Invalid", message).with_details(Details { causes, ..named(group, kind, name) })
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

impl std::error::Error for Status {}

/// `resource.group`, or `resource` alone for the core group.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_string() } else { format!("{resource}.{group}") }
}

fn named(group: &str, kind: &str, name: &str) -> Details {
    Details { name: name.into(), group: group.into(), kind: kind.into(), ..Details::default() }
}
