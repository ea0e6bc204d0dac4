//! Finalizers: names on an object that keep it from going until their work is done.

use std::sync::Arc;

use http::Request;
use serde_json::json;

use super::Context;
use crate::kind::{Key, Kind, Object};
use crate::{Error, Result};

impl Context {
    /// Puts a finalizer on an object, unless it is there or the object is being deleted. Conditional on the
    /// object's revision, so that a finalizer added meanwhile by another is not lost. Needs
    /// `.writes::<K>([Verb::Patch])`.
    ///
    /// # Errors
    /// When the API server refuses it; a conflict means that the object changed meanwhile.
    pub async fn add_finalizer<K: Object>(&self, object: &Arc<K>, finalizer: &str) -> Result {
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        if finalizers.iter().any(|known| known == finalizer) || object.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        finalizers.push(finalizer.to_owned());
        self.set_finalizers(object, &finalizers).await
    }

    /// Takes a finalizer off an object; the last one lets a deleted object go.
    ///
    /// # Errors
    /// As [`add_finalizer`](Self::add_finalizer).
    pub async fn remove_finalizer<K: Object>(&self, object: &Arc<K>, finalizer: &str) -> Result {
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        let before = finalizers.len();
        finalizers.retain(|known| known != finalizer);
        if finalizers.len() == before {
            return Ok(());
        }
        self.set_finalizers(object, &finalizers).await
    }

    async fn set_finalizers<K: Object>(&self, object: &Arc<K>, finalizers: &[String]) -> Result {
        let meta = object.meta();
        let patch = json!({"metadata": {
            "finalizers": finalizers, "uid": meta.uid, "resourceVersion": meta.resource_version,
        }});
        let manager =
            percent_encoding::utf8_percent_encode(&self.scoped.manager, percent_encoding::NON_ALPHANUMERIC);
        let path = Kind::of::<K>().object_path(&Key::of(&**object));
        let request = Request::patch(format!("{path}?fieldManager={manager}"))
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .header(http::header::ACCEPT, "application/json")
            .body(serde_json::to_vec(&patch)?)
            .map_err(|error| Error::Api(Box::new(kube::Error::HttpError(error))))?;
        self.scoped.client.request_text(request).await?;
        Ok(())
    }
}
