//! The namespaces that a process follows, where those are several and may change while it runs. A set that whoever
//! holds it changes, and that informers follow; nothing here does requests.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tokio::sync::watch;

/// Namespaces to follow. Clones share the set: give one to [`Manager::namespaces`](crate::Manager::namespaces) and keep
/// the other to change it.
///
/// ```
/// use kubewright::cache::Namespaces;
///
/// let tenants = Namespaces::of(["team-a", "team-b"]);
/// tenants.add("team-c"); // is listed and watched now, and its objects are reconciled
/// tenants.remove("team-a"); // is not watched any more
/// assert_eq!(tenants.to_string(), "team-b, team-c");
/// ```
///
/// Each namespace is listed and watched by itself, so that rights in these namespaces are enough. What is read of the
/// cache is the union; a read of a namespace that is not followed is an error that says so.
///
/// The objects of a namespace that is removed leave the cache, and the queues of controllers, without a word: they are
/// not deleted, so nobody is told that they were. Reconciliations under way in it end as they may; what fails of them
/// is not tried again. Kinds of the cluster are not concerned.
#[derive(Clone)]
pub struct Namespaces(Arc<watch::Sender<BTreeSet<String>>>);

impl Namespaces {
    /// These namespaces; none is a set as good as any.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Namespaces {
        let names = names.into_iter().map(str::to_owned).collect();
        Namespaces(Arc::new(watch::channel(names).0))
    }

    /// Follows one more. Whether it was not followed before.
    pub fn add(&self, name: &str) -> bool {
        self.0.send_if_modified(|names| names.insert(name.to_owned()))
    }

    /// Follows one no more. Whether it was followed.
    pub fn remove(&self, name: &str) -> bool {
        self.0.send_if_modified(|names| names.remove(name))
    }

    /// Follows these and no others; those that stay are not disturbed.
    pub fn set<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let wanted: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        self.0.send_if_modified(|names| {
            let changed = *names != wanted;
            *names = wanted;
            changed
        });
    }

    /// The namespaces that are followed now.
    pub fn get(&self) -> BTreeSet<String> {
        self.0.borrow().clone()
    }

    /// Whether a namespace is followed.
    pub fn contains(&self, name: &str) -> bool {
        self.0.borrow().contains(name)
    }

    /// The set, as it changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeSet<String>> {
        self.0.subscribe()
    }
}

impl PartialEq for Namespaces {
    /// The same set, not merely the same names: what changes one changes the other.
    fn eq(&self, other: &Namespaces) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Namespaces {}

impl Hash for Namespaces {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Display for Namespaces {
    /// The names, joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.borrow().iter().enumerate() {
            write!(f, "{}{name}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespaces({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_change_together_and_equal_names_are_not_the_same_set() {
        let one = Namespaces::of(["b", "a"]);
        let same = one.clone();
        assert!(same.add("c") && !same.add("c") && one.contains("c"));
        assert!(one.remove("a") && !one.remove("a"));
        assert_eq!((one.to_string(), same.to_string()), ("b, c".into(), "b, c".into()));
        assert_eq!(one, same);
        assert_ne!(one, Namespaces::of(["b", "c"]));
    }

    #[test]
    fn followers_hear_of_changes_only() {
        let names = Namespaces::of(["a"]);
        let mut heard = names.subscribe();
        names.set(["a"]);
        names.add("a");
        names.remove("x");
        assert!(!heard.has_changed().unwrap());
        names.set(["b"]);
        assert!(heard.has_changed().unwrap());
        assert_eq!(*heard.borrow_and_update(), BTreeSet::from(["b".to_owned()]));
    }
}
