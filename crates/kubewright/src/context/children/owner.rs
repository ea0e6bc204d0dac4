//! The owner of children: how a child comes to be an owner's, and how it is told from others. Pure.

use serde_json::{Value, json};

use crate::cache::Cached;
use crate::context::drift::Target;
use crate::context::requests::complete;
use crate::kind::{Key, Kind};
use crate::{Error, Result};

/// The annotation that tells a decorator's attachments from other children of their owner.
const DECORATOR: &str = "kubewright.io/decorator";

/// The owner, as its children refer to it.
pub(super) struct OwnerOf {
    pub(super) kind: Kind,
    pub(super) key: Key,
    pub(super) uid: String,
    /// The decorator that attaches, if it is not the owner's own controller.
    pub(super) decorator: Option<String>,
}

impl OwnerOf {
    /// The child as it is to be applied: typed, in a namespace, with its owner.
    pub(super) fn adopt(&self, kind: Kind, mut child: Value) -> Result<(Target, Value)> {
        complete(&mut child, &kind);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&child["metadata"]["name"]);
        let mut namespace = text(&child["metadata"]["namespace"]);
        if kind.namespaced && namespace.is_empty() {
            namespace = self.key.namespace().unwrap_or_default().to_owned();
            child["metadata"]["namespace"] = json!(namespace);
        }
        let key = Key::new(if kind.namespaced { &namespace } else { "" }, &name);
        let refuse = |why| {
            let (kind, child) = (kind.kind.clone(), key.clone());
            Err(Error::InvalidChild { kind, child, owner: self.key.clone(), why })
        };
        if name.is_empty() {
            return refuse("it has no name, and a child needs one that is the same every time");
        }
        if kind.namespaced && namespace.is_empty() {
            return refuse("it has no namespace, and neither has its owner");
        }
        if self.kind.namespaced && key.namespace() != self.key.namespace() {
            return refuse("an owner in a namespace can only have children in the same namespace");
        }
        let owner = json!({
            "apiVersion": self.kind.api_version(), "kind": self.kind.kind, "name": self.key.name(),
            "uid": self.uid, "controller": true, "blockOwnerDeletion": true,
        });
        match child["metadata"]["ownerReferences"].as_array_mut() {
            Some(owners) => {
                owners.retain(|other| other["uid"] != *self.uid);
                owners.push(owner);
            }
            None => child["metadata"]["ownerReferences"] = json!([owner]),
        }
        if let Some(decorator) = &self.decorator {
            child["metadata"]["annotations"][DECORATOR] = json!(decorator);
        }
        Ok((Target { kind, key, status: false }, child))
    }
}

/// The decorator that attached an object, if one did.
pub(super) fn decorator_of(object: &Cached) -> Option<String> {
    // Most objects have no annotations, and most others not this one.
    if object.annotation_bytes().is_empty() {
        return None;
    }
    object.annotations().remove(DECORATOR)
}

/// Whether an owner controls an object that its own controller made, or that a decorator attached.
pub(super) fn is_child(object: &Cached, owner: &str, decorator: Option<&str>) -> bool {
    object.controller().is_some_and(|controller| *controller.uid == *owner)
        && decorator_of(object).as_deref() == decorator
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn owner() -> OwnerOf {
        let kind = Kind {
            group: "apps.example.io".into(),
            version: "v1".into(),
            kind: "Set".into(),
            plural: "sets".into(),
            namespaced: true,
        };
        OwnerOf { kind, key: Key::new("n", "s"), uid: "u".into(), decorator: None }
    }

    fn pod(metadata: Value) -> (Kind, Value) {
        (Kind::of::<Pod>(), json!({"metadata": metadata, "spec": {}, "status": {"phase": "x"}}))
    }

    #[test]
    fn a_child_gets_namespace_type_and_owner() {
        let (kind, child) = pod(json!({"name": "p", "resourceVersion": "5", "managedFields": []}));
        let (target, wish) = owner().adopt(kind, child).unwrap();
        assert_eq!(target.key, Key::new("n", "p"));
        assert_eq!(
            wish,
            json!({
                "apiVersion": "v1", "kind": "Pod", "spec": {},
                "metadata": {"name": "p", "namespace": "n", "ownerReferences": [{
                    "apiVersion": "apps.example.io/v1", "kind": "Set", "name": "s", "uid": "u",
                    "controller": true, "blockOwnerDeletion": true}]},
            })
        );
    }

    #[test]
    fn what_a_decorator_attaches_is_told_from_other_children() {
        let attached = OwnerOf { decorator: Some("op/d".into()), ..owner() };
        let (kind, child) = pod(json!({"name": "p", "annotations": {"a": "b"}}));
        let (_, wish) = attached.adopt(kind, child).unwrap();
        assert_eq!(wish["metadata"]["annotations"], json!({"a": "b", "kubewright.io/decorator": "op/d"}));
        let cached = Cached::read(wish.to_string().as_bytes(), &Kind::of::<Pod>()).unwrap();
        let of = |decorator| is_child(&cached, "u", decorator);
        assert_eq!([of(Some("op/d")), of(Some("op/e")), of(None)], [true, false, false]);
        let (kind, child) = pod(json!({"name": "p"}));
        let (_, wish) = owner().adopt(kind, child).unwrap();
        let own = Cached::read(wish.to_string().as_bytes(), &Kind::of::<Pod>()).unwrap();
        assert!(is_child(&own, "u", None) && !is_child(&own, "u", Some("op/d")));
    }

    #[test]
    fn impossible_children_are_refused_with_the_rule() {
        let refuse = |metadata: Value| {
            let (kind, child) = pod(metadata);
            owner().adopt(kind, child).unwrap_err().to_string()
        };
        assert!(refuse(json!({"generateName": "p-"})).contains("it has no name"));
        assert!(refuse(json!({"name": "p", "namespace": "other"})).contains("same namespace"));
    }
}
