//! Discovery documents as servers write them, in both forms: the whole in one, or names of groups with a document for
//! each of their versions. Pure.

use serde::Deserialize;

use super::table::{Group, Served, Version};
use crate::kind::Kind;

/// A discovery document of `/api` or `/apis`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// The whole.
    Aggregated(Vec<Group>),
    /// Names of groups and versions only: the resources of each are in documents of their own.
    Names(Vec<(String, Vec<String>)>),
}

impl Document {
    /// Reads a document.
    pub(super) fn parse(body: &[u8]) -> Result<Document, serde_json::Error> {
        Ok(match serde_json::from_slice(body)? {
            AnyDocument::Whole { items } => {
                Document::Aggregated(items.into_iter().map(AnyGroup::read).collect())
            }
            AnyDocument::Groups { groups } => Document::Names(
                groups.into_iter().map(|group| (group.name.clone(), group.in_order())).collect(),
            ),
            AnyDocument::Versions { versions } => Document::Names(vec![(String::new(), versions)]),
        })
    }
}

/// The resources of one group version, from a document of its own.
pub(super) fn parse_version(body: &[u8], group: &str, version: &str) -> Result<Version, serde_json::Error> {
    let list: ResourceList = serde_json::from_slice(body)?;
    let (subs, mains): (Vec<OldResource>, Vec<OldResource>) =
        list.resources.into_iter().partition(|resource| resource.name.contains('/'));
    let resources = mains.into_iter().map(|resource| {
        let subresources = subs.iter().filter_map(|sub| {
            let (main, sub) = sub.name.split_once('/')?;
            (main == resource.name).then(|| sub.to_owned())
        });
        Served {
            subresources: subresources.collect(),
            kind: Kind {
                group: group.into(),
                version: version.into(),
                kind: resource.kind,
                plural: resource.name,
                namespaced: resource.namespaced,
            },
            singular: resource.singular_name,
            short_names: resource.short_names,
            categories: resource.categories,
            verbs: resource.verbs,
        }
    });
    Ok(Version { name: version.into(), unreachable: false, resources: resources.collect() })
}

#[derive(Deserialize)]
#[serde(tag = "kind")]
enum AnyDocument {
    #[serde(rename = "APIGroupDiscoveryList")]
    Whole {
        #[serde(default)]
        items: Vec<AnyGroup>,
    },
    #[serde(rename = "APIGroupList")]
    Groups {
        #[serde(default)]
        groups: Vec<OldGroup>,
    },
    #[serde(rename = "APIVersions")]
    Versions {
        #[serde(default)]
        versions: Vec<String>,
    },
}

#[derive(Deserialize)]
struct AnyGroup {
    #[serde(default)]
    metadata: Name,
    #[serde(default)]
    versions: Vec<AnyVersion>,
}

#[derive(Deserialize, Default)]
struct Name {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Vec<AnyResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyResource {
    resource: String,
    #[serde(default)]
    response_kind: ResponseKind,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    subresources: Vec<AnySubresource>,
}

#[derive(Deserialize, Default)]
struct ResponseKind {
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
struct AnySubresource {
    subresource: String,
}

impl AnyGroup {
    fn read(self) -> Group {
        let name = self.metadata.name;
        let versions = self.versions.into_iter().map(|version| Version {
            unreachable: version.freshness == "Stale",
            resources: version.resources.into_iter().map(|one| one.read(&name, &version.version)).collect(),
            name: version.version,
        });
        Group { versions: versions.collect(), name }
    }
}

impl AnyResource {
    fn read(self, group: &str, version: &str) -> Served {
        Served {
            kind: Kind {
                group: group.into(),
                version: version.into(),
                kind: self.response_kind.kind,
                plural: self.resource,
                namespaced: self.scope == "Namespaced",
            },
            singular: self.singular_resource,
            short_names: self.short_names,
            categories: self.categories,
            verbs: self.verbs,
            subresources: self.subresources.into_iter().map(|sub| sub.subresource).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldGroup {
    name: String,
    #[serde(default)]
    versions: Vec<OldVersion>,
    preferred_version: Option<OldVersion>,
}

#[derive(Deserialize)]
struct OldVersion {
    version: String,
}

impl OldGroup {
    /// The versions, the preferred one first.
    fn in_order(self) -> Vec<String> {
        let mut versions: Vec<String> = self.versions.into_iter().map(|version| version.version).collect();
        if let Some(preferred) = self.preferred_version
            && let Some(at) = versions.iter().position(|version| *version == preferred.version)
        {
            versions[..=at].rotate_right(1);
        }
        versions
    }
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<OldResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldResource {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    singular_name: String,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_without_aggregated_discovery_are_read_group_by_group() {
        let groups = json!({"kind": "APIGroupList", "groups": [{"name": "apps",
            "versions": [{"version": "v1beta1"}, {"version": "v1"}], "preferredVersion": {"version": "v1"}}]});
        let names = Document::parse(groups.to_string().as_bytes()).unwrap();
        assert_eq!(names, Document::Names(vec![("apps".into(), vec!["v1".into(), "v1beta1".into()])]));
        let core = Document::parse(br#"{"kind":"APIVersions","versions":["v1"]}"#).unwrap();
        assert_eq!(core, Document::Names(vec![(String::new(), vec!["v1".into()])]));
        let list = json!({"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
             "verbs": ["get"], "shortNames": ["deploy"]},
            {"name": "deployments/scale", "namespaced": true, "kind": "Scale", "verbs": ["get"]}]});
        let version = parse_version(list.to_string().as_bytes(), "apps", "v1").unwrap();
        assert_eq!(version.resources.len(), 1);
        assert_eq!(version.resources[0].subresources, ["scale"]);
        assert_eq!(
            version.resources[0].kind.collection_path(Some("n")),
            "/apis/apps/v1/namespaces/n/deployments"
        );
        assert!(Document::parse(b"{}").is_err() && Document::parse(b"<html>").is_err());
    }
}
