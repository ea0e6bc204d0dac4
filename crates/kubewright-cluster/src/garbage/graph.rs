//! Who owns whom: the garbage collector's memory and its decisions. Pure: metadata in, work out.
//!
//! An object is collected when it names owners and none of them exists any more, or when all that exist are only waiting
//! for their dependents (foreground deletion). The semantics are those of Kubernetes' garbage collection: owners count
//! by uid; an owner that is not in the graph is not believed gone until the API server has said so.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Where an object is in the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// `group/version`, or the version alone.
    pub api_version: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Namespace; empty for objects of the cluster.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// A reference to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    /// Where the owner should be; its namespace is the dependent's or none.
    pub place: Place,
    /// Its uid.
    pub uid: Arc<str>,
    /// Whether foreground deletion of the owner waits for this dependent.
    pub blocks: bool,
}

/// What the collector needs to know of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is.
    pub place: Place,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its owners.
    pub owners: Vec<OwnerRef>,
    /// It is being deleted.
    pub deleting: bool,
    /// It has the finalizer `foregroundDeletion`.
    pub foreground: bool,
    /// It has the finalizer `orphan`.
    pub orphan: bool,
}

/// Something to do. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Delete an object of this uid; its own dependents first if `foreground`.
    Delete {
        /// Where it is.
        place: Place,
        /// Its uid.
        uid: Arc<str>,
        /// Whether its dependents go first.
        foreground: bool,
    },
    /// Ask the API server whether the owner of this uid exists; answer with [`Graph::confirm`].
    LookUp {
        /// Where it should be.
        place: Place,
        /// Its uid.
        uid: Arc<str>,
    },
    /// Take these owners out of an object's references.
    Release {
        /// Where the object is.
        place: Place,
        /// Its uid.
        uid: Arc<str>,
        /// The owners to take out.
        owners: Vec<Arc<str>>,
    },
    /// Take a finalizer from an object.
    Finalize {
        /// Where the object is.
        place: Place,
        /// Its uid.
        uid: Arc<str>,
        /// `orphan` or `foregroundDeletion`.
        finalizer: &'static str,
    },
}

/// The finalizer of foreground deletion.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of orphaning.
pub const ORPHAN: &str = "orphan";

/// All objects by uid.
#[derive(Debug, Default)]
pub struct Graph {
    objects: HashMap<Arc<str>, Seen>,
    dependents: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Owners that the API server has said are not there.
    absent: HashSet<Arc<str>>,
    /// Objects to look at.
    dirty: BTreeSet<Arc<str>>,
}

impl Graph {
    /// An object is there, new or changed.
    pub fn observe(&mut self, seen: Seen) {
        let uid = Arc::clone(&seen.uid);
        self.absent.remove(&uid);
        if let Some(before) = self.objects.get(&uid) {
            if *before == seen {
                return;
            }
            self.unlink(&uid);
        }
        for owner in &seen.owners {
            self.dependents.entry(Arc::clone(&owner.uid)).or_default().insert(Arc::clone(&uid));
            // An owner that waits may have to wait for one more, or for one less.
            self.dirty.insert(Arc::clone(&owner.uid));
        }
        if seen.deleting {
            self.dirty.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        self.dirty.insert(Arc::clone(&uid));
        self.objects.insert(uid, seen);
    }

    /// An object is gone.
    pub fn gone(&mut self, uid: &str) {
        let Some((uid, _)) = self.objects.get_key_value(uid).map(|(uid, seen)| (Arc::clone(uid), seen))
        else {
            return;
        };
        self.unlink(&uid);
        self.objects.remove(&uid);
        self.dirty.remove(&uid);
        if let Some(dependents) = self.dependents.get(&uid) {
            self.dirty.extend(dependents.iter().cloned());
            self.absent.insert(uid);
        }
    }

    /// What the API server said of an owner that was looked up.
    pub fn confirm(&mut self, uid: &Arc<str>, exists: bool) {
        if !exists && !self.objects.contains_key(uid) {
            self.absent.insert(Arc::clone(uid));
        }
        self.dirty.extend(self.dependents.get(uid).into_iter().flatten().cloned());
    }

    /// The uids of a kind that are known, to find out which of them a new list no longer has.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Vec<Arc<str>> {
        let same = |seen: &&Seen| *seen.place.api_version == *api_version && *seen.place.kind == *kind;
        self.objects.values().filter(same).map(|seen| Arc::clone(&seen.uid)).collect()
    }

