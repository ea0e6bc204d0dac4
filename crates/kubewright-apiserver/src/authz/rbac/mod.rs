//! Role-based access control: the [`Rbac`] authorizer over roles and bindings in the store.
//!
//! Roles and bindings are read through the server's [`Reader`](crate::resources::Reader), which follows the store: a
//! decision is as new as the newest write that has returned. What it decides from is an index by subject, rebuilt only
//! when a role or binding has changed.

use std::sync::Arc;

use kubewright_storage::StoreError;
use parking_lot::Mutex;

use super::{Attributes, Authorizer, Decision, UserRules};
use crate::BoxFuture;
use crate::authn::{MASTERS, UserInfo};
use crate::server::Core;

mod aggregation;
mod cover;
mod escalation;
mod index;
mod rules;

pub use aggregation::aggregated_rules;
pub use cover::missing;
pub use escalation::guard;
pub use index::{Grant, Index, Policies};
pub use rules::{Rule, covers_path, covers_resource};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Allows members of `system:masters` everything, whatever the store holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Masters;

impl Authorizer for Masters {
    fn authorize<'a>(&'a self, _core: &'a Core, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        crate::ready(if attributes.user.in_group(MASTERS) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        })
    }
}

/// Allows what roles say. Never denies.
#[derive(Default)]
pub struct Rbac {
    index: Mutex<Option<([u64; 4], Arc<Index>)>>,
}

impl Rbac {
    /// The index of the policies as they are now.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn index(&self, core: &Core) -> Result<Arc<Index>, StoreError> {
        let reader = core.reader();
        let policies = Policies {
            roles: reader.snapshot(GROUP, "roles").await?,
            role_bindings: reader.snapshot(GROUP, "rolebindings").await?,
            cluster_roles: reader.snapshot(GROUP, "clusterroles").await?,
            cluster_role_bindings: reader.snapshot(GROUP, "clusterrolebindings").await?,
        };
        let serials = policies.serials();
        if let Some((of, index)) = &*self.index.lock()
            && *of == serials
        {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(Index::build(&policies));
        *self.index.lock() = Some((serials, Arc::clone(&index)));
        Ok(index)
    }

    /// The rules a user has in a namespace (empty: cluster-wide), and the roles that are bound but missing.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn granted(
        &self,
        core: &Core,
        user: &UserInfo,
        namespace: &str,
    ) -> Result<(Vec<Rule>, Vec<String>), StoreError> {
        let index = self.index(core).await?;
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        for grant in index.grants(user, namespace) {
            match &grant.rules {
                Some(granted) => rules.extend(granted.iter().cloned()),
                None => missing.push(absent(grant)),
            }
        }
        Ok((rules, missing))
    }
}

impl Authorizer for Rbac {
    fn authorize<'a>(&'a self, core: &'a Core, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            let index = match self.index(core).await {
                Ok(index) => index,
                Err(error) => return Decision::NoOpinion(format!("RBAC: {error}")),
            };
            decide(&index, attributes)
        })
    }

    fn rules<'a>(
        &'a self,
        core: &'a Core,
        user: &'a UserInfo,
        namespace: &'a str,
    ) -> BoxFuture<'a, UserRules> {
        Box::pin(async move {
            match self.granted(core, user, namespace).await {
                Ok((rules, errors)) => UserRules { rules, errors, incomplete: false },
                Err(error) => {
                    UserRules { errors: vec![error.to_string()], incomplete: true, ..UserRules::default() }
                }
            }
        })
    }
}

/// Decides from an index. The reason of a refusal names the roles that are bound but missing.
pub fn decide(index: &Index, attributes: &Attributes<'_>) -> Decision {
    let (allowing, some_missing) = index.allowing(attributes);
    if let Some(grant) = allowing {
        return Decision::Allow(grant.reason.to_string());
    }
    let mut missing = Vec::new();
    if some_missing {
        for grant in index.grants(attributes.user, &attributes.namespace) {
            let words = absent(grant);
            if grant.rules.is_none() && !missing.contains(&words) {
                missing.push(words);
            }
        }
    }
    match missing.as_slice() {
        [] => Decision::NoOpinion(String::new()),
        [one] => Decision::NoOpinion(format!("RBAC: {one}")),
        several => Decision::NoOpinion(format!("RBAC: [{}]", several.join(", "))),
    }
}

