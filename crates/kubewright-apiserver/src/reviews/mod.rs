//! The review kinds: questions to the server about who somebody is and what they may do.
//!
//! A review is computed when it is created and never stored ([`answers`]). What flows in is the decoded object; what comes
//! out is the same object with the server's status. Nothing here decides: it asks the authenticators and authorizers.

mod access;
mod attributes;
mod identity;
mod rules;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::authn::UserInfo;
use crate::resources::Virtual;

use access::{Access, Subject};
use identity::{SelfReview, TokenReview};
use rules::RulesReview;

/// What answers a review, by its group and plural name; `None` for any other resource.
pub fn answers(group: &str, plural: &str) -> Option<Arc<dyn Virtual>> {
    Some(match (group, plural) {
        ("authentication.k8s.io", "tokenreviews") => Arc::new(TokenReview),
        ("authentication.k8s.io", "selfsubjectreviews") => Arc::new(SelfReview),
        ("authorization.k8s.io", "subjectaccessreviews") => Arc::new(Access(Subject::Other)),
        ("authorization.k8s.io", "localsubjectaccessreviews") => Arc::new(Access(Subject::Local)),
        ("authorization.k8s.io", "selfsubjectaccessreviews") => Arc::new(Access(Subject::Oneself)),
        ("authorization.k8s.io", "selfsubjectrulesreviews") => Arc::new(RulesReview),
        _ => return None,
    })
}

/// A user as reviews show it (`authentication/v1 UserInfo`): what is empty is left out.
pub(crate) fn user_info(user: &UserInfo) -> Value {
    let mut info = Map::new();
    for (key, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            info.insert(key.into(), value.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    Value::Object(info)
}

/// A user as reviews show it, read back.
pub(crate) fn user_of(info: &Value) -> UserInfo {
    let text = |name: &str| info[name].as_str().unwrap_or_default().to_string();
    let extra =
        info["extra"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), strings(v))).collect();
    UserInfo { name: text("username"), uid: text("uid"), groups: strings(&info["groups"]), extra }
}

/// The strings of a list; anything else is none.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}
