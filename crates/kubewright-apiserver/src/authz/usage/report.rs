//! What an account used beside what it was granted. Rules and uses flow in, three lists come out: used without a grant,
//! granted without a use, and granted with a wildcard.
//!
//! Verbs that are worth the same count as one: who may list may as well get, who may patch may as well update.

use std::collections::BTreeSet;
use std::fmt;

use kubewright_storage::StoreError;

use super::{ACCOUNTS, Account, Usage, Used};
use crate::authn::{AUTHENTICATED, UserInfo};
use crate::authz::Attributes;
use crate::authz::rbac::{Grant, Index, Rbac, Rule, covers_resource};
use crate::server::Core;

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// API group; empty for core.
    pub group: String,
    /// `resource` or `resource/subresource`.
    pub resource: String,
    /// The verb.
    pub verb: String,
    /// The only object it is for; empty for all.
    pub name: String,
    /// The only namespace it is for; empty for all.
    pub namespace: String,
}

impl fmt::Display for Permission {
    /// `list deployments.apps`, with `NAME` and `in NAMESPACE` where it is limited to one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, sub) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        write!(f, "{} {resource}", self.verb)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !sub.is_empty() {
            write!(f, "/{sub}")?;
        }
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " in {}", self.namespace)?;
        }
        Ok(())
    }
}

/// What an account used beside what it was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The account, as a user.
    pub user: String,
    /// How many permissions were used.
    pub used: usize,
    /// Used, or tried, without a grant.
    pub not_granted: Vec<Permission>,
    /// Granted to the account itself, and not used.
    pub unused: Vec<Permission>,
    /// Granted with a wildcard, each with what it was used for.
    pub wide: Vec<(Permission, Vec<Permission>)>,
    /// Whether more was used than was remembered, so that something may be missing above.
    pub incomplete: bool,
}

impl Report {
    /// Whether nothing was used beyond the grants, nothing granted beyond the uses, and nothing granted wholesale.
    pub fn is_least(&self) -> bool {
        self.not_granted.is_empty() && self.unused.is_empty() && self.wide.is_empty()
    }

    /// Leaves out grants whose `resource.group` (`events.events.k8s.io`, `pods`; with `/subresource`) matches one of the
    /// patterns; a `*` in front stands for anything. For grants that are meant for another day.
    #[must_use]
    pub fn ignoring(mut self, patterns: &[&str]) -> Report {
        let matches = |permission: &Permission| {
            let (resource, sub) = permission.resource.split_once('/').unwrap_or((&permission.resource, ""));
            let mut text = resource.to_owned();
            for (mark, part) in [('.', &*permission.group), ('/', sub)] {
                if !part.is_empty() {
                    text.push(mark);
                    text.push_str(part);
                }
            }
            patterns.iter().any(|pattern| match pattern.strip_prefix('*') {
                Some(end) => text.ends_with(end),
                None => text == *pattern,
            })
        };
        self.unused.retain(|permission| !matches(permission));
        self.wide.retain(|(permission, _)| !matches(permission));
        self
    }

    /// Fails a test, with the report, unless it [is least](Self::is_least).
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_least(&self) {
        assert!(self.is_least(), "the permissions are not the least:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "permissions of {}: {} used", self.user, self.used)?;
        for permission in &self.not_granted {
            write!(f, "\n  used but not granted: {permission}")?;
        }
        for permission in &self.unused {
            write!(f, "\n  granted but not used: {permission}")?;
        }
        for (permission, uses) in &self.wide {
            let uses: Vec<String> = uses.iter().map(Permission::to_string).collect();
            let uses = if uses.is_empty() { "nothing".into() } else { uses.join(", ") };
            write!(f, "\n  granted with a wildcard: {permission}, used for {uses}")?;
        }
        if self.incomplete {
            f.write_str("\n  more was used than could be remembered")?;
        }
        Ok(())
    }
}

impl Usage {
    /// What an account (`system:serviceaccount:NAMESPACE:NAME`) used, beside what RBAC grants it now.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn report(&self, core: &Core, user: &str) -> Result<Report, StoreError> {
        let index = Rbac::default().index(core).await?;
        Ok(compare(user, &self.of(user), &index))
    }
}

