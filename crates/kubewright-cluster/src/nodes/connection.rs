//! What a simulated node answers to `kubectl logs`, `exec`, `attach`, `port-forward` and proxies: that nothing really
//! runs. It never takes over a connection.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::resources::{Connect, RequestBody, WriteContext};
use kubewright_apiserver::server::ServerBody;
use kubewright_kinds::connectable;
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
            connectable(cx).await?;
            let what = cx.subresource.map_or("connect", |subresource| &subresource.name);
            Err(Status::bad_request(format!(
                "{} {:?} is simulated: nothing really runs there, so that it has no {what}",
                cx.resource.singular, cx.name
            )))
        })
    }
}
