//! What a refused write means: the object is gone and there is nobody to write to, or it is there and nothing was written.

use http::Request;

use super::Context;
use crate::cache::Cached;
use crate::kind::{Key, Kind};
use crate::{Error, Result};

/// Nobody reads more of the object than its identity.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

impl Context {
    /// What a write to an object led to, or `None` when that object is gone. 404 and 409 alone don't say so: a kind
    /// without the subresource answers 404, too, and one that others write to 409. So the API server is asked whether
    /// the object is there, and if it is, or that can't be told, the refusal stands.
    pub(super) async fn unless_gone<T>(
        &self,
        written: Result<T>,
        (kind, key, uid): (&Kind, &Key, Option<&str>),
    ) -> Result<Option<T>> {
        let refused = match written {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        if !refused.status().is_some_and(|status| matches!(status.code, 404 | 409)) {
            return Err(refused);
        }
        let request = Request::get(kind.object_path(key))
            .header(http::header::ACCEPT, METADATA)
            .body(Vec::new())
            .map_err(|error| Error::Api(Box::new(kube::Error::HttpError(error))))?;
        let gone = match self.scoped.client.request_text(request).await.map_err(Error::from) {
            Ok(text) => {
                let there = Cached::read(text.as_bytes(), kind)?;
                uid.is_some_and(|uid| uid != there.uid())
            }
            Err(error) => error.status().is_some_and(|status| status.code == 404),
        };
        if gone { Ok(None) } else { Err(refused) }
    }
}
