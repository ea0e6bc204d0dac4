//! Finalizers: names on an object that keep it from going until their work is done.

use std::sync::Arc;

use serde_json::json;

use super::Context;
use crate::Result;
use crate::kind::{Key, Kind, Object};

/// Whether an object has a finalizer.
pub(crate) fn has_finalizer<K: Object>(object: &K, finalizer: &str) -> bool {
    object.meta().finalizers.iter().flatten().any(|known| known == finalizer)
}

impl Context {
    /// Puts a finalizer on an object, unless it is there or the object is being deleted. Conditional on the
    /// object's revision, so that a finalizer added meanwhile by another is not lost. Needs
    /// `.writes::<K>([Verb::Patch])`.
    ///
    /// # Errors
    /// When the API server refuses it; a conflict means that the object changed meanwhile.
    pub async fn add_finalizer<K: Object>(&self, object: &Arc<K>, finalizer: &str) -> Result {
        if has_finalizer(&**object, finalizer) || object.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        finalizers.push(finalizer.to_owned());
        self.set_finalizers(object, &finalizers).await
    }

    /// Takes a finalizer off an object; the last one lets a deleted object go.
    ///
    /// # Errors
    /// As [`add_finalizer`](Self::add_finalizer).
    pub async fn remove_finalizer<K: Object>(&self, object: &Arc<K>, finalizer: &str) -> Result {
        if !has_finalizer(&**object, finalizer) {
            return Ok(());
        }
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        finalizers.retain(|known| known != finalizer);
        self.set_finalizers(object, &finalizers).await
    }

    async fn set_finalizers<K: Object>(&self, object: &Arc<K>, finalizers: &[String]) -> Result {
        let meta = object.meta();
        let patch = json!({"metadata": {
            "finalizers": finalizers, "uid": meta.uid, "resourceVersion": meta.resource_version,
        }});
        let (kind, key) = (Kind::of::<K>(), Key::of(&**object));
        self.merge_patch(&self.scoped.manager, &kind, &key, &patch).await
    }
}
