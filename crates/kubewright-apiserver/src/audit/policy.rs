//! What is written down of which requests (`audit.k8s.io/v1` Policy).
//!
//! Pure: the text of a policy file comes in, decisions come out. The first rule that matches decides; a request that no
//! rule matches is not audited.

use kubewright_machinery::decode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::authn::UserInfo;
use crate::request::RequestInfo;

/// How much is written down. Each level has what those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when and the outcome.
    Metadata,
    /// The object that was sent.
    Request,
    /// The answer.
    RequestResponse,
}

/// A moment in the life of a request at which an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Stage {
    /// It has arrived and its sender is known.
    RequestReceived,
    /// The head of the answer of a long-running request is on its way.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server panicked.
    Panic,
}

/// A policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is neither YAML nor JSON.
    #[error("failed decoding: {0}")]
    Syntax(String),
    /// It is no audit policy of a known version.
    #[error("expected a Policy of audit.k8s.io/v1, got a {kind:?} of {api_version:?}")]
    Kind {
        /// The kind given.
        kind: String,
        /// The apiVersion given.
        api_version: String,
    },
    /// It is one, with something wrong in it.
    #[error("failed decoding: {0}")]
    Fields(#[from] serde_json::Error),
    /// It would audit nothing.
    #[error("loaded illegal policy with 0 rules")]
    NoRules,
    /// A rule is for resources and for other paths.
    #[error(
        "rules[{rule}].nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs"
    )]
    Both {
        /// Index of the rule.
        rule: usize,
    },
    /// A path is none.
    #[error("rules[{rule}].nonResourceURLs: {url:?}: must begin with '/' and may have '*' at the end alone")]
    Url {
        /// Index of the rule.
        rule: usize,
        /// The path.
        url: String,
    },
    /// Names without resources.
    #[error("rules[{rule}].resources.resourceNames: using resourceNames requires at least one resource")]
    Names {
        /// Index of the rule.
        rule: usize,
    },
}

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decided {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy, as YAML or JSON. Unknown fields are left out.
    ///
    /// # Errors
    /// When it is no valid policy.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let decoded =
            decode::yaml(text.as_bytes()).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        let value = decoded.value;
        if value["kind"] != "Policy" || value["apiVersion"] != "audit.k8s.io/v1" {
            let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
            return Err(PolicyError::Kind { kind: text("kind"), api_version: text("apiVersion") });
        }
        Self::of(value)
    }

    fn of(value: Value) -> Result<Self, PolicyError> {
        let policy: Self = serde_json::from_value(value)?;
        if policy.rules.is_empty() {
            return Err(PolicyError::NoRules);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check(index)?;
        }
        Ok(policy)
    }

    pub(super) fn decide(&self, user: Option<&UserInfo>, info: &RequestInfo) -> Decided {
        let found = self.rules.iter().find(|rule| rule.matches(user, info));
        let mut decided = Decided {
            level: found.map_or(Level::None, |rule| rule.level),
            omit_stages: self.omit_stages.clone(),
            omit_managed_fields: self.omit_managed_fields,
        };
        if let Some(rule) = found {
            decided.omit_stages.extend(&rule.omit_stages);
            decided.omit_managed_fields = rule.omit_managed_fields.unwrap_or(self.omit_managed_fields);
        }
        decided
    }
}

impl Rule {
    fn check(&self, rule: usize) -> Result<(), PolicyError> {
        let has_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if !self.non_resource_urls.is_empty() && has_resources {
            return Err(PolicyError::Both { rule });
        }
        let wrong = |url: &&String| {
            *url != "*"
                && (!url.starts_with('/') || url.trim_end_matches('*').contains('*') || url.ends_with("**"))
        };
        if let Some(url) = self.non_resource_urls.iter().find(wrong) {
            return Err(PolicyError::Url { rule, url: url.clone() });
        }
        if self.resources.iter().any(|r| r.resources.is_empty() && !r.resource_names.is_empty()) {
            return Err(PolicyError::Names { rule });
        }
        Ok(())
    }

    fn matches(&self, user: Option<&UserInfo>, info: &RequestInfo) -> bool {
        let by_user = self.users.is_empty() || user.is_some_and(|user| self.users.contains(&user.name));
        let in_group = |user: &UserInfo| user.groups.iter().any(|group| self.user_groups.contains(group));
        by_user
            && (self.user_groups.is_empty() || user.is_some_and(in_group))
            && (self.verbs.is_empty() || self.verbs.contains(&info.verb))
            && self.matches_target(info)
    }