fn absent(grant: &Grant) -> String {
    let plural = if &*grant.role_kind == "Role" { "role" } else { "clusterrole" };
    format!("{plural}.{GROUP} \"{}\" not found", grant.role)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::resources::Snapshot;

    fn snapshot(objects: &[(&str, Value)]) -> Snapshot {
        let objects: BTreeMap<Box<str>, Arc<Value>> =
            objects.iter().map(|(key, value)| ((*key).into(), Arc::new(value.clone()))).collect();
        Snapshot { serial: 1, objects: Arc::new(objects) }
    }

    fn binding(name: &str, kind: &str, role: &str, subject: Value) -> Value {
        json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": [subject]})
    }

    fn index() -> Index {
        let reader = json!({"rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]});
        let paths = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]});
        let one = json!({"rules": [{"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "resourceNames": ["web"]}]});
        Index::build(&Policies {
            roles: snapshot(&[("team/one", one)]),
            role_bindings: snapshot(&[
                ("team/a", binding("a", "Role", "one", json!({"kind": "User", "name": "jane"}))),
                (
                    "team/b",
                    binding("b", "ClusterRole", "reader", json!({"kind": "ServiceAccount", "name": "bot"})),
                ),
                ("team/c", binding("c", "Role", "gone", json!({"kind": "User", "name": "lost"}))),
            ]),
            cluster_roles: snapshot(&[("paths", paths), ("reader", reader)]),
            cluster_role_bindings: snapshot(&[(
                "ops",
                binding("ops", "ClusterRole", "paths", json!({"kind": "Group", "name": "ops"})),
            )]),
        })
    }

    fn asked<'a>(
        user: &'a UserInfo,
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        name: &'a str,
    ) -> Attributes<'a> {
        Attributes {
            namespace: "team".into(),
            name: name.into(),
            ..Attributes::of_resource(user, verb, group, "v1", resource)
        }
    }

    #[test]
    fn a_role_holds_in_its_namespace_and_for_its_names_alone() {
        let (index, jane) = (index(), UserInfo::new("jane", &[]));
        let reason = "RBAC: allowed by RoleBinding \"a/team\" of Role \"one\" to User \"jane\"";
        assert_eq!(
            decide(&index, &asked(&jane, "delete", "apps", "deployments", "web")),
            Decision::Allow(reason.into())
        );
        assert_eq!(
            decide(&index, &asked(&jane, "delete", "apps", "deployments", "db")),
            Decision::NoOpinion(String::new())
        );
        let elsewhere =
            Attributes { namespace: "other".into(), ..asked(&jane, "delete", "apps", "deployments", "web") };
        assert_eq!(decide(&index, &elsewhere), Decision::NoOpinion(String::new()));
    }

    #[test]
    fn a_service_account_subject_without_a_namespace_is_of_the_bindings_namespace() {
        let (index, bot) = (index(), UserInfo::new("system:serviceaccount:team:bot", &[]));
        let Decision::Allow(reason) = decide(&index, &asked(&bot, "list", "", "pods", "")) else {
            panic!("refused")
        };
        assert_eq!(
            reason,
            "RBAC: allowed by RoleBinding \"b/team\" of ClusterRole \"reader\" to ServiceAccount \"bot/team\""
        );
    }

    #[test]
    fn a_group_is_allowed_its_paths() {
        let (index, ops) = (index(), UserInfo::new("x", &["ops"]));
        let path = Attributes {
            resource_request: false,
            path: "/metrics".into(),
            namespace: "".into(),
            ..asked(&ops, "get", "", "", "")
        };
        assert!(matches!(decide(&index, &path), Decision::Allow(_)));
    }

    #[test]
    fn a_missing_role_is_named_in_the_refusal() {
        let (index, lost) = (index(), UserInfo::new("lost", &[]));
        let refused = Decision::NoOpinion("RBAC: role.rbac.authorization.k8s.io \"gone\" not found".into());
        assert_eq!(decide(&index, &asked(&lost, "get", "", "pods", "")), refused);
    }
}
