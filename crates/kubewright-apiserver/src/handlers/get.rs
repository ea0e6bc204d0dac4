//! GET of one object: a lookup and a copy.

use kubewright_machinery::status::Status;

use super::{Call, parse_revision, store_failure, wait_for};
use crate::request::negotiate::Endpoint;
use crate::request::{Encoding, Output, Transform};
use crate::server::{Response, respond};

/// Answers with the object as it is now, at least as new as the resourceVersion asked for.
pub(super) async fn get(call: &Call) -> Result<Response, Status> {
    let output = call.output(Endpoint::Object)?;
    if call.info.query.flag("export") {
        return Err(Status::bad_request(
            "the export parameter, deprecated since v1.14, is no longer supported",
        ));
    }
    if let Some(version) = call.info.query.get("resourceVersion") {
        let revision = parse_revision(version).map_err(|message| Status::failure(500, "", message))?;
        if revision > 0 {
            wait_for(call.store(), revision).await?;
        }
    }
    let key = call.key(call.namespace(), &call.info.name)?;
    let entry = call.store().get(&key, None).await.map_err(|e| store_failure(&e))?;
    let entry = entry.ok_or_else(|| call.not_found(&call.info.name))?;
    if is_plain(output) && call.is_served_form(&entry.value, entry.revision) {
        return Ok(respond::with(200, respond::JSON, call.head.served(&entry.value, entry.revision)));
    }
    let object = call.decode_one(&entry.value, entry.revision).await?;
    call.answer(200, output, object)
}

/// Whether bytes at rest can be the answer.
pub(super) fn is_plain(output: Output) -> bool {
    output.encoding == Encoding::Json && output.transform == Transform::None && !output.pretty
}