    /// Looks at an object and its dependents again although nothing has changed: a task of it, or its lookup, has
    /// failed.
    pub fn again(&mut self, uid: &Arc<str>) {
        self.dirty.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        self.dirty.insert(Arc::clone(uid));
    }

    /// What is to be done about everything that has changed since the last call.
    pub fn work(&mut self) -> Vec<Task> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut tasks = Vec::new();
        for uid in dirty {
            if let Some(seen) = self.objects.get(&uid) {
                self.judge(seen, &mut tasks);
            }
        }
        tasks
    }

    fn judge(&self, seen: &Seen, tasks: &mut Vec<Task>) {
        let (place, uid) = (seen.place.clone(), Arc::clone(&seen.uid));
        if seen.deleting && seen.orphan {
            let bound: Vec<&Seen> = self.dependents_of(&uid).collect();
            for dependent in &bound {
                tasks.push(Task::Release {
                    place: dependent.place.clone(),
                    uid: Arc::clone(&dependent.uid),
                    owners: vec![Arc::clone(&uid)],
                });
            }
            if bound.is_empty() {
                tasks.push(Task::Finalize { place, uid, finalizer: ORPHAN });
            }
            return;
        }
        if seen.deleting && seen.foreground {
            let waits = self
                .dependents_of(&uid)
                .any(|dependent| dependent.owners.iter().any(|owner| owner.uid == uid && owner.blocks));
            if !waits {
                tasks.push(Task::Finalize { place, uid, finalizer: FOREGROUND });
            }
            return;
        }
        if seen.deleting || seen.owners.is_empty() {
            return;
        }
        let (mut solid, mut waiting, mut dangling, mut unknown) = (0, Vec::new(), Vec::new(), Vec::new());
        for owner in &seen.owners {
            match self.objects.get(&owner.uid) {
                Some(found) if !fits(owner, found) => dangling.push(Arc::clone(&owner.uid)),
                Some(found) if found.deleting && found.foreground => waiting.push(Arc::clone(&owner.uid)),
                Some(_) => solid += 1,
                None if self.absent.contains(&owner.uid) => dangling.push(Arc::clone(&owner.uid)),
                None => unknown.push(owner),
            }
        }
        if !unknown.is_empty() {
            tasks.extend(
                unknown
                    .into_iter()
                    .map(|owner| Task::LookUp { place: owner.place.clone(), uid: Arc::clone(&owner.uid) }),
            );
            return;
        }
        if solid > 0 {
            // Somebody still wants it: only the references to those that do not exist, or wait for it, go.
            let owners: Vec<Arc<str>> = dangling.into_iter().chain(waiting).collect();
            if !owners.is_empty() {
                tasks.push(Task::Release { place, uid, owners });
            }
        } else {
            // Its own dependents go first if an owner waits for them too.
            let foreground =
                !waiting.is_empty() && self.dependents.get(&uid).is_some_and(|all| !all.is_empty());
            tasks.push(Task::Delete { place, uid, foreground });
        }
    }

    fn dependents_of(&self, uid: &Arc<str>) -> impl Iterator<Item = &Seen> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.objects.get(uid))
    }

    fn unlink(&mut self, uid: &Arc<str>) {
        let Some(seen) = self.objects.get(uid) else { return };
        for owner in &seen.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                    self.absent.remove(&owner.uid);
                }
            }
            self.dirty.insert(Arc::clone(&owner.uid));
        }
    }
}

