//! Admission that knows kinds: plugins with kube-apiserver's names, messages and order.
//!
//! A write flows through [`plugins`] twice, as [`kubewright_apiserver::admission`] says. Plugins read other objects
//! from the server's reader; the only thing one of them writes is usage into the status of quotas ([`ResourceQuota`]).

use std::sync::Arc;

use kubewright_apiserver::admission::{Admission, Attributes, MutatingWebhooks, ValidatingWebhooks};
use kubewright_machinery::status::Status;
use kubewright_storage::StoreError;
use serde_json::{Map, Value};

pub(crate) mod amounts;
mod certificates;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod deny_service_external_ips;
mod limit_ranger;
mod node_restriction;
mod persistent_volume_claim_resize;
pub(crate) mod pod_amounts;
mod pod_resize_validator;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod quota;
mod runtime_class;
mod service_accounts;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
mod tolerations;

pub use certificates::{CertificateApproval, CertificateSigning, CertificateSubjectRestriction};
pub use default_ingress_class::DefaultIngressClass;
pub use default_storage_class::DefaultStorageClass;
pub use default_toleration_seconds::DefaultTolerationSeconds;
pub use deny_service_external_ips::DenyServiceExternalIps;
pub use kubewright_apiserver::admission::NamespaceLifecycle;
pub use limit_ranger::LimitRanger;
pub use node_restriction::NodeRestriction;
pub use persistent_volume_claim_resize::PersistentVolumeClaimResize;
pub use pod_resize_validator::PodResizeValidator;
pub use pod_security::PodSecurity;
pub use pod_topology_labels::PodTopologyLabels;
pub use priority::Priority;
pub use quota::ResourceQuota;
pub use runtime_class::RuntimeClass;
pub use service_accounts::ServiceAccount;
pub use storage_object_in_use_protection::StorageObjectInUseProtection;
pub use taint_nodes_by_condition::TaintNodesByCondition;

/// A plugin that kube-apiserver knows.
struct Known {
    name: &'static str,
    /// Runs unless it is disabled.
    on: bool,
    /// How it is made, where it is about kinds and made here.
    make: Option<fn() -> Arc<dyn Admission>>,
}

const fn on(name: &'static str) -> Known {
    Known { name, on: true, make: None }
}

const fn off(name: &'static str) -> Known {
    Known { name, on: false, make: None }
}

const fn here(name: &'static str, make: fn() -> Arc<dyn Admission>) -> Known {
    Known { name, on: true, make: Some(make) }
}

/// All plugins of kube-apiserver in the order in which they run.
const ORDER: &[Known] = &[
    off("AlwaysAdmit"),
    off("NamespaceAutoProvision"),
    here("NamespaceLifecycle", || Arc::new(NamespaceLifecycle)),
    off("NamespaceExists"),
    off("LimitPodHardAntiAffinityTopology"),
    here("LimitRanger", || Arc::new(LimitRanger)),
    here("ServiceAccount", || Arc::new(ServiceAccount)),
    here("NodeRestriction", || Arc::new(NodeRestriction)),
    here("TaintNodesByCondition", || Arc::new(TaintNodesByCondition)),
    off("AlwaysPullImages"),
    off("ImagePolicyWebhook"),
    here("PodSecurity", || Arc::new(PodSecurity)),
    off("PodNodeSelector"),
    here("Priority", || Arc::new(Priority)),
    here("DefaultTolerationSeconds", || Arc::new(DefaultTolerationSeconds::default())),
    off("PodTolerationRestriction"),
    off("EventRateLimit"),
    off("ExtendedResourceToleration"),
    here("DefaultStorageClass", || Arc::new(DefaultStorageClass)),
    here("StorageObjectInUseProtection", || Arc::new(StorageObjectInUseProtection)),
    off("PodGroupProtection"),
    off("OwnerReferencesPermissionEnforcement"),
    here("PersistentVolumeClaimResize", || Arc::new(PersistentVolumeClaimResize)),
    here("RuntimeClass", || Arc::new(RuntimeClass)),
    here("CertificateApproval", || Arc::new(CertificateApproval)),
    here("CertificateSigning", || Arc::new(CertificateSigning)),
    on("ClusterTrustBundleAttest"),
    here("CertificateSubjectRestriction", || Arc::new(CertificateSubjectRestriction)),
    here("DefaultIngressClass", || Arc::new(DefaultIngressClass)),
    Known { on: false, ..here("DenyServiceExternalIPs", || Arc::new(DenyServiceExternalIps)) },
    here("PodTopologyLabels", || Arc::new(PodTopologyLabels)),
    off("PodGroupWorkloadExists"),
    off("NodeDeclaredFeatureValidator"),
    off("JobValidation"),
    here("PodResizeValidator", || Arc::new(PodResizeValidator)),
    on(LAST_OF_THEIR_KIND),
    here("MutatingAdmissionWebhook", || Arc::new(MutatingWebhooks)),
    on("ValidatingAdmissionPolicy"),
    here("ValidatingAdmissionWebhook", || Arc::new(ValidatingWebhooks)),
    here("ResourceQuota", || Arc::new(ResourceQuota)),
    off("AlwaysDeny"),
];

