//! Objects that a wish depends on beside the object itself and its children: rules that select them, and which objects
//! a change of one concerns. Metacontroller's customize hook. Nothing here asks a server.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kubewright_machinery::selector::LabelSelector;
use parking_lot::Mutex;

use crate::cache::Cached;
use crate::client::Undeclared;
use crate::context::View;
use crate::kind::{Key, Kind, Object};
use crate::{Error, Result};

/// Selects related objects of a kind: all of them, or those that fit everything that is said here.
///
/// ```
/// use k8s_openapi::api::core::v1::{ConfigMap, Secret};
/// use kubewright::composite::Related;
///
/// let settings = Related::of::<ConfigMap>().in_namespace("global").named(["settings"]);
/// let keys = Related::of::<Secret>().in_namespaces("team=shop").labels("kind=key");
/// ```
#[derive(Clone, Debug)]
pub struct Related {
    kind: Kind,
    namespace: Option<String>,
    namespaces: Option<LabelSelector>,
    names: Option<Vec<String>>,
    labels: Option<LabelSelector>,
    mistake: Option<String>,
}

impl Related {
    /// All objects of a kind, which the controller declares with [`relates`](crate::Controller::relates).
    pub fn of<K: Object>() -> Related {
        let kind = Kind::of::<K>();
        Related { kind, namespace: None, namespaces: None, names: None, labels: None, mistake: None }
    }

    /// Those of a namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Related {
        self.namespace = Some(namespace.into());
        self
    }

    /// Those of the namespaces whose labels a selector selects. The controller must also declare that it
    /// [`relates`](crate::Controller::relates) to `Namespace`.
    #[must_use]
    pub fn in_namespaces(mut self, selector: &str) -> Related {
        self.namespaces = self.parse(selector);
        self
    }

    /// Those of these names.
    #[must_use]
    pub fn named<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Related {
        self.names = Some(names.into_iter().map(str::to_owned).collect());
        self
    }

    /// Those whose labels a selector such as `app=web,!canary` selects.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Related {
        self.labels = self.parse(selector);
        self
    }

    fn parse(&mut self, selector: &str) -> Option<LabelSelector> {
        match LabelSelector::parse(selector) {
            Ok(selector) => Some(selector),
            Err(error) => {
                self.mistake = Some(format!("label selector \"{selector}\": {error}"));
                None
            }
        }
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The kinds that it looks at.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let namespaces = self.namespaces.as_ref().map(|_| Kind::of::<Namespace>());
        std::iter::once(self.kind.clone()).chain(namespaces).collect()
    }

    /// The objects that it selects now.
    ///
    /// # Errors
    /// When a kind is not declared, or a selector is none.
    pub(super) fn select(&self, view: &View) -> Result<Vec<Arc<Cached>>> {
        if let Some(mistake) = &self.mistake {
            return Err(Error::Usage(mistake.clone()));
        }
        for kind in self.kinds() {
            view.declared(&kind)?;
        }
        let mut found: Vec<Arc<Cached>> =
            view.declared(&self.kind)?.read(|store| match (&self.namespace, &self.names) {
                (Some(namespace), Some(names)) => {
                    names.iter().filter_map(|name| store.get(&Key::new(namespace, name))).collect()
                }
                (Some(namespace), None) => store.in_namespace(namespace).collect(),
                (None, _) => store.iter().collect(),
            });
        found.retain(|object| self.selects(object, view));
        Ok(found)
    }

    /// Whether it selects an object of its kind.
    fn selects(&self, object: &Cached, view: &View) -> bool {
        let key = object.key();
        let in_namespace = |selector: &LabelSelector| {
            let namespace = key.namespace().map(Key::from);
            let cached = namespace.and_then(|name| view.informer(&Kind::of::<Namespace>())?.get(&name));
            cached.is_some_and(|namespace| fits(selector, &namespace))
        };
        self.namespace.as_deref().is_none_or(|namespace| key.namespace() == Some(namespace))
            && self.names.as_ref().is_none_or(|names| names.iter().any(|name| name == key.name()))
            && self.labels.as_ref().is_none_or(|selector| fits(selector, object))
            && self.namespaces.as_ref().is_none_or(in_namespace)
    }

    /// Whether a change of an object may change what it selects.
    fn concerns(&self, kind: &Kind, object: &Cached, view: &View) -> bool {
        let by_namespace = || self.namespaces.as_ref().is_some_and(|selector| fits(selector, object));
        (self.kind == *kind && self.selects(object, view))
            || (*kind == Kind::of::<Namespace>() && by_namespace())
    }
}

fn fits(selector: &LabelSelector, object: &Cached) -> bool {
    selector.matches_json(Some(object.label_bytes()).filter(|bytes| !bytes.is_empty()))
}

