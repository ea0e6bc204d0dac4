//! What the runtime knows about a kind at run time: its coordinates in the API, whether its objects
//! live in namespaces, the key of an object, and where a kind's definition comes from. Pure; nothing
//! here talks to a server.

use std::any::TypeId;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::NamespaceResourceScope;
use kube::{CustomResourceExt, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A typed Kubernetes object: what `k8s-openapi` defines and what `#[derive(CustomResource)]` makes.
///
/// Implemented for everything that fits; there is nothing to write.
pub trait Object:
    Resource<DynamicType = ()> + Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// The coordinates of a kind: group, version, kind, plural resource name and scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// Version within the group, such as `v1`.
    pub version: String,
    /// Kind in CamelCase, such as `Pod`.
    pub kind: String,
    /// Resource name in URLs, such as `pods`.
    pub plural: String,
    /// Whether objects of this kind live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// The coordinates of a typed kind.
    pub fn of<K: Object>() -> Kind {
        Kind {
            group: K::group(&()).into_owned(),
            version: K::version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
            namespaced: TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>(),
        }
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of the collection: of one namespace when the kind is namespaced and one is given,
    /// otherwise of the whole cluster.
    pub fn collection_path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        match namespace {
            Some(namespace) if self.namespaced => {
                format!("{root}/{}/namespaces/{namespace}/{}", self.api_version(), self.plural)
            }
            _ => format!("{root}/{}/{}", self.api_version(), self.plural),
        }
    }

    /// The path of one object.
    pub fn object_path(&self, key: &Key) -> String {
        format!("{}/{}", self.collection_path(key.namespace()), key.name())
    }
}

impl fmt::Display for Kind {
    /// `pods` in the core group, `deployments.apps` elsewhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

/// Namespace and name of an object; the namespace is empty for objects of the cluster. Cheap to clone. Keys sort by
/// namespace, then by name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The namespace and, right behind it, the name: one allocation and one count for both.
    text: Arc<str>,
    /// How many bytes of it are the namespace.
    namespace: usize,
}

impl Key {
    /// A key; an empty namespace means an object of the cluster.
    pub fn new(namespace: &str, name: &str) -> Key {
        let text = if namespace.is_empty() { name.into() } else { [namespace, name].concat().into() };
        Key { text, namespace: namespace.len() }
    }

    fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.namespace)
    }

    /// The key of a typed object.
    pub fn of<K: Resource>(object: &K) -> Key {
        let meta = object.meta();
        Key::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    /// The namespace, if the object lives in one.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.parts().0).filter(|namespace| !namespace.is_empty())
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.parts().1
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            Some(namespace) => write!(f, "{namespace}/{}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&str> for Key {
    /// The key of an object of the cluster.
    fn from(name: &str) -> Key {
        Key::new("", name)
    }
}

impl From<(&str, &str)> for Key {
    /// `(namespace, name)`.
    fn from((namespace, name): (&str, &str)) -> Key {
        Key::new(namespace, name)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Key {
        key.clone()
    }
}

/// Marker: the kind is defined by a CustomResourceDefinition of this operator.
#[derive(Debug)]
pub enum Custom {}

/// Marker: the kind is built into Kubernetes.
#[derive(Debug)]
pub enum BuiltIn {}

/// Where a kind's definition comes from: a CustomResourceDefinition for what
/// `#[derive(CustomResource)]` makes, nothing for what `k8s-openapi` defines.
///
/// `By` is never written by users: for a given type only one of the two implementations applies, so
/// the compiler infers it.
pub trait Defined<By> {
    /// The definition to install, if the kind needs one.
    fn definition() -> Option<CustomResourceDefinition>;
}

impl<K: CustomResourceExt> Defined<Custom> for K {
    fn definition() -> Option<CustomResourceDefinition> {
        Some(K::crd())
    }
}

impl<K: k8s_openapi::Resource> Defined<BuiltIn> for K {
    fn definition() -> Option<CustomResourceDefinition> {
        None
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod};

    use super::*;

    #[test]
    fn kinds_know_their_scope_and_paths() {
        let pods = Kind::of::<Pod>();
        assert!(pods.namespaced);
        assert_eq!(pods.collection_path(Some("a")), "/api/v1/namespaces/a/pods");
        assert_eq!(pods.collection_path(None), "/api/v1/pods");
        let nodes = Kind::of::<Node>();
        assert!(!nodes.namespaced);
        assert_eq!(nodes.object_path(&"n1".into()), "/api/v1/nodes/n1");
    }

    #[test]
    fn keys_differ_by_where_the_namespace_ends_and_sort_by_it_first() {
        let keys = [
            Key::new("", "z"),
            Key::new("a", "bc"),
            Key::new("ab", "a"),
            Key::new("ab", "c"),
            Key::new("b", ""),
        ];
        assert!(keys.is_sorted());
        assert_ne!(Key::new("a", "bc"), Key::new("ab", "c"));
        assert_eq!((keys[1].namespace(), keys[1].name()), (Some("a"), "bc"));
        assert_eq!((keys[0].namespace(), keys[0].name()), (None, "z"));
        assert_eq!(keys[3].to_string(), "ab/c");
    }
}
