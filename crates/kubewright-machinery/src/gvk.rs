//! Names of API types: group, version, kind and resource (apimachinery `runtime/schema`), and the order of
//! versions. Only text goes in and out; nothing here knows which types exist.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// An `apiVersion` cannot be split into group and version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected GroupVersion string: {0}")]
pub struct ParseGroupVersionError(pub String);

/// A group and a version; its text form is an object's `apiVersion`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// API group; empty for the core group.
    pub group: String,
    /// Version, such as `v1beta1`.
    pub version: String,
}

impl GroupVersion {
    /// From parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into() }
    }

    /// The type `kind` of this group and version.
    pub fn with_kind(&self, kind: impl Into<String>) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: kind.into() }
    }

    /// The resource of this group and version.
    pub fn with_resource(&self, resource: impl Into<String>) -> GroupVersionResource {
        GroupVersionResource {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: resource.into(),
        }
    }
}

impl FromStr for GroupVersion {
    type Err = ParseGroupVersionError;

    /// Reads an `apiVersion`. The empty text and `/` are the empty group version, as in Kubernetes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text == "/" {
            return Ok(Self::default());
        }
        match text.split_once('/') {
            None => Ok(Self::new("", text)),
            Some((group, version)) if !version.contains('/') => Ok(Self::new(group, version)),
            Some(_) => Err(ParseGroupVersionError(text.to_string())),
        }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.version)
        } else {
            write!(f, "{}/{}", self.group, self.version)
        }
    }
}

/// A type: group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// API group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind, such as `ConfigMap`.
    pub kind: String,
}

impl GroupVersionKind {
    /// From parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// The type that an object says it has; absent fields read as empty.
    ///
    /// # Errors
    /// When `apiVersion` has more than one slash.
    pub fn of(object: &Value) -> Result<Self, ParseGroupVersionError> {
        let text = |key| object.get(key).and_then(Value::as_str).unwrap_or_default();
        Ok(text("apiVersion").parse::<GroupVersion>()?.with_kind(text("kind")))
    }

    /// Group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group.clone(), self.version.clone())
    }

    /// The `apiVersion` of objects of this type.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }
}

impl fmt::Display for GroupVersionKind {
    /// As Kubernetes' messages have it: `apps/v1, Kind=Deployment`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// A resource: group, version and plural name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// API group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural name, such as `configmaps`.
    pub resource: String,
}

impl GroupVersionResource {
    /// From parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }

    /// Without the version.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.resource.clone())
    }
}

impl fmt::Display for GroupVersionResource {
    /// As Kubernetes' messages have it: `apps/v1, Resource=deployments`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

/// A resource in any version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name.
    pub resource: String,
}

impl GroupResource {
    /// From parts.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl FromStr for GroupResource {
    type Err = std::convert::Infallible;

    /// Reads `resource.group`: everything after the first dot is the group.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self::new(group, resource))
    }
}

impl fmt::Display for GroupResource {
    /// `resource.group`, or the resource alone in the core group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.resource)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

/// Orders versions as CRDs and discovery do: GA above beta above alpha, higher numbers first within each, and
/// names that are no Kubernetes versions last, by their text. The preferred version is the `Greater` one.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

/// (stability, major, minor) of `v1`, `v1beta2`, `v2alpha1`.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (major, suffix) = rest.split_at(digits);
    let number = |text: &str| (!text.starts_with('0')).then(|| text.parse().ok()).flatten();
    let major = number(major)?;
    if suffix.is_empty() {
        Some((2, major, 0))
    } else if let Some(minor) = suffix.strip_prefix("beta") {
        minor.bytes().all(|b| b.is_ascii_digit()).then(|| number(minor)).flatten().map(|n| (1, major, n))
    } else if let Some(minor) = suffix.strip_prefix("alpha") {
        minor.bytes().all(|b| b.is_ascii_digit()).then(|| number(minor)).flatten().map(|n| (0, major, n))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_version_splits_at_its_only_slash() {
        assert_eq!("v1".parse(), Ok(GroupVersion::new("", "v1")));
        assert_eq!("apps/v1".parse(), Ok(GroupVersion::new("apps", "v1")));
        assert_eq!("".parse(), Ok(GroupVersion::default()));
        let err = "a/b/c".parse::<GroupVersion>().unwrap_err();
        assert_eq!(err.to_string(), "unexpected GroupVersion string: a/b/c");
        assert_eq!(GroupVersion::new("apps", "v1").to_string(), "apps/v1");
    }

    #[test]
    fn names_print_as_in_messages() {
        assert_eq!(GroupVersionKind::new("", "v1", "Event").to_string(), "/v1, Kind=Event");
        assert_eq!(
            GroupVersionResource::new("apps", "v1", "deployments").to_string(),
            "apps/v1, Resource=deployments"
        );
        assert_eq!(GroupResource::new("apps", "deployments").to_string(), "deployments.apps");
    }

    #[test]
    fn stable_versions_come_before_beta_and_odd_names_last() {
        let mut v = vec![
            "foo1",
            "v1alpha1",
            "v2",
            "v10",
            "v3beta1",
            "v11beta2",
            "v1",
            "foo10",
            "v12alpha1",
            "v11alpha2",
            "v10beta3",
        ];
        v.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(
            v,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "v1alpha1",
                "foo1",
                "foo10"
            ]
        );
    }
}
