//! WATCH: the state first where that was asked for, then every change, each as one JSON line.
//!
//! Here a request becomes a stream: [`view`] says what its watcher sees of a change, [`events`] when it is told.

mod events;
mod view;

use std::sync::Arc;
use std::time::Duration;

use kubewright_machinery::selector::FieldSelector;
use kubewright_machinery::status::Status;
use tokio::time::Instant;

use self::events::{Events, Start};
use self::view::View;
use super::list::{self, Refused};
use super::select::Selection;
use super::{Call, parse_revision, store_failure, wait_for};
use crate::request::negotiate::{self, Encoding, Endpoint};
use crate::request::params::VersionMatch;
use crate::request::{ListOptions, Transform};
use crate::server::{Response, ServerBody, Standing, respond};

/// Answers with the stream of events.
pub(super) async fn watch(call: &Call) -> Result<Response, Status> {
    let mut output = call.output(Endpoint::List)?;
    if let Transform::PartialList { .. } = output.transform {
        return Err(Status::not_acceptable(&negotiate::SUPPORTED));
    }
    output.pretty = false;
    let mut options = ListOptions::parse(&call.info.query, true)?;
    if call.info.has_name_in_path() {
        options.fields = named(&options, &call.info.name)?;
    }
    let selection = Selection::new(&call.resource, &options)?;
    let asked = parse_revision(&options.resource_version).map_err(|why| Status::failure(500, "", why))?;
    let table_form = match output.transform {
        Transform::Table { beta } => Some(call.table_form(beta)?),
        _ => None,
    };
    if output.encoding == Encoding::Yaml {
        // There are no frames in it.
        return Err(Status::not_acceptable(&negotiate::STREAMS));
    }

    let timeout = match options.timeout_seconds.and_then(|s| u64::try_from(s).ok()) {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => {
            let fraction = f64::from(u32::from_le_bytes(call.core.random())) / f64::from(u32::MAX);
            call.core.config().min_watch_timeout.mul_f64(1.0 + fraction)
        }
    };
    let deadline = Instant::now() + timeout;
    let mut publications = call.core.publications();
    publications.mark_unchanged();

    let prefix = prefix(call, &selection)?;
    let view = View { call: call.detached(), selection, output, table_form };
    let body = match start(&view, &prefix, &options, asked).await {
        Ok(start) => ServerBody::stream(Events::new(view, start, publications, options.bookmarks, deadline)),
        // A watch that cannot begin says so as any other: with an event.
        Err(status) => ServerBody::stream(futures::stream::iter([Ok(view.error(&status))])),
    };
    let mut response = respond::with(200, respond::JSON, body);
    response.extensions_mut().insert(Standing);
    Ok(response)
}

/// The field selector of a watch whose path names an object.
fn named(options: &ListOptions, name: &str) -> Result<FieldSelector, Status> {
    if options.fields.is_empty() {
        return Ok(FieldSelector::equal("metadata.name", name));
    }
    if options.fields.exact_value("metadata.name") != Some(name) {
        return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
    }
    Ok(options.fields.clone())
}

/// Finds the initial events and where to go on after them.
async fn start(view: &View, prefix: &str, options: &ListOptions, asked: u64) -> Result<Start, Status> {
    let call = &view.call;
    let store = Arc::clone(call.store());
    let (initial, after) = match options.send_initial_events {
        Some(true) => {
            if asked > 0 {
                wait_for(&store, asked).await?;
            }
            let everything = options.without_version();
            let listed = match list::find(call, &everything, &view.selection).await {
                Ok(listed) => listed,
                Err(Refused::Status(status)) => return Err(status),
                Err(Refused::Expired(_)) => {
                    return Err(Status::internal("a list without a token expired"));
                }
            };
            (listed.entries, listed.revision)
        }
        _ if asked > 0 => {
            // What was before the schema that is served now cannot be followed.
            let settled = call.storage()?.settled;
            if call.resource.custom && asked < settled {
                return Err(Status::expired(format!("too old resource version: {asked} ({settled})")));
            }
            (Vec::new(), asked)
        }
        _ => (Vec::new(), store.revision().await.map_err(|e| store_failure(&e))?),
    };
    debug_assert!(options.version_match != Some(VersionMatch::Exact), "refused when options were read");
    let owed = options.send_initial_events == Some(true) && options.wants_initial_bookmark;
    let watch = store.watch(prefix, after).map_err(|error| events::failure(&error, after))?;
    Ok(Start { initial: initial.into(), bookmark: owed.then_some(after), watch, after })
}

/// What the keys of all objects begin with that the watcher may see.
fn prefix(call: &Call, selection: &Selection) -> Result<String, Status> {
    let mut prefix = call.storage()?.prefix.to_string();
    let namespace = match call.namespace() {
        "" if call.resource.namespaced => selection.single_namespace().unwrap_or_default(),
        namespace => namespace,
    };
    if !namespace.is_empty() {
        prefix.push_str(namespace);
        prefix.push('/');
    }
    Ok(prefix)
}
