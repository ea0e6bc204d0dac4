//! Who somebody is (`user.Info`): the name and groups that authorization goes by.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The group of everybody who is allowed everything.
pub const MASTERS: &str = "system:masters";
/// The group that every authenticated caller is in.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// A user as authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The user name, such as `system:serviceaccount:default:builder`.
    pub name: String,
    /// A stable id, where the source has one.
    pub uid: String,
    /// Groups, in the order the source states them.
    pub groups: Vec<String>,
    /// Extra facts, such as scopes; keys are lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user in groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_string()).collect(),
            ..Self::default()
        }
    }

    /// The caller without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// The identity of the server itself: what its own controllers and bootstrap write as.
    pub fn server() -> Self {
        Self::new("system:apiserver", &[MASTERS, AUTHENTICATED])
    }

    /// Whether the user is in the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The user as reviews show it (`authentication/v1 UserInfo`): what is empty is left out.
    pub fn to_value(&self) -> Value {
        Value::Object(self.parts("username"))
    }

    /// A user as reviews show it, read back. What is not there is empty.
    pub fn read(info: &Value) -> Self {
        let text = |name: &str| info[name].as_str().unwrap_or_default().to_string();
        let extra = info["extra"].as_object().into_iter().flatten();
        let extra = extra.map(|(key, values)| (key.clone(), strings(values))).collect();
        Self { name: text("username"), uid: text("uid"), groups: strings(&info["groups"]), extra }
    }

    /// The user's fields, with the name under this key; what is empty is left out.
    pub(crate) fn parts(&self, name: &str) -> Map<String, Value> {
        let mut info = Map::new();
        for (key, value) in [(name, &self.name), ("uid", &self.uid)] {
            if !value.is_empty() {
                info.insert(key.into(), value.as_str().into());
            }
        }
        if !self.groups.is_empty() {
            info.insert("groups".into(), json!(self.groups));
        }
        if !self.extra.is_empty() {
            info.insert("extra".into(), json!(self.extra));
        }
        info
    }
}

/// The strings of a list; anything else is none.
pub fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_user_is_read_again() {
        let mut user = UserInfo::new("jane", &["dev"]);
        user.extra.insert("scopes".into(), vec!["a".into()]);
        let shown = user.to_value();
        assert_eq!(shown, json!({"username": "jane", "groups": ["dev"], "extra": {"scopes": ["a"]}}));
        assert_eq!(UserInfo::read(&shown), user);
        assert_eq!(UserInfo::read(&Value::Null), UserInfo::default());
    }
}
