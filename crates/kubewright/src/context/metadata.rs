//! Labels and annotations on an object that is somebody else's: those of one writer, applied under its own name so that
//! what it no longer wants goes, and everybody else's stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Context;
use super::drift::Target;
use crate::Result;
use crate::cache::Cached;
use crate::kind::{Key, Kind, Object};

/// What a writer wants of an object's labels and annotations; `None` wants a name gone, whoever set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) labels: BTreeMap<String, Option<String>>,
    pub(crate) annotations: BTreeMap<String, Option<String>>,
}

impl Marks {
    /// What is to be applied to an object; without anything to set it takes back what was set.
    fn wish(&self, kind: &Kind, key: &Key, uid: Option<&str>) -> Value {
        let set = |names: &BTreeMap<String, Option<String>>| -> Map<String, Value> {
            let values =
                names.iter().filter_map(|(name, value)| Some((name.clone(), json!(value.as_ref()?))));
            values.collect()
        };
        let mut metadata = json!({"name": key.name(), "uid": uid});
        if let Some(namespace) = key.namespace() {
            metadata["namespace"] = json!(namespace);
        }
        for (field, names) in [("labels", set(&self.labels)), ("annotations", set(&self.annotations))] {
            if !names.is_empty() {
                metadata[field] = names.into();
            }
        }
        json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata})
    }

    fn sets_nothing(&self) -> bool {
        self.labels.values().chain(self.annotations.values()).all(Option::is_none)
    }

    /// A merge patch that takes away what is to be gone and is there.
    fn removal(&self, object: &Cached) -> Option<Value> {
        let gone = |names: &BTreeMap<String, Option<String>>, there: BTreeMap<String, String>| {
            let gone = names.iter().filter(|(name, value)| value.is_none() && there.contains_key(*name));
            gone.map(|(name, _)| (name.clone(), Value::Null)).collect::<Map<String, Value>>()
        };
        let mut metadata = Map::new();
        for (field, names) in [
            ("labels", gone(&self.labels, object.labels())),
            ("annotations", gone(&self.annotations, object.annotations())),
        ] {
            if !names.is_empty() {
                metadata.insert(field.into(), names.into());
            }
        }
        if metadata.is_empty() {
            return None;
        }
        metadata.insert("uid".into(), json!(object.uid()));
        Some(json!({"metadata": metadata}))
    }
}

impl Context {
    /// Sets and takes away labels and annotations of an object as a field manager; whether anything was written. Sends
    /// nothing where the cache shows that nothing would change. A manager that wants nothing is not heard of, unless it
    /// wanted something before or `takes_back`. That the object is gone is no error; a refusal is one.
    pub(crate) async fn mark<K: Object>(
        &self,
        manager: &str,
        object: &Arc<K>,
        marks: &Marks,
        takes_back: bool,
    ) -> Result<bool> {
        let (kind, key) = (Kind::of::<K>(), Key::of(&**object));
        let uid = object.meta().uid.as_deref();
        let Some(cached) = self.scoped.view.declared(&kind)?.get(&key) else { return Ok(false) };
        if Some(cached.uid()) != uid {
            return Ok(false);
        }
        let mut written = false;
        let target = Target { kind, key: key.clone(), status: false };
        let wish = marks.wish(&target.kind, &key, uid);
        let memory = &self.scoped.memory;
        let concerned = takes_back || !marks.sets_nothing() || memory.knows(&key, &target);
        if concerned && !memory.is_applied(&key, &target, &wish, &cached) {
            let applied = self.apply_value(manager, &target, &wish).await;
            match self.unless_gone(applied, (&target.kind, &key, uid)).await? {
                Some(result) => {
                    written = result.resource_version() != cached.resource_version();
                    memory.applied(&key, target.clone(), &wish, &result);
                }
                None => return Ok(false),
            }
        }
        if let Some(patch) = marks.removal(&cached) {
            let patched = self.merge_patch(manager, &target.kind, &key, &patch).await;
            written |= self.unless_gone(patched, (&target.kind, &key, uid)).await?.is_some();
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn marks(labels: &[(&str, Option<&str>)]) -> Marks {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
        Marks { labels: labels.collect(), ..Marks::default() }
    }

    #[test]
    fn what_is_set_is_applied_to_this_very_object() {
        let wish =
            marks(&[("a", Some("1")), ("b", None)]).wish(&Kind::of::<Pod>(), &Key::new("n", "p"), Some("u"));
        assert_eq!(
            wish,
            json!({"apiVersion": "v1", "kind": "Pod",
                   "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "1"}}})
        );
        assert!(marks(&[("b", None)]).sets_nothing());
    }

    #[test]
    fn what_is_to_be_gone_is_taken_away_if_it_is_there() {
        let object = br#"{"metadata":{"name":"p","uid":"u","labels":{"a":"1","b":"2"}}}"#;
        let object = Cached::read(object, &Kind::of::<Pod>()).unwrap();
        assert_eq!(
            marks(&[("b", None), ("c", None), ("a", Some("3"))]).removal(&object),
            Some(json!({"metadata": {"uid": "u", "labels": {"b": null}}}))
        );
        assert_eq!(marks(&[("c", None)]).removal(&object), None);
    }
}
