//! Writing a status as the roles of Kubernetes' controllers have it: they grant `update` on it, and no `patch`.

use std::fmt::Debug;

use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt as _};
use kubewright::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::unless_late;

/// Whether two statuses tell the same: a count of zero and none at all do.
pub(super) fn same<S: Serialize>(one: &S, other: &S) -> bool {
    let told = |status: &S| {
        let mut told = serde_json::to_value(status).unwrap_or_default();
        if let Value::Object(fields) = &mut told {
            fields.retain(|_, value| !value.is_null() && value.as_i64() != Some(0));
        }
        told
    };
    told(one) == told(other)
}

/// Replaces the status of an object with that of `object`, which has been read before. Where somebody else has written
/// in between, or the object is gone, nothing happens: that event leads here again.
pub(super) async fn update<K>(api: &Api<K>, object: &K, cx: &Context) -> Result
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams { field_manager: Some(cx.field_manager().to_owned()), ..PostParams::default() };
    unless_late(api.replace_status(&object.name_any(), &params, object).await)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSetStatus;

    use super::*;

    #[test]
    fn a_count_of_zero_and_none_are_the_same() {
        let of =
            |ready| ReplicaSetStatus { replicas: 2, ready_replicas: ready, ..ReplicaSetStatus::default() };
        assert!(same(&of(Some(0)), &of(None)));
        assert!(!same(&of(Some(1)), &of(None)));
    }
}
