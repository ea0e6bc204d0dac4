//! Levels and versions of the Pod Security Standards, as a namespace's labels state them.

use std::fmt;

use kubewright_machinery::field::{Error, Path};
use serde_json::{Map, Value};

/// How strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// The minor version of Kubernetes whose standards apply; `None` for the newest.
pub(super) type Version = Option<u32>;

fn parse_version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let canonical = !minor.is_empty() && (minor == "0" || !minor.starts_with('0'));
    (canonical && minor.bytes().all(|b| b.is_ascii_digit())).then(|| minor.parse().ok().map(Some))?
}

/// A level in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub enforce: Standard,
    pub warn: Standard,
}

/// Reads the labels; what is malformed is reported and counts as not said.
pub(super) fn of(labels: Option<&Map<String, Value>>) -> (Policy, Vec<Error>) {
    let mut errors = Vec::new();
    let metadata = Path::new("metadata");
    let list = metadata.child("labels");
    let label = |name: &str| {
        let key = format!("pod-security.kubernetes.io/{name}");
        labels.and_then(|l| l.get(&key)).and_then(Value::as_str).map(|value| (key, value))
    };
    let mut read = |mode: &str| {
        let level = label(mode).map(|(key, value)| {
            let level = Level::parse(value);
            if level.is_none() {
                let why = "must be one of privileged, baseline, restricted";
                errors.push(Error::invalid(&list.key(&key), value, why));
            }
            level
        });
        let version = label(&format!("{mode}-version")).map(|(key, value)| {
            let version = parse_version(value);
            if version.is_none() {
                errors.push(Error::invalid(&list.key(&key), value, "must be \"latest\" or \"v1.x\""));
            }
            version.flatten()
        });
        (level, version)
    };
    let (enforce_level, enforce_version) = read("enforce");
    // Audit has no effect without a log, but its labels are checked.
    read("audit");
    let (warn_level, warn_version) = read("warn");
    let standard = |level: Option<Option<Level>>, version: Option<Version>| Standard {
        level: level.flatten().unwrap_or(Level::Privileged),
        version: version.flatten(),
    };
    let enforce = standard(enforce_level, enforce_version);
    let mut warn = standard(warn_level, warn_version);
    // Who enforces a level is warned of it everywhere else as well.
    if warn_level.is_none() && enforce_level.flatten().is_some() && enforce.level > warn.level {
        warn.level = enforce.level;
        if warn_version.is_none() {
            warn.version = enforce.version;
        }
    }
    (Policy { enforce, warn }, errors)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(labels: Value) -> (Policy, Vec<String>) {
        let (policy, errors) = of(labels.as_object());
        (policy, errors.into_iter().map(|e| e.field).collect())
    }

    #[test]
    fn warnings_follow_what_is_enforced() {
        let (policy, errors) = read(json!({
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/enforce-version": "v1.25",
        }));
        assert!(errors.is_empty());
        assert_eq!(policy.warn, policy.enforce);
        assert_eq!(policy.enforce.to_string(), "restricted:v1.25");
    }

    #[test]
    fn malformed_labels_are_named_in_order() {
        let (policy, errors) = read(json!({
            "pod-security.kubernetes.io/warn": "x",
            "pod-security.kubernetes.io/audit-version": "v1.01",
        }));
        assert_eq!(
            errors,
            [
                "metadata.labels[pod-security.kubernetes.io/audit-version]",
                "metadata.labels[pod-security.kubernetes.io/warn]",
            ]
        );
        assert_eq!(policy.enforce.to_string(), "privileged:latest");
    }
}
