//! What a simulated node answers to `kubectl logs`, `exec`, `attach`, `port-forward` and proxies: that nothing really
//! runs. It never takes over a connection.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::resources::{Connect, RequestBody, WriteContext};
use kubewright_apiserver::server::ServerBody;
use kubewright_machinery::status::Status;

/// Refuses connections with a reason that a human can do something with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Simulated;

impl Connect for Simulated {
    fn connect<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        _path: &'a str,
        _request: http::Request<RequestBody>,
    ) -> BoxFuture<'a, Result<http::Response<ServerBody>, Status>> {
        Box::pin(async move {
            let (group, plural) = (&*cx.resource.group, &*cx.resource.plural);
            let object =
                cx.core.reader().get(group, plural, cx.namespace, cx.name).await.map_err(Status::internal)?;
            let object = object.ok_or_else(|| Status::not_found(group, plural, cx.name))?;
            if plural == "pods" && object["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
                return Err(Status::bad_request(format!("pod {} does not have a host assigned", cx.name)));
            }
            let what = cx.subresource.map_or("connect", |subresource| &subresource.name);
            Err(Status::bad_request(format!(
                "{} {:?} is simulated: nothing really runs there, so that it has no {what}",
                cx.resource.singular, cx.name
            )))
        })
    }
}
