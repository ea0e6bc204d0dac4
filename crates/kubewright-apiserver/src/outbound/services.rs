//! Where a service of the cluster leads: to a process of this machine that stands for it, to one of its ready endpoints,
//! or to its cluster address. The one answer for webhooks, conversions and aggregated API servers.
//!
//! Names flow in, a host and a port come out. Nothing is connected to here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kubewright_machinery::field::quote;
use parking_lot::RwLock;
use serde_json::Value;

use crate::server::Core;

/// Services that processes of this machine stand for.
///
/// Where there is no network of pods, as in a development cluster or a test, whoever runs the server says which process
/// answers for a service. The Service object still has to be there, with the port, as everywhere.
#[derive(Debug, Default)]
pub struct LocalServices {
    /// By namespace, name and port of the service.
    processes: RwLock<BTreeMap<(String, String, u16), SocketAddr>>,
}

impl LocalServices {
    /// Leads a port of a service to a process; a later call for the same port replaces it.
    pub fn insert(&self, namespace: &str, name: &str, port: u16, process: SocketAddr) {
        self.processes.write().insert((namespace.into(), name.into(), port), process);
    }

    /// Forgets the processes of a service.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.processes.write().retain(|(of, called, _), _| (&**of, &**called) != (namespace, name));
    }

    /// The process that stands for a port of a service.
    pub fn get(&self, namespace: &str, name: &str, port: u16) -> Option<SocketAddr> {
        self.processes.read().get(&(namespace.to_owned(), name.to_owned(), port)).copied()
    }
}

/// Why a service leads nowhere. The texts are what answers of the API show, and they are those of Kubernetes.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The store cannot be read.
    #[error("{0}")]
    Read(#[from] kubewright_storage::StoreError),
    /// There is no such service.
    #[error("service {} not found", quote(name))]
    NoService {
        /// The service's name.
        name: String,
    },
    /// The service has no such port.
    #[error("no service port {port} found for service {}", quote(name))]
    NoPort {
        /// The service's name.
        name: String,
        /// The port asked for.
        port: u16,
    },
    /// The service has no endpoint that is ready, and no cluster address either.
    #[error("no endpoints available for service {}", quote(name))]
    NoEndpoint {
        /// The service's name.
        name: String,
    },
}

/// Host (a name, or an IP address without brackets) and port.
pub(crate) type Address = (String, u16);

/// Host and port that a port of a service leads to.
///
/// # Errors
/// When the service or its port is not there, or nobody answers for it.
pub async fn resolve(
    core: &Core,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<(String, u16), ServiceError> {
    let first = addresses(core, namespace, name, port).await?.into_iter().next();
    first.ok_or_else(|| ServiceError::NoEndpoint { name: name.into() })
}

/// All that a port of a service leads to, each as good as the other: its endpoints that are ready, else its cluster
/// address. Never empty.
///
/// # Errors
/// As [`resolve`].
pub(crate) async fn addresses(
    core: &Core,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Vec<Address>, ServiceError> {
    let reader = core.reader();
    let service = reader.get("", "services", namespace, name).await?;
    let service = service.ok_or_else(|| ServiceError::NoService { name: name.into() })?;
    let spec = &service["spec"];
    if let Some(process) = core.local_services().get(namespace, name, port) {
        return Ok(vec![(process.ip().to_string(), process.port())]);
    }
    if spec["type"] == "ExternalName" {
        return Ok(vec![(spec["externalName"].as_str().unwrap_or_default().into(), port)]);
    }
    let mut ports = spec["ports"].as_array().into_iter().flatten();
    let found = ports.find(|p| p["port"] == u64::from(port));
    let found = found.ok_or_else(|| ServiceError::NoPort { name: name.into(), port })?;
    let wanted = found["name"].as_str().unwrap_or_default();

    let mut addresses = Vec::new();
    let slices = reader.list("discovery.k8s.io", "endpointslices", namespace).await?;
    for slice in slices.iter().filter(|slice| is_slice_of(slice, name)) {
        let Some(port) = number(slice, wanted) else { continue };
        let ready = items(slice, "endpoints").filter(|endpoint| is_ready(endpoint));
        addresses
            .extend(ready.filter_map(|endpoint| Some((endpoint["addresses"][0].as_str()?.into(), port))));
    }
    if addresses.is_empty() {
        let endpoints = reader.get("", "endpoints", namespace, name).await?;
        for subset in endpoints.iter().flat_map(|e| items(e, "subsets")) {
            let Some(port) = number(subset, wanted) else { continue };
            let ready = items(subset, "addresses").filter_map(|address| address["ip"].as_str());
            addresses.extend(ready.map(|ip| (ip.to_string(), port)));
        }
    }
    if addresses.is_empty() {
        match spec["clusterIP"].as_str() {
            Some(address) if !matches!(address, "" | "None") => addresses.push((address.into(), port)),
            _ => return Err(ServiceError::NoEndpoint { name: name.into() }),
        }
    }
    Ok(addresses)
}

/// Whether an EndpointSlice belongs to the service of that name in its namespace.
pub(crate) fn is_slice_of(slice: &Value, service: &str) -> bool {
    slice.pointer("/metadata/labels/kubernetes.io~1service-name").and_then(Value::as_str) == Some(service)
}

/// Whether an endpoint of an EndpointSlice takes requests.
pub(crate) fn is_ready(endpoint: &Value) -> bool {
    endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true)
}

/// An address as URLs and messages write it.
pub(crate) fn authority((host, port): &Address) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn items<'a>(of: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    of[field].as_array().into_iter().flatten()
}

