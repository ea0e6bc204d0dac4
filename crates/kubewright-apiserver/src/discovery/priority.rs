//! The order of groups and versions in discovery, which decides what `kubectl get NAME` means where names clash.

use std::cmp::Ordering;

/// `groupPriorityMinimum` of the groups that Kubernetes itself serves; larger comes first.
const GROUPS: [(&str, u32); 21] = [
    ("apiregistration.k8s.io", 20000),
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("resource.k8s.io", 15900),
];

/// `groupPriorityMinimum` of the groups of custom resources.
const CUSTOM: u32 = 1000;

/// `groupPriorityMinimum` of a group that this server serves itself.
pub fn group_priority(group: &str) -> u32 {
    GROUPS.iter().find(|(name, _)| *name == group).map_or(CUSTOM, |(_, priority)| *priority)
}

/// `versionPriority` of a version that this server serves itself: among the versions of a group the larger comes first.
pub fn version_priority(group: &str, version: &str) -> u32 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io", "v1") => 21,
        (group, _) if GROUPS.iter().any(|(name, _)| *name == group) => 15,
        // Versions of custom resources are told apart by their names.
        _ => 100,
    }
}

/// Kubernetes' order of versions: GA before beta before alpha, higher numbers first, all others after, by name.
pub fn version_order(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor) of a version such as `v1`, `v2beta3`.
fn parse(version: &str) -> Option<(u8, u64, u64)> {
    let number = |text: &str| -> Option<u64> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        text.parse().ok().filter(|_| canonical)
    };
    let rest = version.strip_prefix('v')?;
    for (name, stability) in [("beta", 1), ("alpha", 0)] {
        if let Some((major, minor)) = rest.split_once(name) {
            return Some((stability, number(major)?, number(minor)?));
        }
    }
    Some((2, number(rest)?, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_by_stability_then_number_then_name() {
        let mut versions =
            ["foo10", "v1", "v1beta1", "v3alpha1", "v10", "v11beta2", "foo1", "v2", "v12alpha1", "v1beta10"];
        versions.sort_by(|a, b| version_order(a, b));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v11beta2", "v1beta10", "v1beta1", "v12alpha1", "v3alpha1", "foo1", "foo10"]
        );
    }
}
