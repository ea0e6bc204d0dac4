//! A generic Kubernetes API server: HTTP in, a [`kubewright_storage::Store`] out.
//!
//! It knows no built-in kind: which resources it serves is data ([`resources::Resource`]) that is handed in with
//! [`server::ServerConfig`] or published while it runs (custom resources, aggregated APIs). What flows through it is
//! bytes: reads, lists and watch events copy objects at rest; only writes look inside.
//!
//! - [`server`]: the chain of a request, listeners, the in-process transport.
//! - [`request`]: what a request asks for, read once.
//! - [`resources`]: what is served, and the seams that kinds implement.
//! - `handlers`: the verbs.
//! - [`crds`]: definitions of custom resources, and serving these.
//! - [`aggregation`](mod@aggregation): the group versions that are served, as objects, and those of other servers.
//! - [`aggregated`]: the other side: writing a server of your own kinds.
//! - [`outbound`]: calls to webhooks.
//! - [`authn`], [`authz`], [`admission`]: who, whether, and what else must hold.
//! - [`audit`]: what is written down about it.

pub mod admission;
pub mod aggregated;
pub mod aggregation;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod crds;
pub mod discovery;
mod handlers;
pub mod openapi;
pub mod outbound;
pub mod request;
pub mod resources;
pub mod reviews;
pub mod server;
pub mod tables;

use std::future::Future;
use std::pin::Pin;

/// A boxed future, so that the seams stay object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A future that is ready: what a default method of a seam gives back.
pub fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}
