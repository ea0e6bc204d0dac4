//! Owner references, set and taken away by hand: for objects that are written otherwise than with
//! [`Context::apply_children`](crate::Context::apply_children), which sets them itself. Pure.
//!
//! An object goes once all of its owners are gone. One of them at most controls it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::kind::{Key, Kind, Object};

/// Why an object can't have an owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// It has another controller.
    #[error("{object} is controlled by {controller} already")]
    Controlled {
        /// The object.
        object: Key,
        /// `Kind/name` of its controller.
        controller: String,
    },
    /// An owner in a namespace owns objects of that namespace alone.
    #[error("{object} can't have the owner {owner}: they would have to be in the same namespace")]
    Namespace {
        /// The object.
        object: Key,
        /// The owner.
        owner: Key,
    },
    /// The owner was not read from the API server.
    #[error("{owner} has no uid, so it can't own anything yet")]
    NoUid {
        /// The owner.
        owner: Key,
    },
}

/// Makes an owner the controller of an object; nothing if it is that already.
///
/// ```
/// use k8s_openapi::api::core::v1::{ConfigMap, Pod};
/// use kubewright::owners;
///
/// let mut pod = Pod::default();
/// (pod.metadata.uid, pod.metadata.namespace) = (Some("u".into()), Some("n".into()));
/// let mut map = ConfigMap::default();
/// map.metadata.namespace = Some("n".into());
/// owners::set_controller(&pod, &mut map)?;
/// assert!(owners::is_owner(&pod, &map) && owners::controller(&map).is_some());
/// assert!(owners::remove_owner(&pod, &mut map));
/// # Ok::<_, owners::OwnerError>(())
/// ```
///
/// # Errors
/// When another controls it, or the owner can't own it.
pub fn set_controller<O: Object, C: Object>(owner: &O, object: &mut C) -> Result<(), OwnerError> {
    if let Some(other) = controller(object).filter(|other| Some(&other.uid) != owner.meta().uid.as_ref()) {
        let controller = format!("{}/{}", other.kind, other.name);
        return Err(OwnerError::Controlled { object: Key::of(object), controller });
    }
    set(owner, object, true)
}

/// Makes an owner one of an object's owners: its controller if it is that already, and not otherwise.
///
/// # Errors
/// When the owner can't own it.
pub fn set_owner<O: Object, C: Object>(owner: &O, object: &mut C) -> Result<(), OwnerError> {
    let controls = controller(object).is_some_and(|known| Some(&known.uid) == owner.meta().uid.as_ref());
    set(owner, object, controls)
}

fn set<O: Object, C: Object>(owner: &O, object: &mut C, controls: bool) -> Result<(), OwnerError> {
    let (kind, key) = (Kind::of::<O>(), Key::of(owner));
    let Some(uid) = owner.meta().uid.clone() else { return Err(OwnerError::NoUid { owner: key }) };
    if kind.namespaced && key.namespace() != object.meta().namespace.as_deref() {
        return Err(OwnerError::Namespace { object: Key::of(object), owner: key });
    }
    let reference = OwnerReference {
        api_version: kind.api_version(),
        kind: kind.kind,
        name: key.name().to_owned(),
        uid,
        controller: controls.then_some(true),
        block_owner_deletion: controls.then_some(true),
    };
    let owners = object.meta_mut().owner_references.get_or_insert_default();
    match owners.iter_mut().find(|known| known.uid == reference.uid) {
        Some(known) => *known = reference,
        None => owners.push(reference),
    }
    Ok(())
}

/// Takes an owner away from an object, be it its controller; whether it was one.
pub fn remove_owner<O: Object, C: Object>(owner: &O, object: &mut C) -> bool {
    let Some(owners) = &mut object.meta_mut().owner_references else { return false };
    let before = owners.len();
    owners.retain(|known| Some(&known.uid) != owner.meta().uid.as_ref());
    let removed = owners.len() < before;
    if owners.is_empty() {
        object.meta_mut().owner_references = None;
    }
    removed
}

/// Whether an object is among another's owners.
pub fn is_owner<O: Object, C: Object>(owner: &O, object: &C) -> bool {
    references(object).iter().any(|known| Some(&known.uid) == owner.meta().uid.as_ref())
}

/// The owner that controls an object, if one does.
pub fn controller<C: Object>(object: &C) -> Option<&OwnerReference> {
    references(object).iter().find(|known| known.controller == Some(true))
}

fn references<C: Object>(object: &C) -> &[OwnerReference] {
    object.meta().owner_references.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
    use kube::Resource;

    use super::*;

    fn named<K: Object + Default + Resource>(namespace: Option<&str>, name: &str) -> K {
        let mut object = K::default();
        object.meta_mut().name = Some(name.into());
        object.meta_mut().namespace = namespace.map(str::to_owned);
        object.meta_mut().uid = Some(format!("uid of {name}"));
        object
    }

    #[test]
    fn an_object_has_one_controller_and_any_number_of_owners() {
        let (web, other): (Pod, Pod) = (named(Some("n"), "web"), named(Some("n"), "other"));
        let mut map: ConfigMap = named(Some("n"), "m");
        for _ in 0..2 {
            set_controller(&web, &mut map).unwrap();
            set_owner(&other, &mut map).unwrap();
            // To be an owner besides takes nothing away from a controller.
            set_owner(&web, &mut map).unwrap();
        }
        let told = |map: &ConfigMap| -> Vec<(String, Option<bool>)> {
            references(map).iter().map(|owner| (owner.name.clone(), owner.controller)).collect()
        };
        assert_eq!(told(&map), [("web".into(), Some(true)), ("other".into(), None)]);
        let refused = set_controller(&other, &mut map).unwrap_err();
        assert_eq!(refused.to_string(), "n/m is controlled by Pod/web already");
        assert!(remove_owner(&web, &mut map) && !remove_owner(&web, &mut map));
        assert!(!is_owner(&web, &map) && is_owner(&other, &map) && controller(&map).is_none());
        set_controller(&other, &mut map).unwrap();
        assert_eq!(told(&map), [("other".into(), Some(true))]);
        remove_owner(&other, &mut map);
        assert_eq!(map.metadata.owner_references, None);
    }

    #[test]
    fn an_owner_in_a_namespace_owns_nothing_elsewhere_and_one_of_the_cluster_anything() {
        let pod: Pod = named(Some("n"), "web");
        for namespace in [Some("m"), None] {
            let mut map: ConfigMap = named(namespace, "m");
            assert!(matches!(set_controller(&pod, &mut map), Err(OwnerError::Namespace { .. })));
        }
        let mut map: ConfigMap = named(Some("m"), "m");
        set_owner(&named::<Namespace>(None, "all"), &mut map).unwrap();
        let unborn = Namespace::default();
        assert!(matches!(set_owner(&unborn, &mut map), Err(OwnerError::NoUid { .. })));
        assert!(!is_owner(&unborn, &map), "nobody without a uid owns anything");
    }
}
