//! What the labels of a namespace ask of its pods: a level and a version for each of enforce, audit and warn. Pure.

use std::fmt;

use kubewright_machinery::field::{self, Path};
use kubewright_machinery::meta;
use serde_json::Value;

/// How much pods may do. Stricter is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }
}

/// As of which minor version of Kubernetes the level is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Latest,
    Minor(u32),
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain = minor == "0" || (!minor.starts_with('0') && minor.bytes().all(|b| b.is_ascii_digit()));
        if plain { minor.parse().ok().map(Version::Minor) } else { None }
    }
}

/// What is asked of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

const NOTHING: Demand = Demand { level: Level::Privileged, version: Version::Latest };

/// A label that cannot be read: its key, its value and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLabel {
    key: String,
    value: String,
    detail: &'static str,
}

impl BadLabel {
    pub(super) fn error(&self) -> field::Error {
        let labels = Path::new("metadata");
        let labels = labels.child("labels");
        field::Error::invalid(&labels.key(&self.key), self.value.as_str(), self.detail)
    }
}

/// What a namespace asks of its pods. Audit is not looked at: there is no audit log to note it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Demand,
    pub(super) warn: Demand,
    /// Labels that cannot be read, in the order in which they are looked at.
    pub(super) faults: Vec<BadLabel>,
}

impl Policy {
    /// What the labels of a namespace say. Without labels everything is allowed; a bad level enforces the strictest
    /// and warns of nothing.
    pub(super) fn of(namespace: &Value) -> Self {
        let mut faults = Vec::new();
        let mut read = |mode: &str, bad_level: Level| -> (Option<Level>, bool, Option<Version>) {
            let label = |suffix: &str| {
                let key = format!("pod-security.kubernetes.io/{mode}{suffix}");
                meta::label(namespace, &key).map(|value| (key, value.to_string()))
            };
            let (level, version) = (label(""), label("-version"));
            let mut good = false;
            let level = level.map(|(key, value)| {
                Level::parse(&value).inspect(|_| good = true).unwrap_or_else(|| {
                    let detail = "must be one of privileged, baseline, restricted";
                    faults.push(BadLabel { key, value, detail });
                    bad_level
                })
            });
            let version = version.map(|(key, value)| {
                Version::parse(&value).unwrap_or_else(|| {
                    faults.push(BadLabel { key, value, detail: "must be \"latest\" or \"v1.x\"" });
                    Version::Latest
                })
            });
            (level, good, version)
        };
        let (enforced, readable, enforced_version) = read("enforce", Level::Restricted);
        let enforce = Demand {
            level: enforced.unwrap_or(NOTHING.level),
            version: enforced_version.unwrap_or(NOTHING.version),
        };
        read("audit", Level::Privileged);
        let (level, _, version) = read("warn", Level::Privileged);
        let mut warn =
            Demand { level: level.unwrap_or(NOTHING.level), version: version.unwrap_or(NOTHING.version) };
        // What is enforced is warned of where only a template is written.
        if level.is_none() && readable && enforce.level > warn.level {
            warn.level = enforce.level;
            warn.version = version.unwrap_or(enforce.version);
        }
        Policy { enforce, warn, faults }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(labels: &[(&str, &str)]) -> Policy {
        let mut namespace = json!({"metadata": {"name": "n"}});
        for (key, value) in labels {
            meta::set_label(&mut namespace, &format!("pod-security.kubernetes.io/{key}"), value);
        }
        Policy::of(&namespace)
    }

    #[test]
    fn what_is_enforced_is_warned_of_unless_the_labels_say_otherwise() {
        let both = policy(&[("enforce", "restricted"), ("enforce-version", "v1.25")]);
        assert_eq!(
            (both.enforce.to_string(), both.warn.to_string()),
            ("restricted:v1.25".into(), "restricted:v1.25".into())
        );
        let quiet = policy(&[("enforce", "baseline"), ("warn", "privileged")]);
        assert_eq!(quiet.warn.level, Level::Privileged);
        let newest =
            policy(&[("enforce", "baseline"), ("enforce-version", "v1.9"), ("warn-version", "latest")]);
        assert_eq!(newest.warn.to_string(), "baseline:latest");
        assert_eq!(policy(&[]).enforce, NOTHING);
    }

    #[test]
    fn a_bad_level_enforces_the_strictest_and_warns_of_nothing() {
        let bad = policy(&[("enforce", "strict"), ("audit-version", "v1"), ("warn", "x")]);
        assert_eq!((bad.enforce.level, bad.warn.level), (Level::Restricted, Level::Privileged));
        let bodies: Vec<_> = bad.faults.iter().map(|f| f.error().to_string()).collect();
        assert_eq!(
            bodies,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of \
                 privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v1\": must be \
                 \"latest\" or \"v1.x\"",
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"x\": must be one of privileged, \
                 baseline, restricted",
            ]
        );
        assert_eq!(Version::parse("v1.05"), None);
        assert_eq!(Version::parse("v1.0"), Some(Version::Minor(0)));
    }
}
