//! The checks of the Pod Security Standards, and from which version on each holds. Pure.

use std::collections::BTreeSet;

use kubewright_machinery::field::quote;
use serde_json::Value;

use super::policy::{Demand, Level, Version};
use super::{baseline, restricted};
use crate::fields::{at, items, text};

/// What a pod does that it may not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// What, in short.
    pub(super) reason: String,
    /// Where, and what instead.
    pub(super) detail: String,
}

impl Violation {
    pub(super) fn new(reason: &str, detail: String) -> Option<Self> {
        Some(Self { reason: reason.into(), detail })
    }
}

/// A pod, or the template of pods.
#[derive(Clone, Copy)]
pub(super) struct Subject<'v> {
    /// Its metadata and spec.
    pub(super) template: &'v Value,
}

impl<'v> Subject<'v> {
    /// The value at a path of its spec.
    pub(super) fn spec(self, path: &[&str]) -> &'v Value {
        at(at(self.template, &["spec"]), path)
    }

    /// All containers: init ones first, ephemeral ones last.
    pub(super) fn containers(self) -> impl Iterator<Item = &'v Value> {
        let all = ["initContainers", "containers", "ephemeralContainers"];
        all.into_iter().flat_map(move |list| items(self.spec(&[]), &[list]))
    }

    /// Names of the containers that do something.
    pub(super) fn containers_that(self, does: impl FnMut(&&'v Value) -> bool) -> Vec<&'v str> {
        self.containers().filter(does).map(|c| text(c, &["name"])).collect()
    }

    /// Whether its users are not the host's.
    pub(super) fn has_own_users(self) -> bool {
        self.spec(&["hostUsers"]) == &Value::Bool(false)
    }

    /// Whether it is for Windows, where some fields do not exist.
    pub(super) fn is_windows(self) -> bool {
        self.spec(&["os", "name"]) == "windows"
    }

    /// An annotation.
    pub(super) fn annotation(self, key: &str) -> Option<&'v str> {
        at(self.template, &["metadata", "annotations", key]).as_str()
    }
}

