//! What a webhook says about a write: yes or no, why, what to tell the client, and what to change. A plain value.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The answer of a webhook to a write. Made with [`allow`](Verdict::allow), [`deny`](Verdict::deny) or
/// [`invalid`](Verdict::invalid).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub(super) denial: Option<Denial>,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) replacement: Option<Value>,
}

/// Why a write is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Denial {
    message: String,
    reason: String,
    code: u16,
    causes: Vec<Cause>,
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    field: String,
    message: String,
}

impl Cause {
    /// Something wrong with a field, such as `spec.containers[0].image`.
    pub fn new(field: &str, message: impl Into<String>) -> Cause {
        Cause { field: field.into(), message: message.into() }
    }
}

impl Verdict {
    /// The write may go on.
    pub fn allow() -> Verdict {
        Verdict::default()
    }

    /// The write is refused (403, `Forbidden`), with a reason that the client is shown.
    pub fn deny(reason: impl Into<String>) -> Verdict {
        let (message, reason) = (reason.into(), "Forbidden".into());
        let denial = Denial { message, reason, code: 403, causes: Vec::new() };
        Verdict { denial: Some(denial), ..Verdict::default() }
    }

    /// The object is not as it should be (422, `Invalid`); without causes the write may go on. So a validator may
    /// collect what it finds and return it.
    pub fn invalid(causes: impl IntoIterator<Item = Cause>) -> Verdict {
        let causes: Vec<Cause> = causes.into_iter().collect();
        if causes.is_empty() {
            return Verdict::allow();
        }
        let messages: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let message = match messages.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let denial = Denial { message, reason: "Invalid".into(), code: 422, causes };
        Verdict { denial: Some(denial), ..Verdict::default() }
    }

    /// Another HTTP status and reason (a word such as `Conflict`) of a refusal; nothing for what is allowed.
    #[must_use]
    pub fn status(mut self, code: u16, reason: &str) -> Verdict {
        if let Some(denial) = &mut self.denial {
            denial.code = code;
            denial.reason = reason.into();
        }
        self
    }

    /// Tells the client something, which kubectl prints after `Warning:`. One sentence of up to 120 characters or so;
    /// API servers cut longer ones.
    #[must_use]
    pub fn warn(mut self, warning: impl Into<String>) -> Verdict {
        self.warnings.push(warning.into());
        self
    }

    /// Leaves a note in the audit log, under `WEBHOOK/key`.
    #[must_use]
    pub fn audit(mut self, key: &str, value: impl Into<String>) -> Verdict {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The object as it is to be instead, from a raw mutating webhook. What is sent is the difference.
    #[must_use]
    pub fn replace(mut self, object: Value) -> Verdict {
        self.replacement = Some(object);
        self
    }

    /// Whether the write may go on.
    pub fn is_allowed(&self) -> bool {
        self.denial.is_none()
    }

    /// The reason of a refusal.
    pub fn reason(&self) -> Option<&str> {
        self.denial.as_ref().map(|denial| &*denial.message)
    }

    /// What the client is told beside.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Denial {
    /// As a `Status`.
    pub(super) fn to_status(&self) -> Value {
        let mut status = json!({
            "status": "Failure", "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.causes.is_empty() {
            let causes: Vec<Value> = self
                .causes
                .iter()
                .map(|cause| json!({"reason": "FieldValueInvalid", "message": cause.message, "field": cause.field}))
                .collect();
            status["details"] = json!({"causes": causes});
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wrong_is_allowed_and_everything_wrong_is_told() {
        assert!(Verdict::invalid([]).is_allowed());
        let one = Verdict::invalid([Cause::new("spec.image", "must not be empty")]);
        assert_eq!(one.reason(), Some("spec.image: must not be empty"));
        let two = Verdict::invalid([Cause::new("a", "x"), Cause::new("b", "y")]);
        assert_eq!(two.reason(), Some("[a: x, b: y]"));
        let status = two.denial.unwrap().to_status();
        assert_eq!((&status["code"], &status["reason"]), (&json!(422), &json!("Invalid")));
        assert_eq!(status["details"]["causes"][1]["field"], "b");
    }

    #[test]
    fn a_refusal_may_have_a_status_of_its_own() {
        let denied = Verdict::deny("busy").status(409, "Conflict");
        let status = denied.denial.unwrap().to_status();
        assert_eq!(
            status,
            json!({"status": "Failure", "message": "busy", "reason": "Conflict", "code": 409})
        );
        assert!(Verdict::allow().status(409, "Conflict").is_allowed());
    }
}