/// Plugins that the table does not name run before this one: it and what follows see objects as they will be.
const LAST_OF_THEIR_KIND: &str = "MutatingAdmissionPolicy";

/// Why the plugins asked for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// There is no plugin of that name.
    #[error("{option} plugin {name:?} is unknown")]
    Unknown {
        /// The option that named it.
        option: &'static str,
        /// The name.
        name: String,
    },
    /// The plugin is one of kube-apiserver's that this server lacks.
    #[error("enable-admission-plugins plugin {name:?} is not available")]
    Unavailable {
        /// The name.
        name: String,
    },
    /// A plugin was both enabled and disabled.
    #[error("{name:?} in enable-admission-plugins and disable-admission-plugins overlapped")]
    Overlap {
        /// The name.
        name: String,
    },
}

/// The plugins that run, in order: those of this crate and `generic` ones that know no kinds (the server's own
/// and an embedding program's), but for the `disabled` and those off by default that are not `enabled`.
///
/// # Errors
/// [`PluginError`] for names that cannot be met.
pub fn plugins(
    generic: Vec<Arc<dyn Admission>>,
    enabled: &[String],
    disabled: &[String],
) -> Result<Vec<Arc<dyn Admission>>, PluginError> {
    let known = |name: &str| ORDER.iter().find(|k| k.name == name);
    let given = |name: &str| generic.iter().find(|p| p.name() == name);
    for (option, names) in [("enable-admission-plugins", enabled), ("disable-admission-plugins", disabled)] {
        if let Some(name) = names.iter().find(|n| known(n).is_none() && given(n).is_none()) {
            return Err(PluginError::Unknown { option, name: name.clone() });
        }
    }
    if let Some(name) = enabled.iter().find(|n| disabled.contains(n)) {
        return Err(PluginError::Overlap { name: name.clone() });
    }
    if let Some(name) =
        enabled.iter().find(|n| given(n).is_none() && known(n).is_some_and(|k| k.make.is_none() && !k.on))
    {
        return Err(PluginError::Unavailable { name: name.clone() });
    }
    let has = |names: &[String], name: &str| names.iter().any(|n| n == name);
    let mut chain = Vec::new();
    for plugin in ORDER {
        if plugin.name == LAST_OF_THEIR_KIND {
            let unnamed = generic.iter().filter(|p| known(p.name()).is_none() && !has(disabled, p.name()));
            chain.extend(unnamed.cloned());
        }
        if !(plugin.on || has(enabled, plugin.name)) || has(disabled, plugin.name) {
            continue;
        }
        chain.extend(given(plugin.name).cloned().or_else(|| plugin.make.map(|make| make())));
    }
    Ok(chain)
}

/// A store that does not answer is no refusal.
fn unreadable(error: StoreError) -> Status {
    Status::internal(error)
}

/// The objects of a kind that a namespace (empty: the cluster) has.
async fn list(
    attributes: &Attributes<'_>,
    group: &str,
    plural: &str,
    namespace: &str,
) -> Result<Vec<Arc<Value>>, Status> {
    attributes.core.reader().list(group, plural, namespace).await.map_err(unreadable)
}

