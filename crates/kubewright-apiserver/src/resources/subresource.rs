//! Subresources: their verbs, their own kind, and what they do.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use kubewright_machinery::schema::SchemaRef;
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::{Strategy, Verb, Verbs, WriteContext};
use crate::BoxFuture;
use crate::request::Query;
use crate::server::ServerBody;

/// One subresource.
#[derive(Clone)]
pub struct Subresource {
    /// Path segment, such as `status`.
    pub name: Box<str>,
    /// Group of the object it takes and gives; the parent's, or another (`autoscaling` for Scale).
    pub group: Box<str>,
    /// Version of that object.
    pub version: Box<str>,
    /// Kind of that object.
    pub kind: Box<str>,
    /// The type of that object where it is not the parent's; looked up in the table when absent.
    pub schema: Option<SchemaRef>,
    /// What can be done with it. The verbs of a `Connect` are get and create, as discovery names them.
    pub verbs: Verbs,
    /// What it does.
    pub action: SubresourceAction,
}

impl Subresource {
    /// `/status` of a kind, under a strategy of its own.
    pub fn status(group: &str, version: &str, kind: &str, strategy: Arc<dyn Strategy>) -> Self {
        Self {
            name: "status".into(),
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            schema: None,
            verbs: Verbs::of(&[Verb::Get, Verb::Patch, Verb::Update]),
            action: SubresourceAction::Update(strategy),
        }
    }
}

/// What a subresource does.
#[derive(Clone)]
pub enum SubresourceAction {
    /// Reads and writes the parent itself under its own strategy: status, finalize, approval, resize, …
    Update(Arc<dyn Strategy>),
    /// Shows the parent as `autoscaling/v1` Scale.
    Scale(ScaleFacts),
    /// Answers POST: binding, eviction, token, …
    Action(Arc<dyn Action>),
    /// Takes over the connection: log, exec, proxy, …
    Connect(Arc<dyn Connect>),
}

/// Where a kind keeps what Scale shows. Paths are JSON paths of field names, such as `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleFacts {
    /// Desired replicas.
    pub spec_replicas: Box<str>,
    /// Observed replicas.
    pub status_replicas: Box<str>,
    /// The label selector: a string, or a LabelSelector object; empty when there is none.
    pub selector: Box<str>,
}

/// What an action answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// The object.
    pub body: Value,
}

/// A subresource that does something. `cx.name` is the parent's name.
pub trait Action: Send + Sync {
    /// Whether the body may carry any name: the action says itself what is wrong with one that is not the parent's.
    fn takes_any_name(&self) -> bool {
        false
    }

    /// Does it. `body` is the decoded object, of the subresource's kind.
    fn run<'a>(&'a self, cx: &'a WriteContext<'a>, body: Value) -> BoxFuture<'a, Result<Answer, Status>>;
}

/// The body of a request that a handler reads itself.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A subresource that takes over the connection.
pub trait Connect: Send + Sync {
    /// What a request asks for as an object of the subresource's kind, such as PodExecOptions: what admission sees.
    /// `None` where nothing is asked to be admitted, such as a plain read.
    fn options(&self, cx: &WriteContext<'_>, path: &str, query: &Query) -> Option<Value> {
        let _ = (cx, path, query);
        None
    }

    /// Answers. `path` is what follows the subresource's name in the URL.
    fn connect<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        path: &'a str,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'a, Result<http::Response<ServerBody>, Status>>;
}
