//! Who is bound to which rules, by subject: what makes a decision independent of how many bindings there are.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::rules::Rule;
use crate::authn::UserInfo;
use crate::authz::Attributes;
use crate::resources::Snapshot;

/// The four kinds an index is made of, each with the serial of its snapshot.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Roles.
    pub roles: Snapshot,
    /// RoleBindings.
    pub role_bindings: Snapshot,
    /// ClusterRoles.
    pub cluster_roles: Snapshot,
    /// ClusterRoleBindings.
    pub cluster_role_bindings: Snapshot,
}

impl Policies {
    /// Equal for equal policies.
    pub fn serials(&self) -> [u64; 4] {
        [
            self.roles.serial,
            self.role_bindings.serial,
            self.cluster_roles.serial,
            self.cluster_role_bindings.serial,
        ]
    }
}

/// A subject bound to rules.
#[derive(Debug)]
pub struct Grant {
    /// Place among all bindings: cluster-wide ones come first, then by namespace and name.
    pub order: u32,
    /// Where it holds; empty for everywhere.
    pub namespace: Box<str>,
    /// `Role` or `ClusterRole`.
    pub role_kind: Box<str>,
    /// Name of the role.
    pub role: Box<str>,
    /// Why something is allowed by it, in Kubernetes' words.
    pub reason: Box<str>,
    /// Its rules; `None` when the role does not exist.
    pub rules: Option<Arc<[Rule]>>,
}

/// Why something is allowed by a binding; `namespace` is empty for one of the cluster.
fn reason(binding: &str, namespace: &str, role_kind: &str, role: &str, subject: &str) -> Box<str> {
    let (kind, name) = if namespace.is_empty() {
        ("ClusterRoleBinding", binding.to_owned())
    } else {
        ("RoleBinding", format!("{binding}/{namespace}"))
    };
    format!("RBAC: allowed by {kind} \"{name}\" of {role_kind} \"{role}\" to {subject}").into()
}

/// Grants by subject. Building costs one pass over all bindings; asking costs one look-up a name the caller has.
#[derive(Debug, Default)]
pub struct Index {
    users: HashMap<Box<str>, Vec<Arc<Grant>>>,
    groups: HashMap<Box<str>, Vec<Arc<Grant>>>,
}

impl Index {
    /// Builds an index.
    pub fn build(policies: &Policies) -> Self {
        let mut index = Self::default();
        let roles = rules_by_key(&policies.roles);
        let cluster_roles = rules_by_key(&policies.cluster_roles);
        let mut order = 0;
        for (cluster_wide, snapshot) in
            [(true, &policies.cluster_role_bindings), (false, &policies.role_bindings)]
        {
            for (key, binding) in snapshot.objects.iter() {
                let namespace = if cluster_wide { "" } else { key.split_once('/').map_or("", |(ns, _)| ns) };
                let role_kind = text(&binding["roleRef"]["kind"]);
                let role = text(&binding["roleRef"]["name"]);
                let rules = match role_kind {
                    "ClusterRole" => cluster_roles.get(role),
                    "Role" if !cluster_wide => roles.get(format!("{namespace}/{role}").as_str()),
                    _ => None,
                };
                for subject in binding["subjects"].as_array().into_iter().flatten() {
                    index.add(
                        subject,
                        |words| Grant {
                            order,
                            namespace: namespace.into(),
                            reason: reason(
                                text(&binding["metadata"]["name"]),
                                namespace,
                                role_kind,
                                role,
                                words,
                            ),
                            role_kind: role_kind.into(),
                            role: role.into(),
                            rules: rules.cloned(),
                        },
                        namespace,
                    );
                }
                order += 1;
            }
        }
        index
    }

    fn add(&mut self, subject: &Value, grant: impl FnOnce(&str) -> Grant, namespace: &str) {
        let name = text(&subject["name"]);
        match text(&subject["kind"]) {
            "User" => {
                let grant = grant(&format!("User \"{name}\""));
                self.users.entry(name.into()).or_default().push(Arc::new(grant));
            }
            "Group" => {
                let grant = grant(&format!("Group \"{name}\""));
                self.groups.entry(name.into()).or_default().push(Arc::new(grant));
            }
            "ServiceAccount" => {
                let of = match text(&subject["namespace"]) {
                    "" => namespace,
                    stated => stated,
                };
                let grant = grant(&format!("ServiceAccount \"{name}/{of}\""));
                self.users
                    .entry(format!("system:serviceaccount:{of}:{name}").into())
                    .or_default()
                    .push(Arc::new(grant));
            }
            _ => {}
        }
    }

    /// What a user was granted by name, in any namespace.
    pub fn own(&self, user: &str) -> &[Arc<Grant>] {
        self.users.get(user).map_or(&[], Vec::as_slice)
    }

    /// What a user was granted cluster-wide and in a namespace (empty: cluster-wide alone), in no order.
    fn held<'i, 'q>(
        &'i self,
        user: &'q UserInfo,
        namespace: &'q str,
    ) -> impl Iterator<Item = &'i Arc<Grant>> + use<'i, 'q> {
        let own = self.users.get(user.name.as_str());
        let through_groups = user.groups.iter().filter_map(|g| self.groups.get(g.as_str()));
        let all = own.into_iter().chain(through_groups).flatten();
        all.filter(move |grant| grant.namespace.is_empty() || *grant.namespace == *namespace)
    }

    /// The same in the order of bindings.
    pub fn grants(&self, user: &UserInfo, namespace: &str) -> Vec<&Arc<Grant>> {
        let mut grants: Vec<&Arc<Grant>> = self.held(user, namespace).collect();
        grants.sort_by_key(|grant| grant.order);
        grants
    }

    /// The first grant, in the order of bindings, that allows what is asked for; and whether any names a role that does
    /// not exist. Allocates nothing.
    pub fn allowing<'i>(&'i self, asked: &Attributes<'_>) -> (Option<&'i Grant>, bool) {
        let (mut first, mut missing): (Option<&Grant>, bool) = (None, false);
        for grant in self.held(asked.user, &asked.namespace) {
            let Some(rules) = &grant.rules else {
                missing = true;
                continue;
            };
            let sooner = first.is_none_or(|first| grant.order < first.order);
            if sooner && rules.iter().any(|rule| rule.allows(asked)) {
                first = Some(grant);
            }
        }
        (first, missing)
    }
}

fn rules_by_key(snapshot: &Snapshot) -> HashMap<&str, Arc<[Rule]>> {
    snapshot.objects.iter().map(|(key, role)| (&**key, Rule::all_of(role).into())).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
