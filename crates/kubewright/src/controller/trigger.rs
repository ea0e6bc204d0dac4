//! What makes a controller look at an object: a kind to follow, and a way from its objects to keys. Routing functions of
//! users may fail or panic without harm.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Predicate;
use crate::Result;
use crate::cache::{Cached, Delta};
use crate::context::View;
use crate::kind::{Key, Kind, Object};
use crate::queue::Priority;

type Map = dyn Fn(&Cached, &View) -> Result<Vec<Key>> + Send + Sync;

#[derive(Clone)]
enum Route {
    /// To the object itself.
    Itself,
    /// To the controlling owner, when it is of the controller's kind.
    Controller,
    /// To what a function says.
    Map(Arc<Map>),
}

/// What makes a controller reconcile: changes of a kind, led to keys of the controller's own kind.
///
/// ```
/// use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
/// use kubewright::queue::Priority;
/// use kubewright::{Key, Predicate, Trigger};
///
/// // A Secret concerns the ConfigMap that an annotation of it names.
/// let by_annotation = Trigger::mapped::<Secret>(|secret, _| {
///     let annotations = secret.metadata.annotations.iter().flatten();
///     let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
///     Ok(annotations.filter(|(name, _)| *name == "example.com/of").map(|(_, of)| Key::new(namespace, of)).collect())
/// });
/// // The settings concern all there are; that is urgent.
/// let settings = Trigger::mapped::<ConfigMap>(|_, view| view.keys::<Pod>())
///     .when(Predicate::object(|map| map.key().name() == "settings"))
///     .priority(Priority(10));
/// assert_eq!((by_annotation.kind().plural.as_str(), settings.kind().plural.as_str()), ("secrets", "configmaps"));
/// ```
#[derive(Clone)]
pub struct Trigger {
    kind: Kind,
    cluster: Option<String>,
    name: Arc<str>,
    route: Route,
    predicate: Option<Predicate>,
    priority: Priority,
}

impl Trigger {
    /// Changes of the reconciled objects themselves.
    pub fn itself<K: Object>() -> Trigger {
        Trigger::itself_raw(Kind::of::<K>())
    }

    /// The same for a kind known only at run time.
    pub fn itself_raw(kind: Kind) -> Trigger {
        Trigger::of(kind, Route::Itself)
    }

    fn of(kind: Kind, route: Route) -> Trigger {
        let name = kind.kind.as_str().into();
        Trigger { kind, cluster: None, name, route, predicate: None, priority: Priority::LIVE }
    }

    /// Changes of objects whose controlling owner is reconciled.
    pub fn owned<K: Object>() -> Trigger {
        Trigger::of(Kind::of::<K>(), Route::Controller)
    }

    /// Changes of objects that a function leads to keys. It is called with the new state and, when that
    /// differs, with the old one; it may look at the cache. It must be quick: events wait for it.
    pub fn mapped<K: Object>(map: impl Fn(&K, &View) -> Result<Vec<Key>> + Send + Sync + 'static) -> Trigger {
        let map = move |object: &Cached, view: &View| map(&object.decode::<K>()?, view);
        Trigger::of(Kind::of::<K>(), Route::Map(Arc::new(map)))
    }

    /// The same for a kind known only at run time, on objects as they are cached.
    pub fn mapped_raw(
        kind: Kind,
        map: impl Fn(&Cached, &View) -> Result<Vec<Key>> + Send + Sync + 'static,
    ) -> Trigger {
        Trigger::of(kind, Route::Map(Arc::new(map)))
    }

    /// Changes in another cluster of the manager. What a function looks up in the cache is that cluster's, and so are
    /// the owners that objects name: their keys are taken for those of reconciled objects.
    #[must_use]
    pub fn in_cluster(mut self, name: &str) -> Trigger {
        self.name = format!("{name}: {}", self.kind.kind).into();
        self.cluster = Some(name.into());
        self
    }

    /// Only changes that pass; several predicates must all pass.
    #[must_use]
    pub fn when(mut self, predicate: Predicate) -> Trigger {
        self.predicate = Some(match self.predicate {
            Some(earlier) => Predicate::new(move |delta| earlier.passes(delta) && predicate.passes(delta)),
            None => predicate,
        });
        self
    }

