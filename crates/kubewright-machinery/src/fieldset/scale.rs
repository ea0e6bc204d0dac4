//! Owners of replicas, between an object and its `/scale`.
//!
//! A Scale is not stored: its one owned field, `.spec.replicas`, is a field of the object behind it. A write of
//! `/scale` takes the entries of the object that own that field over to the Scale, runs a
//! [`FieldManager`](super::FieldManager) of the Scale on it, and brings them back.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::managers::{Managers, Owned};
use super::path::Path;
use super::set::Set;

/// The version of every Scale.
pub const SCALE_VERSION: &str = "autoscaling/v1";

static REPLICAS: LazyLock<Path> = LazyLock::new(|| Path::fields(&["spec", "replicas"]));

/// Where replicas are, per apiVersion of the object; none where that version has no `/scale`.
pub type ReplicasPaths = BTreeMap<String, Option<Path>>;

/// The entries of a Scale: those of the object that own replicas.
pub fn to_scale(object: &Managers, replicas: &ReplicasPaths) -> Managers {
    let mut scale = Managers::new();
    for (id, owned) in object.iter() {
        if let Some(Some(path)) = replicas.get(&owned.api_version)
            && owned.set.has(&path.0)
        {
            let set = Arc::new(Set::of([&*REPLICAS]));
            scale.set(id.clone(), Owned { set, api_version: SCALE_VERSION.into(), time: owned.time });
        }
    }
    scale
}

/// The entries of the object after a write of its Scale. `scale` are those decoded from the Scale that was
/// written; `api_version` is the object's. Who lost replicas there loses them here; who took them gets an entry.
/// Entries of versions that are not in `replicas` are dropped.
pub fn from_scale(
    object: &Managers,
    scale: &Managers,
    replicas: &ReplicasPaths,
    api_version: &str,
) -> Managers {
    let mut left: BTreeMap<_, _> = scale.iter().collect();
    let mut out = Managers::new();
    for (id, owned) in object.iter() {
        let Some(path) = replicas.get(&owned.api_version) else { continue };
        match path {
            Some(path) if owned.set.has(&path.0) && left.remove(id).is_none() => {
                let set = Arc::new(owned.set.difference(&Set::of([path])));
                out.set(id.clone(), Owned { set, ..owned.clone() });
            }
            _ => out.set(id.clone(), owned.clone()),
        }
    }
    let Some(Some(path)) = replicas.get(api_version) else { return out };
    for (id, owned) in left {
        if owned.set.has(&REPLICAS.0) {
            let set = Arc::new(Set::of([path]));
            let time = object.get(id).and_then(|before| before.time);
            out.set(id.clone(), Owned { set, api_version: api_version.into(), time });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(manager: &str, operation: &str, version: &str, subresource: &str, fields: Value) -> Value {
        json!({
            "manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": fields}, "subresource": subresource,
        })
    }

    fn decode(entries: Value) -> Managers {
        Managers::decode(Some(&entries)).unwrap()
    }

    fn paths() -> ReplicasPaths {
        [("apps/v1".to_string(), Some(Path::fields(&["spec", "replicas"])))].into_iter().collect()
    }

    #[test]
    fn only_owners_of_replicas_come_to_the_scale() {
        let object = decode(json!([
            entry("a", "Apply", "apps/v1", "", json!({"f:replicas": {}, "f:template": {}})),
            entry("b", "Update", "apps/v1", "", json!({"f:template": {}})),
        ]));
        let scale = to_scale(&object, &paths()).encode().unwrap();
        assert_eq!(scale.as_array().unwrap().len(), 1);
        assert_eq!(scale[0]["manager"], "a");
        assert_eq!(scale[0]["apiVersion"], SCALE_VERSION);
        assert_eq!(scale[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    }

    #[test]
    fn who_took_replicas_gets_an_entry_and_who_lost_them_keeps_the_rest() {
        let object = decode(json!([
            entry("a", "Apply", "apps/v1", "", json!({"f:replicas": {}, "f:template": {}})),
            entry("gone", "Update", "apps/v0", "", json!({"f:template": {}})),
        ]));
        let scale =
            decode(json!([entry("hpa", "Update", SCALE_VERSION, "scale", json!({"f:replicas": {}}))]));
        let after = from_scale(&object, &scale, &paths(), "apps/v1").encode().unwrap();
        assert_eq!(
            after,
            json!([
                {"manager": "a", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": {}}}},
                {"manager": "hpa", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale"},
            ])
        );
    }

    #[test]
    fn a_shared_value_stays_with_its_owner() {
        let object = decode(json!([entry("a", "Apply", "apps/v1", "", json!({"f:replicas": {}}))]));
        let shared = decode(json!([
            entry("a", "Apply", SCALE_VERSION, "", json!({"f:replicas": {}})),
            entry("hpa", "Apply", SCALE_VERSION, "scale", json!({"f:replicas": {}})),
        ]));
        let after = from_scale(&object, &shared, &paths(), "apps/v1").encode().unwrap();
        assert_eq!(after.as_array().unwrap().len(), 2);
        assert!(
            after
                .as_array()
                .unwrap()
                .iter()
                .all(|entry| entry["fieldsV1"] == json!({"f:spec": {"f:replicas": {}}}))
        );
    }
}
