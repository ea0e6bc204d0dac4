//! What a cluster starts with: the built-in kinds, their policies, and the objects that every cluster has.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::Ipv4Net;
use kubewright_apiserver::authn::TokenRequests;
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_kinds::{Options, admission, bootstrap, initial};
use serde_json::Value;

use crate::config::first;
use crate::descriptions::Documented;
use crate::{ClusterConfig, ClusterError, nodes};

/// Adds the built-in kinds and their policies to a server's configuration.
pub(crate) fn kinds(
    server: &mut ServerConfig,
    config: &ClusterConfig,
    service_range: Ipv4Net,
) -> Result<(), ClusterError> {
    let tokens = server.issuer.as_ref().map(|issuer| Arc::new(TokenRequests(Arc::clone(issuer))) as _);
    let mut options =
        Options { token: tokens, connect: Arc::new(nodes::Simulated), ..Options::new(service_range.into()) };
    if config.controllers {
        options.components.extend(["controller-manager", "scheduler"].map(Into::into));
    }
    server.resources = kubewright_kinds::resources(&options).into_iter().map(Arc::new).collect();
    server.descriptions = Some(Arc::new(Documented));
    server.body_decoders.push(Arc::new(kubewright_kinds::protobuf::Protobuf));
    server.admission = admission::plugins(Vec::new(), &config.enabled_admission, &config.disabled_admission)
        .map_err(ClusterError::Admission)?;
    Ok(())
}

/// Writes the objects that there are before anybody asks, the simulated nodes among them: nobody can be asked yet whether
/// a node may register itself. `authentication` tells aggregated servers whom to believe.
pub(crate) async fn install(
    server: &Server,
    service_range: Ipv4Net,
    endpoint: Option<SocketAddr>,
    authentication: Value,
    nodes: usize,
) -> Result<(), ClusterError> {
    let endpoint = endpoint.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 6443)));
    let mut objects = initial::objects(&service_range.into(), first(service_range).into(), endpoint);
    objects.push(authentication);
    objects.extend((0..nodes).map(nodes::named));
    bootstrap::install(server.core(), objects).await.map_err(|error| ClusterError::Bootstrap(Box::new(error)))
}
