//! A project that is an aggregated API server: its manifests have APIServices. The cluster has no network of pods, so the
//! service that these name is led to the process; that process puts its authority into the APIServices by itself.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use kubewright_cluster::Cluster;
use serde_json::Value;

/// How often it is looked whether the server is available, and the pause between two looks.
const PATIENCE: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Where the process serves, and who asks it.
pub struct Backend {
    address: SocketAddr,
    /// Namespace, name and port of the services that stand for it.
    services: BTreeSet<(String, String, u16)>,
    /// Names of the APIServices.
    names: Vec<String>,
}

impl Backend {
    /// The server that manifests describe, on a free port; `None` where they describe none.
    pub fn of(manifests: &[Value]) -> anyhow::Result<Option<Self>> {
        let remote =
            |object: &&Value| object["kind"] == "APIService" && object["spec"]["service"].is_object();
        let mut services = BTreeSet::new();
        let mut names = Vec::new();
        for object in manifests.iter().filter(remote) {
            let service = &object["spec"]["service"];
            let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
            let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
            services.insert((text("namespace"), text("name"), port));
            names.push(object["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        }
        if names.is_empty() {
            return Ok(None);
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.context("there is no free port")?;
        Ok(Some(Self { address, services, names }))
    }

    /// Leads the services to the process.
    pub fn route(&self, cluster: &Cluster) {
        for (namespace, name, port) in &self.services {
            cluster.route_service(namespace, name, *port, self.address);
        }
    }

    /// What `run` is to be told.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--bind".to_owned(), self.address.to_string()];
        if let Some((namespace, _, _)) = self.services.first() {
            arguments.extend(["--namespace".to_owned(), namespace.clone()]);
        }
        arguments
    }

    /// Waits until the cluster passes requests on to the process.
    pub async fn available(&self, client: &Client) -> anyhow::Result<()> {
        let kind = GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService");
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
        for name in &self.names {
            let mut left = PATIENCE;
            loop {
                let conditions = api.get(name).await?.data["status"]["conditions"].clone();
                let available =
                    conditions.as_array().into_iter().flatten().find(|c| c["type"] == "Available");
                if available.is_some_and(|condition| condition["status"] == "True") {
                    break;
                }
                left -= 1;
                if left == 0 {
                    let why = available.map(|c| c["message"].to_string()).unwrap_or_default();
                    bail!("APIService {name} is not available: {why}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_project_with_apiservices_is_told_where_to_serve() {
        let service = |name: &str| {
            json!({"kind": "APIService", "metadata": {"name": name},
                "spec": {"service": {"namespace": "n", "name": "s", "port": 443}}})
        };
        let backend = Backend::of(&[service("v1.a"), service("v2.a")]).unwrap().unwrap();
        assert_eq!(backend.services.len(), 1);
        assert_eq!(backend.arguments()[2..], ["--namespace", "n"]);
        let local = json!({"kind": "APIService", "metadata": {"name": "v1.b"}, "spec": {}});
        assert!(Backend::of(&[local]).unwrap().is_none());
    }
}