/// The number of the port with this name.
fn number(of: &Value, name: &str) -> Option<u16> {
    let port = items(of, "ports").find(|p| p["name"].as_str().unwrap_or_default() == name)?;
    port["port"].as_u64().and_then(|port| u16::try_from(port).ok())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubewright_storage::{Expect, MemoryStore, Store};
    use serde_json::json;

    use super::*;
    use crate::resources::splice;
    use crate::server::ServerConfig;

    /// A core whose store holds these objects, by key.
    async fn core(objects: &[(&str, Value)]) -> Core {
        let store = MemoryStore::default();
        for (key, object) in objects {
            store.put(key, splice::at_rest(object), Expect::Absent).await.expect("a key of its own");
        }
        Core::new(ServerConfig::new(Arc::new(store)))
    }

    fn service(spec: Value) -> Value {
        json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s", "namespace": "n"}, "spec": spec})
    }

    async fn found(core: &Core, port: u16) -> String {
        match resolve(core, "n", "s", port).await {
            Ok((host, port)) => format!("{host} {port}"),
            Err(error) => error.to_string(),
        }
    }

    const SERVICE: &str = "/registry/core/services/n/s";

    #[tokio::test]
    async fn a_service_leads_to_an_endpoint_that_is_ready_else_to_its_address() {
        let ports = json!([{"name": "web", "port": 443, "targetPort": 8443}]);
        let mut objects = vec![(SERVICE, service(json!({"ports": ports, "clusterIP": "10.0.0.9"})))];
        assert_eq!(found(&core(&objects).await, 443).await, "10.0.0.9 443");
        assert_eq!(found(&core(&objects).await, 80).await, "no service port 80 found for service \"s\"");
        let slice = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
            "ports": [{"name": "web", "port": 8443}], "endpoints": [
                {"addresses": ["10.1.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.1.0.2"]}]});
        objects.push(("/registry/discovery.k8s.io/endpointslices/n/s-1", slice));
        assert_eq!(found(&core(&objects).await, 443).await, "10.1.0.2 8443");
    }

    #[tokio::test]
    async fn a_process_of_this_machine_may_stand_for_a_service_that_is_there() {
        let process = SocketAddr::from(([127, 0, 0, 1], 9443));
        let empty = core(&[]).await;
        empty.local_services().insert("n", "s", 443, process);
        assert_eq!(found(&empty, 443).await, "service \"s\" not found");
        let core = core(&[(SERVICE, service(json!({"ports": [{"port": 443}], "clusterIP": "None"})))]).await;
        assert_eq!(found(&core, 443).await, "no endpoints available for service \"s\"");
        core.local_services().insert("n", "s", 443, process);
        assert_eq!(found(&core, 443).await, "127.0.0.1 9443");
        core.local_services().remove("n", "s");
        assert_eq!(found(&core, 443).await, "no endpoints available for service \"s\"");
    }
}