pub(super) fn compare(user: &str, account: &Account, index: &Index) -> Report {
    let namespace =
        user.strip_prefix(ACCOUNTS).and_then(|rest| rest.split_once(':')).map_or("", |(ns, _)| ns);
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("{ACCOUNTS_GROUP}{namespace}"),
        AUTHENTICATED.to_owned(),
    ];
    let whole = UserInfo { groups: groups.into(), ..UserInfo::new(user, &[]) };
    let mut report = Report { user: user.into(), used: account.used.len(), ..Report::default() };
    let own = index.own(user);
    let (mut not_granted, mut unused) = (BTreeSet::new(), BTreeSet::new());
    for used in account.used.values() {
        for (namespace, names) in &used.places {
            report.incomplete |= names.more;
            for name in &names.some {
                let asked = used.asked(&whole, namespace, name);
                let granted = index.grants(&whole, namespace);
                if !granted.iter().any(|grant| rules(grant).iter().any(|rule| rule.allows(&asked))) {
                    not_granted.insert(used.permission(namespace, name));
                }
            }
        }
    }
    for grant in own {
        for atom in rules(grant).iter().flat_map(|rule| atoms(rule, &grant.namespace)) {
            let uses: Vec<&Used> = account.used.values().filter(|used| serves(&atom, used)).collect();
            if [&atom.verb, &atom.group, &atom.resource].iter().any(|part| part.contains('*')) {
                let uses: BTreeSet<Permission> = uses.iter().map(|used| used.permission("", "")).collect();
                report.wide.push((atom, uses.into_iter().collect()));
            } else if uses.is_empty() {
                unused.insert(atom);
            }
        }
    }
    report.not_granted = not_granted.into_iter().collect();
    report.unused = unused.into_iter().collect();
    report.wide.sort();
    report.incomplete |= account.more;
    report
}

const ACCOUNTS_GROUP: &str = "system:serviceaccounts:";

fn rules(grant: &Grant) -> &[Rule] {
    grant.rules.as_deref().unwrap_or_default()
}

/// A rule as single permissions.
fn atoms(rule: &Rule, namespace: &str) -> Vec<Permission> {
    let mut atoms = Vec::new();
    let every = [Box::from("")];
    let names: &[Box<str>] = if rule.resource_names.is_empty() { &every } else { &rule.resource_names };
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                for name in names {
                    let [group, resource, verb, name] =
                        [group, resource, verb, name].map(|part| part.to_string());
                    atoms.push(Permission { group, resource, verb, name, namespace: namespace.into() });
                }
            }
        }
    }
    atoms
}

/// Whether a use is one of a granted permission, or of a verb that is worth the same.
fn serves(granted: &Permission, used: &Used) -> bool {
    let worth = |verb: &str| match verb {
        "get" | "list" | "watch" => "read".to_owned(),
        "update" | "patch" => "change".to_owned(),
        other => other.to_owned(),
    };
    let verb = granted.verb == "*" || worth(&granted.verb) == worth(&used.verb);
    let group = granted.group == "*" || *granted.group == *used.group;
    let resource = covers_resource(&granted.resource, &used.resource, &used.subresource);
    let place = used.places.iter().any(|(namespace, names)| {
        let here = granted.namespace.is_empty() || *granted.namespace == **namespace;
        here && (granted.name.is_empty() || names.some.contains(&*granted.name))
    });
    verb && group && resource && place
}

impl Used {
    fn permission(&self, namespace: &str, name: &str) -> Permission {
        let resource = match &*self.subresource {
            "" => self.resource.to_string(),
            sub => format!("{}/{sub}", self.resource),
        };
        Permission {
            group: self.group.to_string(),
            resource,
            verb: self.verb.to_string(),
            name: name.into(),
            namespace: namespace.into(),
        }
    }

    fn asked<'a>(&'a self, user: &'a UserInfo, namespace: &'a str, name: &'a str) -> Attributes<'a> {
        Attributes {
            subresource: (&*self.subresource).into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::of_resource(user, &*self.verb, &self.group, "", &self.resource)
        }
    }
}
