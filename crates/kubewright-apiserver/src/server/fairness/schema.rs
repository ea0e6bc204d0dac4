//! Which priority level a request is of: FlowSchemas, read and asked.
//!
//! Pure: objects come in, a match comes out.

use http::HeaderValue;
use kubewright_machinery::meta;
use serde_json::Value;

use crate::authn::{UserInfo, service_account};
use crate::request::RequestInfo;

/// One FlowSchema.
#[derive(Debug)]
pub(super) struct Schema {
    pub name: String,
    pub uid: HeaderValue,
    pub precedence: i64,
    /// Name of its priority level.
    pub level: String,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    Account(String, String),
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster_scope: bool,
}

#[derive(Debug)]
struct PathRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

impl Schema {
    /// Reads a FlowSchema; what is malformed matches nothing.
    pub fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let distinguisher = match spec["distinguisherMethod"]["type"].as_str() {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::Nothing,
        };
        Self {
            name: meta::name(object).to_string(),
            uid: super::uid(object),
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
            level: text(&spec["priorityLevelConfiguration"]["name"]),
            distinguisher,
            rules: list(&spec["rules"]).map(Rule::read).collect(),
        }
    }

    /// Whether a request is of this schema.
    pub fn takes(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.takes(user, info))
    }

    /// A number for the flow that a request is of, among all flows of all schemas.
    pub fn flow(&self, user: &UserInfo, info: &RequestInfo) -> u64 {
        let by = match self.distinguisher {
            Distinguisher::Nothing => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => &info.namespace,
        };
        // FNV-1a, with a byte between the two that neither has.
        let bytes = self.name.bytes().chain([0]).chain(by.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let resource = |rule: &Value| ResourceRule {
            verbs: strings(&rule["verbs"]),
            groups: strings(&rule["apiGroups"]),
            resources: strings(&rule["resources"]),
            namespaces: strings(&rule["namespaces"]),
            cluster_scope: rule["clusterScope"] == true,
        };
        let path = |rule: &Value| PathRule {
            verbs: strings(&rule["verbs"]),
            paths: strings(&rule["nonResourceURLs"]),
        };
        Self {
            subjects: list(&rule["subjects"]).filter_map(Subject::read).collect(),
            resources: list(&rule["resourceRules"]).map(resource).collect(),
            paths: list(&rule["nonResourceRules"]).map(path).collect(),
        }
    }

    fn takes(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.subjects.iter().any(|subject| subject.is(user))
            && if info.is_resource {
                self.resources.iter().any(|rule| rule.takes(info))
            } else {
                self.paths.iter().any(|rule| rule.takes(info))
            }
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        Some(match subject["kind"].as_str()? {
            "User" => Self::User(text(&subject["user"]["name"])),
            "Group" => Self::Group(text(&subject["group"]["name"])),
            "ServiceAccount" => {
                let account = &subject["serviceAccount"];
                Self::Account(text(&account["namespace"]), text(&account["name"]))
            }
            _ => return None,
        })
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.in_group(name),
            Self::Account(namespace, name) => {
                let rest = user.name.strip_prefix(service_account::USER_PREFIX);
                rest.and_then(|rest| rest.split_once(':'))
                    .is_some_and(|(of, is)| of == namespace && (name == "*" || is == name))
            }
        }
    }
}

impl ResourceRule {
    fn takes(&self, info: &RequestInfo) -> bool {
        let resource = |pattern: &String| match pattern.split_once('/') {
            Some((plural, sub)) => plural == info.resource && sub == info.subresource,
            None => info.subresource.is_empty() && *pattern == info.resource,
        };
        one_of(&self.verbs, &info.verb)
            && one_of(&self.groups, &info.group)
            && (is_star(&self.resources) || self.resources.iter().any(resource))
            && match info.namespace.as_str() {
                "" => self.cluster_scope,
                namespace => one_of(&self.namespaces, namespace),
            }
    }
}

impl PathRule {
    fn takes(&self, info: &RequestInfo) -> bool {
        let path = |pattern: &String| {
            if pattern == "*" || *pattern == info.path {
                return true;
            }
            let prefix = pattern.trim_end_matches('*').trim_end_matches('/');
            info.path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        one_of(&self.verbs, &info.verb) && self.paths.iter().any(path)
    }
}

fn is_star(items: &[String]) -> bool {
    matches!(items, [only] if only == "*")
}

fn one_of(items: &[String], asked: &str) -> bool {
    is_star(items) || items.iter().any(|item| item == asked)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(value: &Value) -> Vec<String> {
    list(value).filter_map(Value::as_str).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;

    fn schema(rule: Value) -> Schema {
        Schema::read(&json!({
            "metadata": {"name": "s", "uid": "u"},
            "spec": {"priorityLevelConfiguration": {"name": "l"}, "distinguisherMethod": {"type": "ByUser"}, "rules": [rule]},
        }))
    }

    fn request(uri: &str) -> RequestInfo {
        RequestInfo::new(&Method::GET, &uri.parse().unwrap())
    }

    #[test]
    fn a_schema_takes_its_subjects_requests_for_its_resources() {
        let schema = schema(json!({
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}}],
            "resourceRules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"], "namespaces": ["*"]}],
        }));
        let bot = UserInfo::new("system:serviceaccount:a:bot", &[]);
        assert!(schema.takes(&bot, &request("/api/v1/namespaces/x/pods/p")));
        assert!(schema.takes(&bot, &request("/api/v1/namespaces/x/pods/p/log")));
        assert!(!schema.takes(&bot, &request("/api/v1/namespaces/x/pods/p/exec")));
        assert!(!schema.takes(&bot, &request("/api/v1/pods")), "not in all namespaces");
        assert!(!schema.takes(&bot, &request("/metrics")));
        let other = UserInfo::new("system:serviceaccount:ab:bot", &[]);
        assert!(!schema.takes(&other, &request("/api/v1/namespaces/x/pods/p")));
    }

    #[test]
    fn a_path_takes_what_is_below_it() {
        let schema = schema(json!({
            "subjects": [{"kind": "Group", "group": {"name": "*"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/a/*"]}],
        }));
        let anybody = UserInfo::new("x", &[]);
        for (path, taken) in [
            ("/healthz", true),
            ("/healthz/etcd", true),
            ("/healthzy", false),
            ("/a/b", true),
            ("/ab", false),
        ] {
            assert_eq!(schema.takes(&anybody, &request(path)), taken, "{path}");
        }
    }

    #[test]
    fn flows_of_different_users_differ() {
        let schema = schema(json!({}));
        let flow = |name: &str| schema.flow(&UserInfo::new(name, &[]), &request("/x"));
        assert_eq!(flow("a"), flow("a"));
        assert_ne!(flow("a"), flow("b"));
    }
}