/// `"a", "b"`, without escapes.
pub(super) fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// One noun or its plural with an `s`.
pub(super) fn plural(noun: &str, count: usize) -> String {
    if count == 1 { noun.into() } else { format!("{noun}s") }
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn named(noun: &str, names: &[&str]) -> String {
    format!("{} {}", plural(noun, names.len()), quoted(names))
}

/// `uses` or `use`.
pub(super) fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

/// `pod and containers "a", "b"`: who sets what may not be set; empty for nobody.
pub(super) fn setters(pod: bool, containers: &[&str]) -> String {
    let mut parts = Vec::new();
    if pod {
        parts.push("pod".to_string());
    }
    if !containers.is_empty() {
        parts.push(named("container", containers));
    }
    parts.join(" and ")
}

/// `key="value"`.
pub(super) fn assigned(key: &str, value: &str) -> String {
    format!("{key}={}", quote(value))
}

/// Texts without repetition, in order.
pub(super) type Texts<'v> = BTreeSet<&'v str>;

/// A check and the versions it holds for.
pub(super) struct Check {
    level: Level,
    /// The first minor version with it.
    since: u32,
    /// The first minor version with another in its place.
    until: u32,
    /// The first minor version in which a stricter check takes its place on the restricted level.
    yields: u32,
    violation: fn(Subject<'_>) -> Option<Violation>,
}

const EVER: u32 = u32::MAX;
/// The last minor version that changed a check: what `latest` means.
const NEWEST: u32 = 35;

type Violates = fn(Subject<'_>) -> Option<Violation>;

const fn baseline(since: u32, until: u32, violation: Violates) -> Check {
    Check { level: Level::Baseline, since, until, yields: EVER, violation }
}

const fn restricted(since: u32, until: u32, violation: Violates) -> Check {
    Check { level: Level::Restricted, since, until, yields: EVER, violation }
}

const fn yielding(yields: u32, check: Check) -> Check {
    Check { yields, ..check }
}

/// In the order in which violations are told: by the checks' names, those of the baseline first.
static CHECKS: &[Check] = &[
    baseline(0, EVER, baseline::app_armor),
    yielding(22, baseline(0, EVER, baseline::capabilities)),
    baseline(0, EVER, baseline::host_namespaces),
    yielding(0, baseline(0, EVER, baseline::host_paths)),
    baseline(0, EVER, baseline::host_ports),
    baseline(34, EVER, baseline::probe_hosts),
    baseline(0, EVER, baseline::privileged),
    baseline(0, 35, baseline::proc_mount),
    yielding(35, baseline(35, EVER, baseline::proc_mount_with_host_users)),
    baseline(0, 31, baseline::selinux),
    baseline(31, EVER, baseline::selinux_with_engines),
    baseline(0, 19, baseline::seccomp_annotations),
    yielding(19, baseline(19, EVER, baseline::seccomp)),
    baseline(0, 27, baseline::sysctls_1_0),
    baseline(27, 29, baseline::sysctls_1_27),
    baseline(29, 32, baseline::sysctls_1_29),
    baseline(32, EVER, baseline::sysctls_1_32),
    baseline(0, EVER, baseline::windows_host_process),
    restricted(8, 25, restricted::privilege_escalation),
    restricted(25, EVER, restricted::privilege_escalation_but_on_windows),
    restricted(22, 25, restricted::capabilities),
    restricted(25, EVER, restricted::capabilities_but_on_windows),
    restricted(35, EVER, baseline::proc_mount),
    restricted(0, EVER, restricted::volumes),
    restricted(0, 35, restricted::non_root),
    restricted(35, EVER, restricted::non_root_with_host_users),
    restricted(23, 35, restricted::root_user),
    restricted(35, EVER, restricted::root_user_with_host_users),
    restricted(19, 25, restricted::seccomp),
    restricted(25, EVER, restricted::seccomp_but_on_windows),
];

/// What a pod does that it may not under a demand.
pub(super) fn violations(demand: Demand, subject: Subject<'_>) -> Vec<Violation> {
    let minor = match demand.version {
        Version::Minor(minor) => minor.min(NEWEST),
        Version::Latest => NEWEST,
    };
    let holds = |check: &&Check| {
        let in_place =
            check.level < Level::Restricted && demand.level == Level::Restricted && minor >= check.yields;
        check.level <= demand.level && (check.since..check.until).contains(&minor) && !in_place
    };
    CHECKS.iter().filter(holds).filter_map(|check| (check.violation)(subject)).collect()
}

/// The violations with their details, as messages have them.
pub(super) fn detailed(violations: &[Violation]) -> String {
    let each = violations.iter().map(|v| match v.detail.as_str() {
        "" => v.reason.clone(),
        detail => format!("{} ({detail})", v.reason),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The violations in short.
pub(super) fn brief(violations: &[Violation]) -> String {
    violations.iter().map(|v| v.reason.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(level: Level, version: Version, template: &Value) -> String {
        detailed(&violations(Demand { level, version }, Subject { template }))
    }

    #[test]
    fn nothing_is_asked_of_privileged_pods() {
        let pod = json!({"spec": {"hostNetwork": true}});
        assert_eq!(told(Level::Privileged, Version::Latest, &pod), "");
        assert_eq!(told(Level::Baseline, Version::Minor(0), &pod), "host namespaces (hostNetwork=true)");
    }

    #[test]
    fn a_stricter_check_takes_the_place_of_the_baseline_s() {
        let pod = json!({"spec": {
            "containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        }});
        let baseline = told(Level::Baseline, Version::Latest, &pod);
        assert_eq!(
            baseline,
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in \
             securityContext.capabilities.add), hostPath volumes (volume \"v\")"
        );
        let strict = told(Level::Restricted, Version::Latest, &pod);
        assert!(
            !strict.contains("non-default capabilities") && !strict.contains("hostPath volumes"),
            "{strict}"
        );
        let before = told(Level::Restricted, Version::Minor(21), &pod);
        assert!(before.contains("non-default capabilities") && !before.contains("unrestricted"), "{before}");
    }

    #[test]
    fn violations_of_the_baseline_are_told_first() {
        let pod = json!({"spec": {"hostPID": true, "containers": [{"name": "c"}]}});
        let strict = told(Level::Restricted, Version::Latest, &pod);
        assert!(
            strict.starts_with("host namespaces (hostPID=true), allowPrivilegeEscalation != false"),
            "{strict}"
        );
    }

    #[test]
    fn versions_ahead_of_the_checks_are_the_latest() {
        let pod = json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}});
        assert_eq!(told(Level::Baseline, Version::Minor(99), &pod), "");
        assert_eq!(told(Level::Baseline, Version::Minor(31), &pod), "forbidden sysctls (net.ipv4.tcp_rmem)");
    }
}
