//! Discovery documents, old and aggregated (KEP-3352), as functions of the [`Table`].
//!
//! A [`Documents`] is made from one table and lives as long as it: what a client reads here is what that table serves,
//! never more. Each document is rendered at most once. Nothing here reads a request.

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kubewright_machinery::gvk::compare_versions;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::aggregation::Remote;
use crate::resources::{Resource, Subresource, Table, Verb, Verbs};

mod aggregated;
mod priority;

pub use priority::{group_priority, version_priority};

/// The discovery documents of one table.
pub struct Documents {
    groups: Vec<Group>,
    list: OnceLock<Bytes>,
    aggregated: [OnceLock<Tagged>; 4],
}

/// A document with its entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// JSON.
    pub body: Bytes,
    /// The quoted entity tag: a hash of the body.
    pub etag: Box<str>,
}

/// Versions of the aggregated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregated {
    /// `apidiscovery.k8s.io/v2`.
    V2,
    /// `apidiscovery.k8s.io/v2beta1`.
    V2Beta1,
}

struct Group {
    name: Box<str>,
    priority: i64,
    versions: Vec<Version>,
}

struct Version {
    name: Box<str>,
    content: Content,
}

enum Content {
    Own(Vec<Arc<Resource>>),
    /// Served elsewhere.
    Remote(Arc<Remote>),
}

impl Documents {
    /// The documents of a table. Costs a sort of the groups; nothing is rendered yet.
    pub fn of(table: &Table) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for resource in table.resources() {
            let group = match groups.iter_mut().find(|g| g.name == resource.group) {
                Some(group) => group,
                None => {
                    let priority = i64::from(group_priority(&resource.group));
                    groups.push(Group { name: resource.group.clone(), priority, versions: Vec::new() });
                    groups.last_mut().expect("it was just pushed")
                }
            };
            match group.versions.iter_mut().find(|v| v.name == resource.version) {
                Some(Version { content: Content::Own(resources), .. }) => {
                    resources.push(Arc::clone(resource))
                }
                _ => group.versions.push(Version {
                    name: resource.version.clone(),
                    content: Content::Own(vec![Arc::clone(resource)]),
                }),
            }
        }
        for group in &mut groups {
            group.versions.sort_by(|a, b| compare_versions(&b.name, &a.name));
            for version in &mut group.versions {
                if let Content::Own(resources) = &mut version.content {
                    resources.sort_by(|a, b| a.plural.cmp(&b.plural));
                }
            }
        }
        let mut remotes: Vec<&Arc<Remote>> = table.remotes().iter().collect();
        remotes.sort_by(|a, b| {
            b.version_priority.cmp(&a.version_priority).then_with(|| compare_versions(&b.version, &a.version))
        });
        for remote in remotes {
            let group = match groups.iter_mut().find(|g| g.name == remote.group) {
                Some(group) => group,
                None => {
                    groups.push(Group { name: remote.group.clone(), priority: 0, versions: Vec::new() });
                    groups.last_mut().expect("it was just pushed")
                }
            };
            group.priority = group.priority.max(remote.group_priority);
            group.versions.retain(|version| version.name != remote.version);
            let content = Content::Remote(Arc::clone(remote));
            group.versions.push(Version { name: remote.version.clone(), content });
        }
        groups.sort_by(|a, b| (Reverse(a.priority), &a.name).cmp(&(Reverse(b.priority), &b.name)));
        Self { groups, list: OnceLock::new(), aggregated: Default::default() }
    }

    /// `/api`: APIVersions.
    pub fn core_versions(&self, address: &str) -> Value {
        let versions: Vec<&str> =
            self.group("").into_iter().flat_map(|g| &g.versions).map(|v| &*v.name).collect();
        json!({
            "kind": "APIVersions",
            "versions": versions,
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })
    }

    /// `/apis`: APIGroupList.
    pub fn group_list(&self) -> Bytes {
        self.list
            .get_or_init(|| {
                let groups: Vec<Value> =
                    self.groups.iter().filter(|g| !g.name.is_empty()).map(group_document).collect();
                json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}).to_string().into()
            })
            .clone()
    }

    /// `/apis/GROUP`: APIGroup.
    pub fn group_named(&self, group: &str) -> Option<Value> {
        let group = self.group(group).filter(|g| !g.name.is_empty())?;
        let mut document = group_document(group);
        document["kind"] = "APIGroup".into();
        document["apiVersion"] = "v1".into();
        Some(document)
    }

    /// `/api/VERSION` and `/apis/GROUP/VERSION`: APIResourceList, for what this server itself serves.
    pub fn resource_list(&self, group: &str, version: &str) -> Option<Value> {
        let found = self.group(group)?.versions.iter().find(|v| &*v.name == version)?;
        let Content::Own(resources) = &found.content else { return None };
        let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let rows: Vec<Value> = resources.iter().flat_map(|r| resource_rows(r)).collect();
        let mut document =
            json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": rows});
        // The core list is older than lists having a version, and still has none.
        if !group.is_empty() {
            document["apiVersion"] = "v1".into();
        }
        Some(document)
    }

    /// `/api` (`core`) or `/apis` in the aggregated form.
    pub fn aggregated(&self, core: bool, form: Aggregated) -> &Tagged {
        let slot = usize::from(core) + if form == Aggregated::V2 { 0 } else { 2 };
        self.aggregated[slot].get_or_init(|| {
            let groups = self.groups.iter().filter(|g| g.name.is_empty() == core);
            let body = Bytes::from(aggregated::document(groups, form).to_string());
            let etag = etag(&body);
            Tagged { body, etag }
        })
    }

    /// Every (group, version), in order of preference.
    pub fn group_versions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.iter().flat_map(|g| g.versions.iter().map(|v| (&*g.name, &*v.name)))
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|g| &*g.name == name)
    }
}

