//! Which rule the names of a kind follow.

use kubewright_apiserver::resources::NameCheck;
use kubewright_machinery::names;

/// The rule for the names of a kind.
pub(crate) fn rule(group: &str, plural: &str) -> NameCheck {
    match (group, plural) {
        ("", "namespaces" | "services") => names::name_is_label,
        ("rbac.authorization.k8s.io", _) | ("flowcontrol.apiserver.k8s.io", _) => names::name_is_path_segment,
        _ => names::name_is_subdomain,
    }
}
