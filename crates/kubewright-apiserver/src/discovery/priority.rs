//! The order of groups and versions in discovery, which decides what `kubectl get NAME` means where names clash.

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
