//! DELETE on a collection: what the list finds, deleted one by one.

use kubewright_machinery::status::Status;

use super::list::{self, Refused};
use super::select::Selection;
use super::{Call, delete};
use crate::request::ListOptions;
use crate::request::negotiate::Endpoint;
use crate::resources::RequestBody;
use crate::server::Response;

/// Answers with the list of what was deleted, as it was.
pub(super) async fn delete_collection(call: &Call, body: RequestBody) -> Result<Response, Status> {
    let output = call.output(Endpoint::List)?;
    let list_options = ListOptions::parse(&call.info.query, false)?;
    let selection = Selection::new(&call.resource, &list_options)?;
    let options = delete::options(call, body).await?;
    let listed = match list::find(call, &list_options, &selection).await {
        Ok(listed) => listed,
        Err(Refused::Status(status)) => return Err(status),
        Err(Refused::Expired(_)) => {
            return Err(Status::expired(
                "The provided continue parameter is too old to display a consistent list result.",
            ));
        }
    };
    let stored: Vec<_> = listed.entries.iter().map(|e| (&e.value, e.revision)).collect();
    let objects = call.decode(&stored).await?;
    for entry in &listed.entries {
        let (_, name) = call.split_key(&entry.key);
        match delete::delete_one(call, name, &options).await {
            // Somebody else deleted it: as well.
            Err(status) if status.code == 404 => {}
            done => drop(done?),
        }
    }
    list::answer(call, output, &listed, objects)
}