/// Whether an object is the owner that a reference means: an owner in another namespace counts as absent.
fn fits(reference: &OwnerRef, found: &Seen) -> bool {
    found.place.namespace.is_empty() || found.place.namespace == reference.place.namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place { api_version: "v1".into(), kind: "Thing".into(), namespace: "n".into(), name: name.into() }
    }

    fn thing(uid: &str, owners: &[&str]) -> Seen {
        let owners = owners
            .iter()
            .map(|owner| OwnerRef { place: place(owner), uid: (*owner).into(), blocks: true })
            .collect();
        Seen { place: place(uid), uid: uid.into(), owners, deleting: false, foreground: false, orphan: false }
    }

    fn delete(uid: &str) -> Task {
        Task::Delete { place: place(uid), uid: uid.into(), foreground: false }
    }

    #[test]
    fn a_dependent_goes_when_its_last_owner_has_gone() {
        let mut graph = Graph::default();
        for seen in [thing("a", &[]), thing("b", &[]), thing("child", &["a", "b"])] {
            graph.observe(seen);
        }
        assert!(graph.work().is_empty());
        graph.gone("a");
        let release = Task::Release { place: place("child"), uid: "child".into(), owners: vec!["a".into()] };
        assert_eq!(graph.work(), [release]);
        graph.observe(thing("child", &["b"]));
        graph.gone("b");
        assert_eq!(graph.work(), [delete("child")]);
    }

    #[test]
    fn a_lookup_that_failed_is_made_again_and_nothing_is_collected_meanwhile() {
        let mut graph = Graph::default();
        let look_up = [Task::LookUp { place: place("ghost"), uid: "ghost".into() }];
        graph.observe(thing("child", &["ghost"]));
        assert_eq!(graph.work(), look_up);
        graph.again(&"ghost".into());
        assert_eq!(graph.work(), look_up);
    }

    #[test]
    fn an_owner_that_was_never_seen_is_looked_up_before_it_is_believed_gone() {
        let mut graph = Graph::default();
        graph.observe(thing("child", &["ghost"]));
        assert_eq!(graph.work(), [Task::LookUp { place: place("ghost"), uid: "ghost".into() }]);
        graph.confirm(&"ghost".into(), false);
        assert_eq!(graph.work(), [delete("child")]);
        let mut graph = Graph::default();
        graph.observe(thing("child", &["late"]));
        graph.work();
        graph.observe(thing("late", &[]));
        graph.confirm(&"late".into(), true);
        assert!(graph.work().is_empty());
    }

    #[test]
    fn an_owner_in_another_namespace_is_none() {
        let mut graph = Graph::default();
        let mut owner = thing("a", &[]);
        owner.place.namespace = "elsewhere".into();
        graph.observe(owner);
        graph.observe(thing("child", &["a"]));
        assert_eq!(graph.work(), [delete("child")]);
    }

    #[test]
    fn foreground_deletion_waits_for_the_dependents_that_block() {
        let mut graph = Graph::default();
        graph.observe(Seen { deleting: true, foreground: true, ..thing("a", &[]) });
        graph.observe(thing("child", &["a"]));
        assert_eq!(graph.work(), [delete("child")]);
        graph.gone("child");
        let finalize = Task::Finalize { place: place("a"), uid: "a".into(), finalizer: FOREGROUND };
        assert_eq!(graph.work(), [finalize]);
    }

    #[test]
    fn orphaning_releases_the_dependents_first() {
        let mut graph = Graph::default();
        graph.observe(Seen { deleting: true, orphan: true, ..thing("a", &[]) });
        graph.observe(thing("child", &["a"]));
        let release = Task::Release { place: place("child"), uid: "child".into(), owners: vec!["a".into()] };
        assert!(graph.work().contains(&release));
        graph.observe(thing("child", &[]));
        let finalize = Task::Finalize { place: place("a"), uid: "a".into(), finalizer: ORPHAN };
        assert_eq!(graph.work(), [finalize]);
        graph.gone("a");
        assert!(graph.work().is_empty());
    }

    #[test]
    fn nothing_is_remembered_of_what_is_gone() {
        let mut graph = Graph::default();
        graph.observe(thing("a", &[]));
        graph.observe(thing("child", &["a"]));
        graph.gone("a");
        graph.gone("child");
        graph.work();
        assert!(graph.objects.is_empty() && graph.dependents.is_empty() && graph.absent.is_empty());
    }
}
