//! Connections to nodes, pods and services: what they ask for, as the objects that admission judges (PodExecOptions and
//! its like, read from the query), and whether they can be had.
//!
//! Nothing is connected here: [`Admitted`] stands before whoever does that, and [`NoConnection`] where nobody does.

use std::sync::Arc;

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::request::Query;
use kubewright_apiserver::resources::{Connect, RequestBody, WriteContext};
use kubewright_apiserver::server::ServerBody;
use kubewright_machinery::status::Status;
use serde_json::{Map, Value};

use crate::fields::text;

/// Says what connections ask for, and leaves them to another.
pub(crate) struct Admitted(pub(crate) Arc<dyn Connect>);

impl Connect for Admitted {
    fn options(&self, cx: &WriteContext<'_>, path: &str, query: &Query) -> Option<Value> {
        asked(&cx.subresource?.kind, path, query)
    }

    fn connect<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        path: &'a str,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'a, Result<http::Response<ServerBody>, Status>> {
        self.0.connect(cx, path, request)
    }
}

/// Connections where no node serves them: answers what a real server says of a node that cannot be reached.
pub struct NoConnection;

impl Connect for NoConnection {
    fn connect<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        _path: &'a str,
        _request: http::Request<RequestBody>,
    ) -> BoxFuture<'a, Result<http::Response<ServerBody>, Status>> {
        Box::pin(async move {
            connectable(cx).await?;
            Err(Status::failure(
                503,
                "ServiceUnavailable",
                "nothing serves connections to nodes, pods and services here",
            ))
        })
    }
}

/// Whether what a connection is for can have one: it is there, and a pod is on a node.
///
/// # Errors
/// The answer where it can't.
pub async fn connectable(cx: &WriteContext<'_>) -> Result<(), Status> {
    let (group, plural) = (&*cx.resource.group, &*cx.resource.plural);
    let object = cx.core.reader().get(group, plural, cx.namespace, cx.name).await;
    let object = object.map_err(Status::internal)?;
    let object = object.ok_or_else(|| Status::not_found(group, plural, cx.name))?;
    if plural == "pods" && text(&object, &["spec", "nodeName"]).is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", cx.name)));
    }
    Ok(())
}

/// How a parameter is read.
enum Parameter {
    /// True unless it is `false` or `0`, and as said here when absent.
    Flag(bool),
    /// One value.
    Text,
    /// All values.
    Texts,
    /// All values, as numbers.
    Numbers,
}

/// The parameters of a kind of options; none for kinds that are no options.
fn parameters(kind: &str) -> Option<&'static [(&'static str, Parameter)]> {
    use Parameter::{Flag, Numbers, Text, Texts};
    match kind {
        "PodExecOptions" => Some(&[
            ("stdin", Flag(false)),
            ("stdout", Flag(true)),
            ("stderr", Flag(true)),
            ("tty", Flag(false)),
            ("container", Text),
            ("command", Texts),
        ]),
        "PodAttachOptions" => Some(&[
            ("stdin", Flag(false)),
            ("stdout", Flag(true)),
            ("stderr", Flag(true)),
            ("tty", Flag(false)),
            ("container", Text),
        ]),
        "PodPortForwardOptions" => Some(&[("ports", Numbers)]),
        "PodProxyOptions" | "NodeProxyOptions" | "ServiceProxyOptions" => Some(&[]),
        _ => None,
    }
}

/// The object that a query, and the path behind the subresource, make. Empty values are left out.
fn asked(kind: &str, path: &str, query: &Query) -> Option<Value> {
    let mut object = Map::new();
    object.insert("kind".into(), kind.into());
    object.insert("apiVersion".into(), "v1".into());
    for (name, parameter) in parameters(kind)? {
        let value = match parameter {
            Parameter::Flag(absent) => {
                let on = query.get(name).map_or(*absent, |v| !v.eq_ignore_ascii_case("false") && v != "0");
                on.then_some(Value::Bool(true))
            }
            Parameter::Text => query.get(name).filter(|v| !v.is_empty()).map(Value::from),
            Parameter::Texts => list(query.all(name).map(Value::from)),
            Parameter::Numbers => {
                let values = query.all(name).flat_map(|v| v.split(','));
                list(values.filter_map(|n| Some(n.trim().parse::<i32>().ok()?.into())))
            }
        };
        object.extend(value.map(|value| ((*name).to_string(), value)));
    }
    if kind.ends_with("ProxyOptions") && !path.is_empty() {
        object.insert("path".into(), path.into());
    }
    Some(Value::Object(object))
}

fn list(values: impl Iterator<Item = Value>) -> Option<Value> {
    let values: Vec<Value> = values.collect();
    (!values.is_empty()).then_some(Value::Array(values))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_exec_is_an_object_of_its_query() {
        let query = Query::parse("command=sh&command=-c&stdin=&stderr=false&container=c&unknown=x");
        assert_eq!(
            asked("PodExecOptions", "", &query).unwrap(),
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "stdout": true, "container": "c",
                "command": ["sh", "-c"]})
        );
        let query = Query::parse("ports=80,81&ports=x");
        assert_eq!(asked("PodPortForwardOptions", "", &query).unwrap()["ports"], json!([80, 81]));
        assert_eq!(asked("ServiceProxyOptions", "a/b", &Query::parse("")).unwrap()["path"], "a/b");
    }

    #[test]
    fn reading_a_log_is_no_connection() {
        assert_eq!(asked("Pod", "", &Query::parse("follow=true")), None);
    }
}