    /// How urgent its changes are; [`Priority::LIVE`] by default. What a list finds stays at [`Priority::LOW`], or
    /// below it when its changes are.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Trigger {
        self.priority = priority;
        self
    }

    pub(crate) fn priority_of(&self, delta: &Delta) -> Priority {
        if delta.initial { self.priority.min(Priority::LOW) } else { self.priority }
    }

    /// The kind that is followed.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The other cluster that it is followed in, if it is another.
    pub(crate) fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Whether it follows the reconciled objects themselves.
    pub(crate) fn is_itself(&self) -> bool {
        matches!(self.route, Route::Itself)
    }

    /// Whether it follows children of the reconciled objects.
    pub(crate) fn is_owned(&self) -> bool {
        matches!(self.route, Route::Controller)
    }

    /// How reasons call the kind: with its cluster where that is another.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Calls a function with each key of the controller's kind that a change concerns, once.
    pub(crate) fn route(&self, delta: &Delta, of: &Kind, view: &View, mut each: impl FnMut(Key)) {
        let routed = catch_unwind(AssertUnwindSafe(|| self.try_route(delta, of, view, &mut each)));
        if let Err(panic) = routed {
            let message = panic_message(&*panic);
            tracing::error!(kind = %self.kind, object = %delta.object.key(), message, "a trigger panicked");
        }
    }

    fn try_route(&self, delta: &Delta, of: &Kind, view: &View, each: &mut impl FnMut(Key)) {
        if self.predicate.as_ref().is_some_and(|predicate| !predicate.passes(delta)) {
            return;
        }
        let states = || [Some(&delta.object), delta.before.as_ref()].into_iter().flatten();
        match &self.route {
            // Both states are of one key.
            Route::Itself => each(delta.object.key().clone()),
            Route::Controller => distinct(states().filter_map(|object| controller_key(object, of)), each),
            Route::Map(map) => {
                let keys = |object| {
                    map(object, view).unwrap_or_else(|error| {
                        tracing::error!(kind = %self.kind, object = %object.key(), error = error.chain(), "a trigger failed");
                        Vec::new()
                    })
                };
                distinct(states().flat_map(|object| keys(object)), each);
            }
        }
    }
}

/// Calls a function with each of the keys once.
fn distinct(keys: impl Iterator<Item = Key>, each: &mut impl FnMut(Key)) {
    let mut seen: Vec<Key> = Vec::new();
    for key in keys {
        if !seen.contains(&key) {
            seen.push(key.clone());
            each(key);
        }
    }
}

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            None => write!(f, "Trigger({})", self.kind),
            Some(cluster) => write!(f, "Trigger({} in {cluster})", self.kind),
        }
    }
}

/// The key of the object's controlling owner, if that is of the given kind in any version.
fn controller_key(object: &Cached, of: &Kind) -> Option<Key> {
    let owner = object.controller()?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    if *owner.kind != *of.kind || group != of.group {
        return None;
    }
    let namespace = object.key().namespace().filter(|_| of.namespaced).unwrap_or_default();
    Some(Key::new(namespace, &owner.name))
}

/// What a caught panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::cache::What;

    fn pod(owner: &str, generation: i64) -> Arc<Cached> {
        let text = format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","generation":{generation},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"{owner}","uid":"u","controller":true}}]}}}}"#
        );
        Arc::new(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
    }

    fn update(before: Arc<Cached>, object: Arc<Cached>) -> Delta {
        Delta { what: What::Updated, object, before: Some(before), initial: false }
    }

    fn route(trigger: &Trigger, delta: &Delta) -> Vec<String> {
        let mut keys = Vec::new();
        trigger.route(delta, &Kind::of::<ReplicaSet>(), &View::default(), |key| keys.push(key.to_string()));
        keys
    }

    #[test]
    fn a_child_that_changes_owner_concerns_both() {
        let delta = update(pod("old", 1), pod("new", 1));
        assert_eq!(route(&Trigger::owned::<Pod>(), &delta), ["n/new", "n/old"]);
        assert_eq!(route(&Trigger::itself::<Pod>(), &delta), ["n/p"]);
    }

    #[test]
    fn a_mapping_function_that_panics_or_fails_is_caught() {
        let delta = update(pod("a", 1), pod("a", 1));
        let panics = Trigger::mapped::<Pod>(|_, _| panic!("a bug"));
        assert!(route(&panics, &delta).is_empty());
        let fails = Trigger::mapped::<Pod>(|_, view| view.keys::<ReplicaSet>());
        assert!(route(&fails, &delta).is_empty());
        let maps = Trigger::mapped::<Pod>(|pod, _| Ok(vec![Key::of(pod)]));
        assert_eq!(route(&maps, &delta), ["n/p"]);
    }

    #[test]
    fn a_trigger_says_how_urgent_its_changes_are() {
        let change = update(pod("a", 1), pod("a", 2));
        let listed = Delta { initial: true, ..change.clone() };
        let urgency = |trigger: Trigger| [trigger.priority_of(&change), trigger.priority_of(&listed)];
        let pods = Trigger::itself::<Pod>;
        assert_eq!(urgency(pods()), [Priority::LIVE, Priority::LOW]);
        assert_eq!(urgency(pods().priority(Priority(9))), [Priority(9), Priority::LOW]);
        assert_eq!(urgency(pods().priority(Priority(-500))), [Priority(-500), Priority(-500)]);
    }
}
