//! ImageAllowList: pods may only use images of allowed registries. The lists are custom resources; what any of them
//! allows is allowed, and while there is none nothing is restricted.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::{CustomResource, ResourceExt};
use kubewright::webhook::{Admission, Cause, Validator, Verdict, Webhook};
use kubewright::{Operator, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Registries, or repositories in them, whose images pods may use.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug)]
#[kube(group = "images.example.com", version = "v1", kind = "ImageAllowList", shortname = "ial")]
#[kube(printcolumn(name = "Registries", type_ = "string", json_path = ".spec.registries"))]
pub struct ImageAllowListSpec {
    /// Such as `registry.k8s.io` or `ghcr.io/acme`; images without a registry are those of `docker.io/library`.
    #[schemars(length(min = 1))]
    pub registries: Vec<String>,
}

struct AllowedImages;

impl Validator for AllowedImages {
    type Object = Pod;

    async fn validate_create(&self, pod: &Pod, cx: &Admission) -> Result<Verdict> {
        let lists = cx.list::<ImageAllowList>().await?;
        if lists.is_empty() {
            return Ok(
                Verdict::allow().warn("no ImageAllowList exists: images of all registries are allowed")
            );
        }
        let allowed: Vec<&str> =
            lists.iter().flat_map(|list| &list.spec.registries).map(String::as_str).collect();
        let images = pod.spec.iter().flat_map(images);
        let refused = images.filter(|(_, image)| !allowed.iter().any(|registry| is_from(image, registry)));
        let names: Vec<String> = lists.iter().map(|list| list.name_any()).collect();
        Ok(Verdict::invalid(refused.map(|(field, image)| {
            Cause::new(
                &field,
                format!("image \"{image}\" is of no registry that {} allows", names.join(", ")),
            )
        })))
    }

    async fn validate_update(&self, old: &Pod, new: &Pod, cx: &Admission) -> Result<Verdict> {
        // A pod that runs can be labelled, even if its image would be refused today.
        let before: Vec<_> = old.spec.iter().flat_map(images).collect();
        let after: Vec<_> = new.spec.iter().flat_map(images).collect();
        if before == after { Ok(Verdict::allow()) } else { self.validate_create(new, cx).await }
    }
}

/// The images of a pod, with the fields they are in.
fn images(spec: &PodSpec) -> Vec<(String, String)> {
    let of = |list: &str, i: usize, image: &Option<String>| {
        (format!("spec.{list}[{i}].image"), image.clone().unwrap_or_default())
    };
    let containers = spec.containers.iter().enumerate().map(|(i, c)| of("containers", i, &c.image));
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(i, c)| of("initContainers", i, &c.image));
    let ephemeral = spec.ephemeral_containers.iter().flatten().enumerate();
    let ephemeral = ephemeral.map(|(i, c)| of("ephemeralContainers", i, &c.image));
    containers.chain(init).chain(ephemeral).collect()
}

/// Whether an image comes from a registry, or from a repository in one.
fn is_from(image: &str, registry: &str) -> bool {
    let full = match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
    };
    full.strip_prefix(registry.trim_end_matches('/')).is_some_and(|rest| rest.starts_with(['/', ':', '@']))
}

fn operator() -> Operator {
    Operator::new("image-allow-list").version(env!("CARGO_PKG_VERSION")).crd::<ImageAllowList>().webhook(
        Webhook::validating(AllowedImages)
            .subresource("ephemeralcontainers")
            .named("pods.images.example.com")
            .reads::<ImageAllowList>(),
    )
}

#[tokio::main]
async fn main() -> Result {
    operator().main().await
}

#[cfg(test)]
mod tests;
