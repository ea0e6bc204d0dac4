//! Which permissions service accounts use: noted when a request has been decided on, and told beside what RBAC grants
//! (`report`), so that a role can be made as small as its operator needs.
//!
//! Requests flow past; what stays is a bounded set of permissions an account, never a request. Users that are no service
//! accounts cost one comparison.

mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use report::{Permission, Report};

use super::Attributes;

/// Accounts that are remembered.
const MAX_ACCOUNTS: usize = 512;
/// Permissions of one account.
const MAX_PERMISSIONS: usize = 2048;
/// Namespaces of one permission.
const MAX_NAMESPACES: usize = 128;
/// Names of objects in one namespace of a permission: enough to tell whether a rule for certain names would do.
const MAX_NAMES: usize = 32;

const ACCOUNTS: &str = "system:serviceaccount:";

/// What service accounts were seen to use.
#[derive(Default)]
pub struct Usage {
    accounts: RwLock<HashMap<Box<str>, Arc<Mutex<Account>>>>,
}

/// What one account used.
#[derive(Clone, Debug, Default)]
struct Account {
    used: HashMap<Key, Used>,
    /// Whether there was more than is remembered.
    more: bool,
}

/// Verb, group and `resource/subresource`, one after the other.
type Key = Box<str>;

/// A permission in use.
#[derive(Clone, Debug, Default)]
struct Used {
    verb: Box<str>,
    group: Box<str>,
    resource: Box<str>,
    subresource: Box<str>,
    /// Whether some request was refused.
    refused: bool,
    /// Names by namespace; the namespace is empty for the whole cluster, the name for no object in particular.
    places: BTreeMap<Box<str>, Names>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    some: BTreeSet<Box<str>>,
    /// Whether there are more names than are remembered.
    more: bool,
}

impl Usage {
    /// Notes a request that was decided on. Takes well under a microsecond.
    pub(crate) fn note(&self, asked: &Attributes<'_>, allowed: bool) {
        if !asked.resource_request || !asked.user.name.starts_with(ACCOUNTS) {
            return;
        }
        if let Some(account) = self.account(&asked.user.name) {
            account.lock().note(asked, allowed);
        }
    }

    fn account(&self, name: &str) -> Option<Arc<Mutex<Account>>> {
        if let Some(account) = self.accounts.read().get(name) {
            return Some(Arc::clone(account));
        }
        let mut accounts = self.accounts.write();
        if accounts.len() >= MAX_ACCOUNTS && !accounts.contains_key(name) {
            return None;
        }
        Some(Arc::clone(accounts.entry(name.into()).or_default()))
    }

    /// Forgets what an account used: whoever runs an operator again wants to see what that run uses.
    pub fn forget(&self, name: &str) {
        self.accounts.write().remove(name);
    }

    fn of(&self, name: &str) -> Account {
        let account = self.accounts.read().get(name).cloned();
        account.map(|account| account.lock().clone()).unwrap_or_default()
    }
}

impl Account {
    fn note(&mut self, asked: &Attributes<'_>, allowed: bool) {
        let key = [&*asked.verb, &*asked.group, &*asked.resource, &*asked.subresource].join(" ");
        if !self.used.contains_key(key.as_str()) {
            if self.used.len() >= MAX_PERMISSIONS {
                self.more = true;
                return;
            }
            let used = Used {
                verb: (&*asked.verb).into(),
                group: (&*asked.group).into(),
                resource: (&*asked.resource).into(),
                subresource: (&*asked.subresource).into(),
                ..Used::default()
            };
            self.used.insert(key.as_str().into(), used);
        }
        let Some(used) = self.used.get_mut(key.as_str()) else { return };
        used.refused |= !allowed;
        if !used.places.contains_key(&*asked.namespace) {
            if used.places.len() >= MAX_NAMESPACES {
                self.more = true;
                return;
            }
            used.places.insert((&*asked.namespace).into(), Names::default());
        }
        let Some(names) = used.places.get_mut(&*asked.namespace) else { return };
        if !names.some.contains(&*asked.name) {
            if names.some.len() >= MAX_NAMES {
                names.more = true;
            } else {
                names.some.insert((&*asked.name).into());
            }
        }
    }
}

#[cfg(test)]
mod tests;
