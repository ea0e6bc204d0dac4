//! The state of a cluster as text for the reader of a failed test: every object that a test or controller made, a line
//! each, with its status below; then the events. Reads only.

use std::fmt::Write as _;

use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use kube::{Client, ResourceExt as _};

/// What every cluster has: bootstrap objects and what they are made of.
const BOOTSTRAP_GROUPS: [&str; 3] =
    ["rbac.authorization.k8s.io", "flowcontrol.apiserver.k8s.io", "apiregistration.k8s.io"];

/// Dumps what the client may see.
pub async fn of(client: Client) -> String {
    let discovery = match Discovery::new(client.clone()).run().await {
        Ok(discovery) => discovery,
        Err(error) => return format!("no dump: discovery failed: {error}\n"),
    };
    let mut out = String::from("--- the cluster ---\n");
    let mut events = String::new();
    for group in discovery.groups().filter(|group| !BOOTSTRAP_GROUPS.contains(&group.name())) {
        for (resource, capabilities) in group.recommended_resources() {
            // Events are one store with two names.
            let doubled = resource.kind == "Event" && !resource.group.is_empty();
            if doubled || !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            match api.list(&ListParams::default()).await {
                Ok(list) => {
                    for object in list.items.iter().filter(|object| !is_bootstrap(&resource.kind, object)) {
                        if resource.kind == "Event" {
                            event(&mut events, object);
                        } else {
                            describe(&mut out, &resource.kind, object);
                        }
                    }
                }
                Err(error) => {
                    let _ = writeln!(out, "{}: {error}", resource.plural);
                }
            }
        }
    }
    out + "--- events ---\n" + &events
}

fn is_bootstrap(kind: &str, object: &DynamicObject) -> bool {
    let name = object.name_any();
    name.starts_with("system-") && kind == "PriorityClass"
        || name == "kube-root-ca.crt"
        || kind == "Namespace" && (name.starts_with("kube-") || name == "default")
        || name == "kubernetes" && matches!(kind, "Service" | "Endpoints" | "EndpointSlice")
}

fn describe(out: &mut String, kind: &str, object: &DynamicObject) {
    let namespace = object.namespace().map(|namespace| namespace + "/").unwrap_or_default();
    let _ = write!(out, "{kind} {namespace}{}", object.name_any());
    if let Some(generation) = object.metadata.generation {
        let _ = write!(out, "  generation={generation}");
    }
    if object.metadata.deletion_timestamp.is_some() {
        let _ = write!(out, "  deleting, finalizers={:?}", object.finalizers());
    }
    for owner in object.owner_references() {
        let _ = write!(out, "  owner={}/{}", owner.kind, owner.name);
    }
    out.push('\n');
    for part in ["spec", "status"] {
        if !object.data[part].is_null() {
            let _ = writeln!(out, "  {part}: {}", object.data[part]);
        }
    }
}

fn event(out: &mut String, object: &DynamicObject) {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let about = &object.data["involvedObject"];
    let _ = writeln!(
        out,
        "{} {} {}: {} {}",
        text(&object.data["type"]),
        text(&about["kind"]),
        text(&about["name"]),
        text(&object.data["reason"]),
        text(&object.data["message"])
    );
}