/// The object of a write, to be changed; none on delete.
fn object<'a>(attributes: &'a mut Attributes<'_>) -> Option<&'a mut Map<String, Value>> {
    attributes.object.as_mut().and_then(Value::as_object_mut)
}

/// A cluster-scoped object.
async fn get(
    attributes: &Attributes<'_>,
    group: &str,
    plural: &str,
    name: &str,
) -> Result<Option<Arc<Value>>, Status> {
    if name.is_empty() {
        return Ok(None);
    }
    attributes.core.reader().get(group, plural, "", name).await.map_err(unreadable)
}

/// The default among classes: the newest that `chosen` takes; of equally old ones the first by name.
fn newest(classes: &[Arc<Value>], chosen: impl Fn(&Value) -> bool) -> Option<&Value> {
    use kubewright_machinery::meta::{creation_timestamp, name};
    let of_choice = classes.iter().map(|c| &**c).filter(|c| chosen(c));
    of_choice
        .min_by(|a, b| creation_timestamp(b).cmp(&creation_timestamp(a)).then_with(|| name(a).cmp(name(b))))
}

/// Several reasons as one, each said once.
fn together(mut reasons: Vec<String>) -> Option<String> {
    let mut seen: Vec<String> = Vec::with_capacity(reasons.len());
    for reason in reasons.drain(..) {
        if !seen.contains(&reason) {
            seen.push(reason);
        }
    }
    match seen.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Named(&'static str);

    impl Admission for Named {
        fn name(&self) -> &'static str {
            self.0
        }
    }

    fn names(chain: &[Arc<dyn Admission>]) -> Vec<&'static str> {
        chain.iter().map(|p| p.name()).collect()
    }

    #[test]
    fn every_plugin_made_here_has_the_name_of_its_row() {
        for row in ORDER {
            if let Some(make) = row.make {
                assert_eq!(make().name(), row.name);
            }
        }
    }

    #[test]
    fn plugins_run_in_the_order_of_the_table_whoever_makes_them() {
        let generic: Vec<Arc<dyn Admission>> = vec![
            Arc::new(Named("ValidatingAdmissionWebhook")),
            Arc::new(Named("OurOwn")),
            Arc::new(Named("NamespaceLifecycle")),
        ];
        let chain = plugins(generic, &[], &[]).unwrap();
        let names = names(&chain);
        assert_eq!(names[..2], ["NamespaceLifecycle", "LimitRanger"]);
        let last = ["OurOwn", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook", "ResourceQuota"];
        assert_eq!(names[names.len() - 4..], last);
        assert!(!names.contains(&"DenyServiceExternalIPs"));
    }

    #[test]
    fn plugins_are_enabled_and_disabled_by_name() {
        let text = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let chain = plugins(vec![], &text(&["DenyServiceExternalIPs"]), &text(&["Priority"])).unwrap();
        assert!(names(&chain).contains(&"DenyServiceExternalIPs"));
        assert!(!names(&chain).contains(&"Priority"));
        let refused =
            |e: &[&str], d: &[&str]| plugins(vec![], &text(e), &text(d)).err().map(|e| e.to_string());
        assert_eq!(
            refused(&[], &["Nosuch"]).unwrap(),
            "disable-admission-plugins plugin \"Nosuch\" is unknown"
        );
        assert!(refused(&["AlwaysDeny"], &[]).unwrap().ends_with("is not available"));
        assert!(refused(&["Priority"], &["Priority"]).unwrap().ends_with("overlapped"));
        assert_eq!(refused(&[], &["NodeRestriction", "AlwaysDeny"]), None);
    }

    #[test]
    fn the_newest_class_is_the_default_and_names_break_ties() {
        let class = |name: &str, made: &str, default: bool| {
            Arc::new(json!({"metadata": {"name": name, "creationTimestamp": made}, "default": default}))
        };
        let classes = [
            class("c", "2026-01-01T00:00:02Z", true),
            class("b", "2026-01-01T00:00:02Z", true),
            class("a", "2026-01-01T00:00:01Z", true),
            class("z", "2026-01-01T00:00:09Z", false),
        ];
        let default = newest(&classes, |c| c["default"] == true).unwrap();
        assert_eq!(default["metadata"]["name"], "b");
    }
}