    fn matches_target(&self, info: &RequestInfo) -> bool {
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && (self.namespaces.is_empty() || self.namespaces.contains(&info.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.matches(info)));
        }
        let path = |url: &String| {
            url == "*"
                || *url == info.path
                || url.strip_suffix('*').is_some_and(|prefix| info.path.starts_with(prefix))
        };
        self.non_resource_urls.is_empty() || (!info.is_resource && self.non_resource_urls.iter().any(path))
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != "*" && self.group != info.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&info.name);
        named
            && self.resources.iter().any(|pattern| match (pattern.split_once('/'), &*info.subresource) {
                (None, "") => pattern == "*" || *pattern == info.resource,
                (None, _) => pattern == "*",
                (Some((resource, "*")), _) => resource == info.resource,
                (Some(("*", sub)), asked) => sub == asked,
                (Some((resource, sub)), asked) => resource == info.resource && sub == asked,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch]}
- level: Metadata
  resources: [{group: "", resources: [secrets, "pods/*", "*/status"]}]
  omitStages: [ResponseStarted]
- {level: RequestResponse, resources: [{group: apps, resources: [deployments], resourceNames: [web]}], omitManagedFields: true}
- {level: Request, userGroups: [people], namespaces: [home]}
- {level: None, nonResourceURLs: ["/healthz*", "/version"]}
- {level: Metadata, nonResourceURLs: ["*"]}
"#;

    fn level(user: &str, method: http::Method, uri: &str) -> Level {
        let policy = Policy::parse(POLICY).unwrap();
        let info = RequestInfo::new(&method, &uri.parse().unwrap());
        policy.decide(Some(&UserInfo::new(user, &["people"])), &info).level
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        use http::Method;
        for (user, method, uri, expected) in [
            ("system:kube-proxy", Method::GET, "/api/v1/secrets?watch=1", Level::None),
            ("ann", Method::GET, "/api/v1/secrets", Level::Metadata),
            ("ann", Method::GET, "/api/v1/namespaces/a/pods/x/log", Level::Metadata),
            ("ann", Method::GET, "/api/v1/namespaces/a/pods/x", Level::Metadata),
            ("ann", Method::PUT, "/api/v1/nodes/x/status", Level::Metadata),
            ("ann", Method::GET, "/api/v1/nodes/x", Level::None),
            ("ann", Method::PUT, "/apis/apps/v1/namespaces/a/deployments/web", Level::RequestResponse),
            ("ann", Method::PUT, "/apis/apps/v1/namespaces/a/deployments/api", Level::None),
            ("ann", Method::GET, "/api/v1/namespaces/home/configmaps", Level::Request),
            ("ann", Method::GET, "/healthz/etcd", Level::None),
            ("ann", Method::GET, "/metrics", Level::Metadata),
        ] {
            assert_eq!(level(user, method, uri), expected, "{uri}");
        }
    }

    #[test]
    fn stages_are_omitted_by_policy_and_rule() {
        let policy = Policy::parse(POLICY).unwrap();
        let info = RequestInfo::new(&http::Method::GET, &"/api/v1/secrets".parse().unwrap());
        let decided = policy.decide(None, &info);
        assert_eq!(decided.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
        assert!(!decided.omit_managed_fields);
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_said() {
        let wrong = |rules: &str| {
            let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}");
            Policy::parse(&text).unwrap_err()
        };
        assert!(matches!(wrong("[]"), PolicyError::NoRules));
        assert!(matches!(wrong("[{level: All}]"), PolicyError::Fields(_)));
        assert!(matches!(wrong("[{level: None, nonResourceURLs: [a]}]"), PolicyError::Url { .. }));
        assert!(matches!(wrong("[{level: None, nonResourceURLs: ['/a*b']}]"), PolicyError::Url { .. }));
        let both = "[{level: None, nonResourceURLs: [/a], namespaces: [b]}]";
        assert!(matches!(wrong(both), PolicyError::Both { rule: 0 }));
        assert!(matches!(Policy::parse("kind: Pod"), Err(PolicyError::Kind { .. })));
    }
}
