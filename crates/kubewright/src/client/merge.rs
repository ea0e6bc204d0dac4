//! Merge patches (RFC 7396) of what changed between two states of an object: what a read, a change and a write come to when
//! others write the object too. Pure; sending them is `kube`'s.

use kube::api::Patch;
use kubewright_machinery::patch::merge;
use serde_json::{Value, json};

use crate::Result;
use crate::kind::Object;

/// What makes one state of an object another, and nothing else: fields that did not change are left to others. Lists are
/// replaced as a whole.
///
/// ```no_run
/// # use k8s_openapi::api::core::v1::ConfigMap;
/// # use kube::Api;
/// # use kubewright::client::MergePatch;
/// # use kubewright::{Context, Result};
/// # async fn example(cx: &Context, map: &ConfigMap) -> Result {
/// let mut changed = map.clone();
/// changed.data.get_or_insert_default().insert("colour".into(), "blue".into());
/// let patch = MergePatch::between(map, &changed)?;
/// if !patch.is_empty() {
///     let maps: Api<ConfigMap> = Api::namespaced(cx.client(), "team");
///     maps.patch("settings", &Default::default(), &patch.if_unchanged().into()).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MergePatch {
    patch: Value,
    version: Option<String>,
}

impl MergePatch {
    /// What makes `before` into `after`.
    ///
    /// # Errors
    /// When one of them can't be written as JSON.
    pub fn between<K: Object>(before: &K, after: &K) -> Result<MergePatch> {
        let patch = merge::diff(&serde_json::to_value(before)?, &serde_json::to_value(after)?);
        Ok(MergePatch { patch, version: before.meta().resource_version.clone() })
    }

    /// Only if nobody has written the object since `before`: a conflict (409) otherwise.
    #[must_use]
    pub fn if_unchanged(mut self) -> MergePatch {
        if let Some(version) = &self.version {
            self.patch["metadata"]["resourceVersion"] = json!(version);
        }
        self
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.patch.as_object().is_none_or(serde_json::Map::is_empty)
    }

    /// The patch as JSON.
    pub fn as_json(&self) -> &Value {
        &self.patch
    }
}

impl From<MergePatch> for Patch<Value> {
    fn from(patch: MergePatch) -> Patch<Value> {
        Patch::Merge(patch.patch)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn a_patch_says_what_changed_and_the_version_only_if_asked() {
        let before: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": "m", "resourceVersion": "7", "labels": {"a": "1", "b": "1"}}, "data": {"k": "v"},
        }))
        .unwrap();
        assert!(MergePatch::between(&before, &before).unwrap().is_empty());
        let mut after = before.clone();
        after.metadata.labels = Some([("a".to_owned(), "2".to_owned())].into());
        after.data = None;
        let patch = MergePatch::between(&before, &after).unwrap();
        let expected = json!({"metadata": {"labels": {"a": "2", "b": null}}, "data": null});
        assert_eq!(patch.as_json(), &expected);
        let patch = patch.if_unchanged();
        assert_eq!(patch.as_json()["metadata"]["resourceVersion"], "7");
        assert!(!MergePatch::between(&before, &before).unwrap().if_unchanged().is_empty());
    }
}
