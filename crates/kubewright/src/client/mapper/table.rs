//! What an API server serves, as a table made of its discovery documents: kinds and their resources, in the order of
//! preference. Pure; how the documents are fetched, and when anew, is said beside it.

use super::missing::{Missing, NotServed};
use crate::kind::Kind;

/// A resource that is served, as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Group, version, kind, plural name and scope.
    pub kind: Kind,
    /// The resource's name for one object, such as `deployment`.
    pub singular: String,
    /// Short names, such as `deploy`.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Verbs, such as `get`.
    pub verbs: Vec<String>,
    /// Subresources, such as `status`.
    pub subresources: Vec<String>,
}

impl Served {
    fn is_named(&self, name: &str) -> bool {
        self.kind.plural == name
            || self.singular == name
            || self.short_names.iter().any(|short| short == name)
    }
}

/// A group that is served, with its versions in the order of preference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) versions: Vec<Version>,
}

/// A version of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) name: String,
    /// What it serves is not known: whoever serves it could not be asked.
    pub(super) unreachable: bool,
    pub(super) resources: Vec<Served>,
}

impl Version {
    /// Why a kind is not found in this version of a group.
    fn missing(&self, group: &str) -> Missing {
        match self.unreachable {
            true => Missing::Unreachable(join(group, &self.name)),
            false => Missing::Kind(group.into()),
        }
    }

    fn of_kind(&self, kind: &str) -> Option<&Served> {
        self.resources.iter().find(|served| served.kind.kind == kind)
    }
}

/// Everything that is served, the core group first and the others in the server's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    groups: Vec<Group>,
}

impl Resources {
    /// Joins the documents of `/api` and `/apis`.
    pub(super) fn of(core: &[Group], others: &[Group]) -> Resources {
        Resources { groups: core.iter().chain(others).cloned().collect() }
    }

    fn group(&self, name: &str, wanted: impl FnOnce() -> String) -> Result<&Group, NotServed> {
        let found = self.groups.iter().find(|group| group.name == name);
        found.ok_or_else(|| NotServed { wanted: wanted(), missing: Missing::Group(name.into()) })
    }

