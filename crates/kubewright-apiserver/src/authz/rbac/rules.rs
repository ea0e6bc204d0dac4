//! Policy rules (`rbac.authorization.k8s.io/v1` PolicyRule): reading them and asking them.

use serde_json::Value;

use crate::authz::Attributes;

/// One rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<Box<str>>,
    /// API groups, or `*`.
    pub api_groups: Vec<Box<str>>,
    /// Resources as `pods`, `pods/log`, `*/scale` or `*`.
    pub resources: Vec<Box<str>>,
    /// Names of objects; empty for all.
    pub resource_names: Vec<Box<str>>,
    /// Paths, with `*` at the end for all below.
    pub non_resource_urls: Vec<Box<str>>,
}

impl Rule {
    /// Reads a rule; what is not there or of another type is empty.
    pub fn read(value: &Value) -> Self {
        let list = |name: &str| -> Vec<Box<str>> {
            value[name].as_array().into_iter().flatten().filter_map(Value::as_str).map(Box::from).collect()
        };
        Self {
            verbs: list("verbs"),
            api_groups: list("apiGroups"),
            resources: list("resources"),
            resource_names: list("resourceNames"),
            non_resource_urls: list("nonResourceURLs"),
        }
    }

    /// The rules that allow everything: all verbs on all resources, and on all paths.
    pub fn everything() -> [Self; 2] {
        let all = || vec![Box::from("*")];
        [
            Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() },
            Self { verbs: all(), non_resource_urls: all(), ..Self::default() },
        ]
    }

    /// The rules of a role.
    pub fn all_of(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::read).collect()
    }

    /// Whether the rule allows what is asked for. Never allocates.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if asked.resource_request {
            one_of(&self.verbs, &asked.verb)
                && one_of(&self.api_groups, &asked.group)
                && self.resources.iter().any(|r| covers_resource(r, &asked.resource, &asked.subresource))
                && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| **n == *asked.name))
        } else {
            one_of(&self.verbs, &asked.verb)
                && self.non_resource_urls.iter().any(|u| covers_path(u, &asked.path))
        }
    }
}

fn one_of(allowed: &[Box<str>], asked: &str) -> bool {
    allowed.iter().any(|a| &**a == "*" || &**a == asked)
}

/// Whether a rule's resource covers a resource or one of its subresources.
pub fn covers_resource(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

/// Whether a rule's path covers a path.
pub fn covers_path(rule: &str, path: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => rule == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_does_not_cover_its_subresources_and_a_star_does() {
        assert!(covers_resource("pods", "pods", ""));
        assert!(!covers_resource("pods", "pods", "log"));
        assert!(covers_resource("pods/log", "pods", "log"));
        assert!(!covers_resource("pods/log", "pods", ""));
        assert!(covers_resource("*/scale", "deployments", "scale"));
        assert!(!covers_resource("*/scale", "deployments", "status"));
        assert!(covers_resource("*", "pods", "exec"));
    }

    #[test]
    fn a_path_with_a_star_covers_what_is_below() {
        assert!(covers_path("/healthz", "/healthz"));
        assert!(!covers_path("/healthz", "/healthz/etcd"));
        assert!(covers_path("/healthz/*", "/healthz/etcd"));
        assert!(covers_path("*", "/anything"));
    }
}
