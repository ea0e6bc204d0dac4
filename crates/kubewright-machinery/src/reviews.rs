//! Reviews: whom a token stands for (TokenReview), whether a user may do something (SubjectAccessReview), and what is
//! done to an object (AdmissionReview). Questions about the first two are built and answers judged; nobody is asked here.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::user::{UserInfo, strings};

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, and why.
    Allow(String),
    /// Refused whatever others say, and why.
    Deny(String),
    /// Not mine to decide; the reason may be empty.
    NoOpinion(String),
}

impl Decision {
    /// What the status of a SubjectAccessReview says: a no is stronger than a yes.
    pub fn read(status: &Value) -> Self {
        let reason = status["reason"].as_str().unwrap_or_default().to_string();
        match (status["denied"] == true, status["allowed"] == true) {
            (true, _) => Self::Deny(reason),
            (false, true) => Self::Allow(reason),
            (false, false) => Self::NoOpinion(reason),
        }
    }
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is created, also through PUT or apply.
    Create,
    /// It is changed: replaced, patched or applied, also through subresources.
    Update,
    /// It is deleted; there is no new object.
    Delete,
    /// It is connected to, as by `kubectl exec`.
    Connect,
}

impl Operation {
    /// As reviews, webhook configurations and policies spell it: `CREATE`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// A TokenReview in a version (`v1` or `v1beta1`) of `authentication.k8s.io`; no audiences are those of the server that
/// is asked.
pub fn token_review(version: &str, token: &str, audiences: &[String]) -> Value {
    let mut review = json!({
        "kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{version}"),
        "metadata": {}, "spec": {"token": token},
    });
    if !audiences.is_empty() {
        review["spec"]["audiences"] = json!(audiences);
    }
    review
}

/// A SubjectAccessReview in a version of `authorization.k8s.io`, of a `spec` such as [`subject`] makes.
pub fn access_review(version: &str, spec: &Value) -> Value {
    json!({
        "kind": "SubjectAccessReview", "apiVersion": format!("authorization.k8s.io/{version}"),
        "metadata": {}, "spec": spec,
    })
}

/// The part of a SubjectAccessReview's `spec` that says who it is about: what is empty is left out.
pub fn subject(user: &UserInfo) -> Map<String, Value> {
    user.parts("user")
}

/// The `spec` of a SubjectAccessReview about a path that is no resource, such as `/metrics`. Verbs are HTTP methods in
/// lower case.
pub fn path_access(user: &UserInfo, verb: &str, path: &str) -> Value {
    let mut spec = subject(user);
    spec.insert("nonResourceAttributes".into(), json!({"path": path, "verb": verb}));
    Value::Object(spec)
}

/// What the status of a TokenReview says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Whose it is, and towards which audiences; `None` for a token that nobody vouches for.
    pub user: Option<(UserInfo, Vec<String>)>,
    /// Why nobody does, where that is told.
    pub error: Option<String>,
}

impl Vouched {
    /// Reads a status. Anything but a clear yes that names a user vouches for nobody.
    pub fn read(status: &Value) -> Self {
        if status["authenticated"] != true {
            let error = status["error"].as_str().filter(|error| !error.is_empty());
            return Self { user: None, error: error.map(str::to_string) };
        }
        let user = UserInfo::read(&status["user"]);
        if user == UserInfo::default() {
            return Self { user: None, error: Some("the review names no user".into()) };
        }
        Self { user: Some((user, strings(&status["audiences"]))), error: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_is_stronger_than_a_yes_and_nothing_is_neither() {
        let both = json!({"allowed": true, "denied": true, "reason": "x"});
        assert_eq!(Decision::read(&both), Decision::Deny("x".into()));
        assert_eq!(Decision::read(&json!({"allowed": true})), Decision::Allow(String::new()));
        assert_eq!(Decision::read(&json!({"allowed": "yes"})), Decision::NoOpinion(String::new()));
        assert_eq!(Decision::read(&Value::Null), Decision::NoOpinion(String::new()));
    }

    #[test]
    fn what_is_no_clear_yes_vouches_for_nobody() {
        for status in [json!({}), json!({"authenticated": "true"}), Value::Null, json!([])] {
            assert_eq!(Vouched::read(&status), Vouched { user: None, error: None }, "{status}");
        }
        assert_eq!(Vouched::read(&json!({"error": "expired"})).error.as_deref(), Some("expired"));
        let nameless = Vouched::read(&json!({"authenticated": true}));
        assert!(nameless.user.is_none() && nameless.error.is_some());
        let yes = json!({"authenticated": true, "user": {"username": "jane"}, "audiences": ["api"]});
        assert_eq!(Vouched::read(&yes).user, Some((UserInfo::new("jane", &[]), vec!["api".into()])));
    }

    #[test]
    fn a_question_about_a_path_names_the_user_and_no_resource() {
        let user = UserInfo::new("jane", &["dev"]);
        let spec = path_access(&user, "get", "/metrics");
        let asked = json!({"path": "/metrics", "verb": "get"});
        assert_eq!(spec, json!({"user": "jane", "groups": ["dev"], "nonResourceAttributes": asked}));
        assert_eq!(access_review("v1", &spec)["spec"], spec);
        assert_eq!(token_review("v1", "t", &[])["spec"], json!({"token": "t"}));
    }
}