/// The rules of all objects of a controller.
#[derive(Default)]
pub(crate) struct Relations {
    rules: Mutex<HashMap<Key, Vec<Related>>>,
    /// The kinds whose changes are looked at.
    kinds: Mutex<Vec<Kind>>,
}

impl Relations {
    /// Changes of this kind are looked at.
    pub(super) fn follow(&self, kind: Kind) {
        self.kinds.lock().push(kind);
    }

    /// From now on these rules hold for an object. To be said before what they select is read.
    ///
    /// # Errors
    /// When a kind's changes are not looked at: the object would not be either.
    pub(super) fn relate(&self, key: &Key, rules: &[Related]) -> Result {
        for kind in rules.iter().flat_map(Related::kinds) {
            if !self.kinds.lock().contains(&kind) {
                let declaration = format!("`.relates::<{}>()`", kind.kind);
                return Err(Error::Undeclared(Undeclared { declaration, ..Undeclared::read(&kind) }));
            }
        }
        if rules.is_empty() {
            self.forget(key);
        } else {
            self.rules.lock().insert(key.clone(), rules.to_vec());
        }
        Ok(())
    }

    /// Nothing relates to an object any more.
    pub(crate) fn forget(&self, key: &Key) {
        self.rules.lock().remove(key);
    }

    /// The objects whose rules a change of another concerns. Looks at every rule there is.
    pub(crate) fn concerned(&self, kind: &Kind, object: &Cached, view: &View) -> Vec<Key> {
        let relations = self.rules.lock();
        let concerned =
            relations.iter().filter(|(_, rules)| rules.iter().any(|rule| rule.concerns(kind, object, view)));
        concerned.map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};

    use super::*;

    fn object<K: Object>(namespace: &str, name: &str, labels: &str) -> Cached {
        let text =
            format!(r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","labels":{{{labels}}}}}}}"#);
        Cached::read(text.as_bytes(), &Kind::of::<K>()).unwrap()
    }

    fn following() -> Relations {
        let relations = Relations::default();
        [Kind::of::<ConfigMap>(), Kind::of::<Secret>(), Kind::of::<Namespace>()]
            .into_iter()
            .for_each(|kind| relations.follow(kind));
        relations
    }

    #[test]
    fn a_kind_that_is_not_declared_to_relate_is_named() {
        let relations = Relations::default();
        relations.follow(Kind::of::<ConfigMap>());
        let rule = Related::of::<ConfigMap>().in_namespaces("team=shop");
        let error = relations.relate(&"a".into(), &[rule]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("namespaces; declare it on the controller with `.relates::<Namespace>()`"),
            "{error}"
        );
    }

    fn concerned(relations: &Relations, kind: &Kind, object: &Cached) -> Vec<String> {
        let mut keys: Vec<String> =
            relations.concerned(kind, object, &View::default()).iter().map(Key::to_string).collect();
        keys.sort();
        keys
    }

    #[test]
    fn a_change_concerns_those_whose_rules_select_it() {
        let relations = following();
        let maps = Related::of::<ConfigMap>;
        let relate = |name: &str, rules: &[Related]| relations.relate(&name.into(), rules).unwrap();
        relate("by-name", &[maps().in_namespace("global").named(["settings", "more"])]);
        relate("by-label", &[Related::of::<Secret>(), maps().labels("app in (web, db)")]);
        relate("all", &[maps()]);
        let of = |namespace, name, labels| {
            concerned(&relations, &Kind::of::<ConfigMap>(), &object::<ConfigMap>(namespace, name, labels))
        };
        assert_eq!(of("global", "settings", ""), ["all", "by-name"]);
        assert_eq!(of("other", "settings", r#""app":"web""#), ["all", "by-label"]);
        let secret = object::<Secret>("any", "s", "");
        assert_eq!(concerned(&relations, &Kind::of::<Secret>(), &secret), ["by-label"]);
        relate("by-label", &[]);
        assert!(concerned(&relations, &Kind::of::<Secret>(), &secret).is_empty());
    }

    #[test]
    fn a_namespace_concerns_those_who_select_objects_by_it() {
        let relations = following();
        relations.relate(&"a".into(), &[Related::of::<ConfigMap>().in_namespaces("team=shop")]).unwrap();
        let of =
            |labels| concerned(&relations, &Kind::of::<Namespace>(), &object::<Namespace>("", "n", labels));
        assert_eq!(of(r#""team":"shop""#), ["a"]);
        assert!(of(r#""team":"other""#).is_empty());
    }

    #[test]
    fn a_selector_that_is_none_is_told_where_it_is_used() {
        let error = Related::of::<ConfigMap>().labels("a==b==c").select(&View::default()).unwrap_err();
        assert!(error.to_string().starts_with("label selector \"a==b==c\": "), "{error}");
    }
}