    /// Everything, in the order of preference.
    pub fn all(&self) -> impl Iterator<Item = &Served> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| &version.resources)
    }

    /// A kind by group and name, in the most preferred version that has it.
    ///
    /// # Errors
    /// When it is not served.
    pub fn kind(&self, group: &str, kind: &str) -> Result<&Served, NotServed> {
        let wanted = || format!("{kind} in group \"{group}\"");
        let found = self.group(group, wanted)?;
        found.versions.iter().find_map(|version| version.of_kind(kind)).ok_or_else(|| NotServed {
            wanted: wanted(),
            missing: match found.versions.iter().find(|version| version.unreachable) {
                Some(version) => version.missing(group),
                None => Missing::Kind(group.into()),
            },
        })
    }

    /// A kind by its full coordinates, as objects name it (`apiVersion` and `kind`).
    ///
    /// # Errors
    /// When it is not served in this version.
    pub fn exactly(&self, api_version: &str, kind: &str) -> Result<&Served, NotServed> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = || format!("{kind} of {api_version}");
        let found = self.version(group, version, wanted)?;
        found.of_kind(kind).ok_or_else(|| NotServed { wanted: wanted(), missing: found.missing(group) })
    }

    fn version(
        &self,
        group: &str,
        version: &str,
        wanted: impl Fn() -> String,
    ) -> Result<&Version, NotServed> {
        let found = self.group(group, &wanted)?;
        found.versions.iter().find(|known| known.name == version).ok_or_else(|| NotServed {
            wanted: wanted(),
            missing: Missing::Version {
                group: group.into(),
                version: version.into(),
                has: found.versions.iter().map(|version| version.name.clone()).collect(),
            },
        })
    }

    /// A resource by any of its names, as people write it for kubectl: `deployments`, `deployment`, `deploy`,
    /// `deployments.apps`, `deployments.v1.apps`. Without a group, the first in the server's order counts.
    ///
    /// # Errors
    /// When there is none.
    pub fn resource(&self, text: &str) -> Result<&Served, NotServed> {
        let name = text.to_lowercase();
        let (first, rest) = name.split_once('.').unwrap_or((&name, ""));
        let in_version = rest.split_once('.').or((!rest.is_empty()).then_some((rest, "")));
        let place = |served: &&Served| {
            let kind = &served.kind;
            let version =
                in_version.is_some_and(|(version, group)| kind.version == version && kind.group == group);
            served.is_named(first) && (rest.is_empty() || version || kind.group == rest)
        };
        let unreachable = || {
            let groups = self.groups.iter().filter(|group| {
                group.name == rest
                    || in_version.is_some_and(|(_, named)| !named.is_empty() && group.name == named)
            });
            let versions =
                groups.flat_map(|group| group.versions.iter().map(move |version| (group, version)));
            let silent = versions.filter(|(_, version)| version.unreachable);
            silent.map(|(group, version)| version.missing(&group.name)).next()
        };
        self.all().find(place).ok_or_else(|| NotServed {
            wanted: format!("resource {text}"),
            missing: unreachable().unwrap_or(Missing::Resource),
        })
    }

    /// Whether a kind is served, in its version and under its plural name.
    ///
    /// # Errors
    /// When it is not, or that can't be known now ([`Missing::Unreachable`]).
    pub fn serves(&self, kind: &Kind) -> Result<(), NotServed> {
        let wanted = || format!("{} of {}", kind.kind, kind.api_version());
        let version = self.version(&kind.group, &kind.version, wanted)?;
        if version.resources.iter().any(|served| served.kind.plural == kind.plural) {
            return Ok(());
        }
        Err(NotServed { wanted: wanted(), missing: version.missing(&kind.group) })
    }

    /// Whether a resource of a URL lives in namespaces; `None` when it is not served.
    pub fn is_namespaced(&self, group: &str, plural: &str) -> Option<bool> {
        let mut found =
            self.all().filter(|served| served.kind.group == group && served.kind.plural == plural);
        found.next().map(|served| served.kind.namespaced)
    }
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::documents::Document;
    use super::*;

    fn resource(plural: &str, kind: &str, scope: &str, more: Value) -> Value {
        let mut resource = json!({"resource": plural, "responseKind": {"group": "ignored", "kind": kind},
            "scope": scope, "singularResource": kind.to_lowercase(), "verbs": ["get", "list"]});
        for (name, value) in more.as_object().into_iter().flatten() {
            resource[name] = value.clone();
        }
        resource
    }

    fn aggregated(groups: Value) -> Vec<Group> {
        let list =
            json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": groups});
        match Document::parse(list.to_string().as_bytes()).unwrap() {
            Document::Aggregated(groups) => groups,
            names => panic!("{names:?}"),
        }
    }

    fn table() -> Resources {
        let core = aggregated(
            json!([{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [
                resource("pods", "Pod", "Namespaced", json!({"shortNames": ["po"], "subresources": [{"subresource": "status"}]})),
                resource("events", "Event", "Namespaced", json!({"shortNames": ["ev"]})),
            ]}]}]),
        );
        let others = aggregated(json!([
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                resource("deployments", "Deployment", "Namespaced", json!({"shortNames": ["deploy"], "categories": ["all"]}))]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                resource("events", "Event", "Namespaced", json!({}))]}]},
            {"metadata": {"name": "example.com"}, "versions": [
                {"version": "v2", "resources": [resource("gadgets", "Gadget", "Cluster", json!({}))]},
                {"version": "v1", "resources": [resource("gadgets", "Gadget", "Cluster", json!({})),
                    resource("widgets", "Widget", "Namespaced", json!({}))]}]},
            {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1beta1", "freshness": "Stale", "resources": []}]},
        ]));
        Resources::of(&core, &others)
    }

    #[test]
    fn a_kind_is_found_in_the_most_preferred_version_that_has_it() {
        let table = table();
        assert_eq!(table.kind("example.com", "Gadget").unwrap().kind.version, "v2");
        assert_eq!(table.kind("example.com", "Widget").unwrap().kind.version, "v1");
        let pod = table.kind("", "Pod").unwrap();
        assert_eq!(pod.kind, Kind::of::<k8s_openapi::api::core::v1::Pod>());
        assert_eq!((pod.short_names.join(","), pod.subresources.join(",")), ("po".into(), "status".into()));
        assert!(!table.kind("example.com", "Gadget").unwrap().kind.namespaced);
        assert_eq!(table.exactly("example.com/v1", "Gadget").unwrap().kind.version, "v1");
        assert_eq!(table.exactly("v1", "Pod").unwrap(), pod);
    }

    #[test]
    fn what_is_not_served_is_named_with_what_is_missing() {
        let table = table();
        let said = |result: Result<&Served, NotServed>| result.unwrap_err().to_string();
        assert_eq!(
            said(table.kind("none.io", "X")),
            "X in group \"none.io\" is not served: there is no group \"none.io\"; is its CustomResourceDefinition or APIService installed?"
        );
        assert_eq!(
            said(table.exactly("example.com/v3", "Gadget")),
            "Gadget of example.com/v3 is not served: group \"example.com\" has no version v3, but v2, v1"
        );
        assert_eq!(
            said(table.kind("apps", "Pod")),
            "Pod in group \"apps\" is not served: group \"apps\" has no such kind"
        );
        assert_eq!(
            said(table.kind("metrics.k8s.io", "NodeMetrics")),
            "NodeMetrics in group \"metrics.k8s.io\" is not served: the API server behind metrics.k8s.io/v1beta1 can't be reached"
        );
        assert_eq!(
            said(table.resource("gizmos")),
            "resource gizmos is not served: there is no such resource"
        );
        assert!(said(table.resource("nodes.metrics.k8s.io")).contains("can't be reached"));
    }

    #[test]
    fn resources_are_known_by_all_their_names() {
        let table = table();
        for name in
            ["deployments", "Deployment", "deploy", "deployments.apps", "deploy.apps", "deployments.v1.apps"]
        {
            assert_eq!(table.resource(name).unwrap().kind.kind, "Deployment", "{name}");
        }
        // The same name in two groups: the core group comes first, and either can be asked for.
        assert_eq!(table.resource("events").unwrap().kind.group, "");
        assert_eq!(table.resource("events.events.k8s.io").unwrap().kind.group, "events.k8s.io");
        assert_eq!(table.resource("pods.v1").unwrap().kind.kind, "Pod");
        assert!(table.resource("pods.apps").is_err());
    }

    #[test]
    fn a_group_version_that_is_silent_neither_serves_nor_lacks_a_kind() {
        let table = table();
        let kind = |group: &str, version: &str, plural: &str| Kind {
            group: group.into(),
            version: version.into(),
            kind: String::new(),
            plural: plural.into(),
            namespaced: true,
        };
        let missing =
            |group, version, plural| table.serves(&kind(group, version, plural)).map_err(|not| not.missing);
        assert_eq!(missing("example.com", "v1", "widgets"), Ok(()));
        assert_eq!(missing("example.com", "v2", "widgets"), Err(Missing::Kind("example.com".into())));
        assert_eq!(missing("none.io", "v1", "widgets"), Err(Missing::Group("none.io".into())));
        assert!(matches!(missing("example.com", "v3", "widgets"), Err(Missing::Version { .. })));
        assert!(matches!(missing("metrics.k8s.io", "v1beta1", "pods"), Err(Missing::Unreachable(_))));
        assert_eq!(table.is_namespaced("example.com", "gadgets"), Some(false));
        assert_eq!(table.is_namespaced("example.com", "gizmos"), None);
    }
}