/// `storageVersionHash` of a kind: equal hashes mean that objects are stored in the same version.
pub fn storage_version_hash(group: &str, version: &str, kind: &str) -> Box<str> {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    STANDARD.encode(&digest[..8]).into()
}

/// The quoted entity tag of a body.
pub(crate) fn etag(body: &[u8]) -> Box<str> {
    let mut tag = String::from("\"");
    for byte in Sha256::digest(body) {
        tag.push_str(&format!("{byte:02X}"));
    }
    tag.push('"');
    tag.into()
}

fn group_document(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|v| json!({"groupVersion": format!("{}/{}", group.name, v.name), "version": &v.name}))
        .collect();
    json!({"name": &group.name, "preferredVersion": versions.first(), "versions": versions})
}

/// A resource and its subresources as APIResource rows.
fn resource_rows(resource: &Resource) -> Vec<Value> {
    let mut row = json!({
        "name": &resource.plural,
        "singularName": &resource.singular,
        "namespaced": resource.namespaced,
        "kind": &resource.kind,
        "verbs": verbs(resource.verbs, resource.custom),
    });
    for (key, names) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !names.is_empty() {
            row[key] = json!(names);
        }
    }
    if !resource.storage_version_hash.is_empty() {
        row["storageVersionHash"] = json!(resource.storage_version_hash);
    }
    let mut rows = vec![row];
    for sub in &resource.subresources {
        let mut row = json!({
            "name": format!("{}/{}", resource.plural, sub.name),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": &sub.kind,
            "verbs": subresource_verbs(sub),
        });
        if (&sub.group, &sub.version) != (&resource.group, &resource.version) {
            row["group"] = json!(sub.group);
            row["version"] = json!(sub.version);
        }
        rows.push(row);
    }
    rows
}

/// The verbs of a resource. Custom resources have an order of their own.
fn verbs(verbs: Verbs, custom: bool) -> Vec<&'static str> {
    const CUSTOM: [Verb; 8] = [
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Create,
        Verb::Update,
        Verb::Watch,
    ];
    let order = if custom { CUSTOM } else { Verb::EVERY };
    order.into_iter().filter(|v| verbs.has(*v)).map(Verb::as_str).collect()
}

fn subresource_verbs(sub: &Subresource) -> Vec<&'static str> {
    verbs(sub.verbs, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregation::Backend;

    fn documents(custom: &[(&str, &str, &str)]) -> Documents {
        let mut all = vec![Resource::stored("", "v1", "Pod", "pods", true)];
        all.push(Resource::stored("apps", "v1", "Deployment", "deployments", true));
        for (group, version, kind) in custom {
            let plural = format!("{}s", kind.to_lowercase());
            all.push(Resource { custom: true, ..Resource::stored(group, version, kind, &plural, true) });
        }
        Documents::of(&Table::new(all.into_iter().map(Arc::new), 1))
    }

    #[test]
    fn versions_of_a_group_are_ordered_by_priority() {
        let documents = documents(&[("z.io", "v1", "A"), ("z.io", "v10", "A"), ("z.io", "v1beta1", "A")]);
        let group = documents.group_named("z.io").unwrap();
        assert_eq!(group["preferredVersion"]["version"], "v10");
        assert_eq!(group["versions"][2]["version"], "v1beta1");
    }

    #[test]
    fn the_core_list_has_no_api_version_and_the_core_group_is_not_in_the_group_list() {
        let documents = documents(&[]);
        assert_eq!(documents.resource_list("", "v1").unwrap().get("apiVersion"), None);
        assert_eq!(documents.resource_list("apps", "v1").unwrap()["apiVersion"], "v1");
        let list: Value = serde_json::from_slice(&documents.group_list()).unwrap();
        assert_eq!(list["groups"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn equal_documents_have_equal_entity_tags_and_others_do_not() {
        let (one, same, other) = (documents(&[]), documents(&[]), documents(&[("z.io", "v1", "A")]));
        assert_eq!(one.aggregated(false, Aggregated::V2).etag, same.aggregated(false, Aggregated::V2).etag);
        assert_ne!(one.aggregated(false, Aggregated::V2).etag, other.aggregated(false, Aggregated::V2).etag);
    }

    #[test]
    fn a_version_that_is_served_elsewhere_and_does_not_answer_is_stale() {
        let remote = Remote {
            group: "far.io".into(),
            version: "v1".into(),
            group_priority: 100,
            version_priority: 10,
            backend: Backend::default(),
            available: false,
            facts: None,
        };
        let documents = Documents::of(&Table::default().with_remotes(vec![Arc::new(remote)]));
        let tagged = documents.aggregated(false, Aggregated::V2);
        let document: Value = serde_json::from_slice(&tagged.body).unwrap();
        assert_eq!(document["items"][0]["versions"][0], json!({"version": "v1", "freshness": "Stale"}));
        assert!(documents.resource_list("far.io", "v1").is_none());
        assert!(documents.group_named("far.io").is_some());
    }
}
