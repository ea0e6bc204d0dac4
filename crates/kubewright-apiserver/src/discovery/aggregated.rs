//! The aggregated form: APIGroupDiscoveryList (KEP-3352).

use serde_json::{Value, json};

use super::{Aggregated, Content, Group, subresource_verbs, verbs};
use crate::resources::Resource;

/// The document of some groups.
pub(super) fn document<'a>(groups: impl Iterator<Item = &'a Group>, form: Aggregated) -> Value {
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| match &version.content {
                    Content::Own(resources) => json!({
                        "version": &version.name,
                        "resources": resources.iter().map(|r| resource(r)).collect::<Vec<_>>(),
                        "freshness": "Current",
                    }),
                    // Clients decode `resources` as a list: it is left out, and never null.
                    Content::Remote(remote) => match &remote.facts {
                        Some(facts) => facts.discovery.content.clone(),
                        None => json!({"version": &version.name, "freshness": "Stale"}),
                    },
                })
                .collect();
            // The core group has no name, and so empty metadata.
            let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": &group.name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let version = match form {
        Aggregated::V2 => "v2",
        Aggregated::V2Beta1 => "v2beta1",
    };
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn resource(resource: &Resource) -> Value {
    // Built-in kinds leave group and version of their own kind out; custom resources say them.
    let own_kind = |group: &str, version: &str, kind: &str| {
        let implied = !resource.custom && (group, version) == (&*resource.group, &*resource.version);
        if implied {
            json!({"group": "", "version": "", "kind": kind})
        } else {
            json!({"group": group, "version": version, "kind": kind})
        }
    };
    let mut row = json!({
        "resource": &resource.plural,
        "responseKind": own_kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": &resource.singular,
        "verbs": verbs(resource.verbs, resource.custom),
    });
    for (key, names) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !names.is_empty() {
            row[key] = json!(names);
        }
    }
    if !resource.subresources.is_empty() {
        let rows = resource.subresources.iter().map(|sub| {
            json!({
                "subresource": &sub.name,
                "responseKind": own_kind(&sub.group, &sub.version, &sub.kind),
                "verbs": subresource_verbs(sub),
            })
        });
        row["subresources"] = rows.collect();
    }
    row
}
