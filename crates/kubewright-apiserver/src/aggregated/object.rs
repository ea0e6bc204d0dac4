//! Objects as the authors of kinds see them: metadata that every kind has, and a body of their own type.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An object: what is common to all kinds, and what is the kind's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Object<B> {
    /// Who it is.
    pub metadata: Metadata,
    /// Every other field, such as `spec`.
    #[serde(flatten)]
    pub body: B,
}

/// `metadata`. What has no field of its own here is kept in `rest`, so that nothing is lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique among the objects of the kind in the namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty for cluster-scoped kinds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Unique for ever.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// A decimal number that grows with every change of any object of the kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// When it was made, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else: generation, finalizers, owner references, managed fields, …
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Which object: its namespace (empty for cluster-scoped kinds) and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// Of a namespaced object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl<B> Object<B> {
    /// An object with a name and nothing else said of it: enough for one that is computed.
    pub fn new(key: Key, body: B) -> Self {
        let metadata = Metadata { name: key.name, namespace: key.namespace, ..Metadata::default() };
        Self { metadata, body }
    }

    /// Which one it is.
    pub fn key(&self) -> Key {
        Key::new(&*self.metadata.namespace, &*self.metadata.name)
    }

    /// The number in its resourceVersion; 0 where there is none.
    pub fn version(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or(0)
    }
}

impl<B: Serialize + DeserializeOwned> Object<B> {
    /// From JSON. Fields that the type does not know are left out.
    pub(super) fn read(object: &Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(object.clone())
    }

    /// As JSON, without kind and apiVersion.
    pub(super) fn write(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_metadata_is_lost() {
        #[derive(Serialize, Deserialize)]
        struct Body {
            size: u8,
        }
        let json = json!({
            "metadata": {"name": "a", "namespace": "n", "resourceVersion": "7", "labels": {"x": "y"}, "generation": 2,
                "finalizers": ["a/b"]},
            "size": 3,
        });
        let object: Object<Body> = Object::read(&json).unwrap();
        assert_eq!((object.version(), object.body.size, object.key()), (7, 3, Key::new("n", "a")));
        assert_eq!(object.write().unwrap(), json);
    }
}
