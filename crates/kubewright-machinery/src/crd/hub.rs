//! A definition in the form that a real server validates: what is the same in all versions is at the top.

use serde_json::{Value, json};

use crate::schema::structural::Node;

/// The definition in the form that is validated: what all versions have in common is at the top.
pub(crate) struct Hub<'a> {
    pub(crate) spec: Node<'a>,
    pub(crate) versions: &'a [Value],
    common: [bool; 4],
}

pub(crate) const PER_VERSION: [&str; 4] =
    ["schema", "subresources", "additionalPrinterColumns", "selectableFields"];

/// What can be said for each version or, where all agree, for all.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Part {
    Schema,
    Subresources,
    Columns,
    Selectable,
}

impl<'a> Hub<'a> {
    pub(crate) fn new(object: &'a Value) -> Self {
        let spec = object.get("spec").map_or(Node::new(&Value::Null), Node::new);
        let versions = spec.list("versions");
        let of = |i: usize, key: &str| Node::new(&versions[i]).get(key).filter(|v| *v != &json!([]));
        let common = PER_VERSION
            .map(|key| !versions.is_empty() && (1..versions.len()).all(|i| of(i, key) == of(0, key)));
        Self { spec, versions, common }
    }

    /// Whether a part, by its place in [`PER_VERSION`], is the same in all versions.
    pub(crate) fn is_common(&self, part: usize) -> bool {
        self.common[part]
    }

    /// A part at the top.
    pub(crate) fn top(&self, part: Part) -> Option<&'a Value> {
        let index = part as usize;
        self.versions
            .first()
            .filter(|_| self.common[index])
            .and_then(|v| Node::new(v).get(PER_VERSION[index]))
    }

    /// A part in a version.
    pub(crate) fn in_version(&self, version: &'a Value, part: Part) -> Option<&'a Value> {
        let index = part as usize;
        Node::new(version).get(PER_VERSION[index]).filter(|_| !self.common[index])
    }

    /// All schemas, each once.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = &'a Value> {
        let top = self.top(Part::Schema);
        let others = self.versions.iter().filter_map(|v| self.in_version(v, Part::Schema));
        top.into_iter()
            .chain(others)
            .filter_map(|schema| Node::new(schema).get("openAPIV3Schema"))
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub(crate) fn all_have_schemas(&self) -> bool {
        self.versions
            .iter()
            .all(|v| Node::new(v).node("schema").is_some_and(|s| s.get("openAPIV3Schema").is_some()))
    }

    pub(crate) fn preserve(&self) -> bool {
        self.spec.flag("preserveUnknownFields")
    }

    pub(crate) fn conversion(&self) -> Option<Node<'a>> {
        self.spec.node("conversion")
    }

    pub(crate) fn review_versions(&self) -> Vec<&'a str> {
        let webhook = self.conversion().and_then(|c| c.node("webhook"));
        webhook.map(|w| w.texts("conversionReviewVersions").collect()).unwrap_or_default()
    }
}
