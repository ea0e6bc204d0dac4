//! The requests that write an object: apply, merge patch and deletion, with what all of them say of their writer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, request};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde_json::{Value, json};

use super::Context;
use super::drift::Target;
use crate::cache::Cached;
use crate::kind::{Key, Kind, Object};
use crate::{Error, Result};

impl Context {
    /// Server-side apply of a whole object or its status; the object as the server keeps it.
    pub(super) async fn apply_value(&self, manager: &str, target: &Target, wish: &Value) -> Result<Cached> {
        let path = target.kind.object_path(&target.key);
        let subresource = if target.status { "/status" } else { "" };
        let uri = format!("{path}{subresource}?fieldManager={}&force=true", encoded(manager));
        let text = self.send(Request::patch(uri), "application/apply-patch+yaml", wish).await?;
        Ok(Cached::read(&Bytes::from(text), &target.kind)?)
    }

    /// A merge patch of an object as a field manager.
    pub(super) async fn merge_patch(&self, manager: &str, kind: &Kind, key: &Key, patch: &Value) -> Result {
        let uri = format!("{}?fieldManager={}", kind.object_path(key), encoded(manager));
        self.send(Request::patch(uri), "application/merge-patch+json", patch).await?;
        Ok(())
    }

    /// Deletes exactly the object that was seen: one recreated under its name stays.
    pub(super) async fn delete_cached(&self, kind: &Kind, object: &Cached) -> Result {
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
            "preconditions": {"uid": object.uid()},
        });
        let request = Request::delete(kind.object_path(object.key()));
        match self.send(request, "application/json", &options).await {
            // Gone already, or another object of that name by now.
            Err(error) if !error.status().is_some_and(|status| matches!(status.code, 404 | 409)) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    async fn send(&self, request: request::Builder, content_type: &str, body: &Value) -> Result<String> {
        Ok(self.scoped.client.request_text(json_request(request, content_type, body)?).await?)
    }

    /// Applies one object that has no owner (server-side, with force), or makes it; the object as the server
    /// keeps it. For what outlives the reconciled object; children go through
    /// [`apply_children`](Self::apply_children).
    ///
    /// # Errors
    /// When the write is not declared or refused.
    pub async fn apply<K: Object>(&self, object: &K) -> Result<Arc<K>> {
        let kind = Kind::of::<K>();
        let mut wish = serde_json::to_value(object)?;
        complete(&mut wish, &kind);
        let target = Target { kind, key: Key::of(object), status: false };
        Ok(Arc::new(self.apply_value(&self.scoped.manager, &target, &wish).await?.decode()?))
    }
}

/// A request with a body of JSON, of this flavour.
pub(super) fn json_request(
    request: request::Builder,
    content_type: &str,
    body: &Value,
) -> Result<Request<Vec<u8>>> {
    let request = request
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, "application/json")
        .body(serde_json::to_vec(body)?);
    request.map_err(|error| Error::Api(Box::new(kube::Error::HttpError(error))))
}

fn encoded(manager: &str) -> PercentEncode<'_> {
    utf8_percent_encode(manager, NON_ALPHANUMERIC)
}

/// Puts in what an apply needs and takes out what it must not have.
pub(super) fn complete(object: &mut Value, kind: &Kind) {
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        fields.retain(|_, value| !value.is_null());
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for server_owned in
            ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"]
        {
            metadata.remove(server_owned);
        }
    }
}
