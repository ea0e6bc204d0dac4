//! Writing the status of the reconciled object: applied to the status subresource by the operator's
//! field manager, so that a field no longer reported goes; nothing is sent when nothing changes.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use super::drift::Target;
use crate::Result;
use crate::kind::{Key, Kind, Object};

impl Context {
    /// Reports a status. Sends nothing if the cache shows the object with this very status. The object's uid
    /// goes along, so that the status never lands on another object of the same name. That the object is gone meanwhile
    /// is no error: there is nobody to report of.
    ///
    /// # Errors
    /// When the API server refuses it. A definition without `subresources.status` answers "not found".
    pub async fn patch_status<K: Object, S: Serialize>(&self, object: &Arc<K>, status: S) -> Result {
        self.report_status(&self.scoped.manager, object, status).await
    }

    /// The same as another field manager, whose part of the status alone it is.
    pub(crate) async fn report_status<K: Object, S: Serialize>(
        &self,
        manager: &str,
        object: &Arc<K>,
        status: S,
    ) -> Result {
        let kind = Kind::of::<K>();
        let key = Key::of(&**object);
        let mut status = serde_json::to_value(status)?;
        drop_nulls(&mut status);
        let target = Target { kind, key: key.clone(), status: true };
        let wish = json!({
            "apiVersion": target.kind.api_version(),
            "kind": target.kind.kind,
            "metadata": {
                "name": key.name(),
                "namespace": key.namespace(),
                "uid": object.meta().uid,
            },
            "status": status,
        });
        let wish = without_nulls(wish);
        if let Some(cached) = self.scoped.view.informer(&target.kind).and_then(|informer| informer.get(&key))
        {
            let now: Value = cached
                .at(&["status"])
                .and_then(|bytes| serde_json::from_slice(bytes).ok())
                .unwrap_or_else(|| json!({}));
            let same_object = object.meta().uid.as_deref() == Some(cached.uid());
            if same_object
                && (now == wish["status"] || self.scoped.memory.is_applied(&key, &target, &wish, &cached))
            {
                return Ok(());
            }
        }
        let applied = self.apply_value(manager, &target, &wish).await;
        let object = (&target.kind, &key, object.meta().uid.as_deref());
        if let Some(result) = self.unless_gone(applied, object).await? {
            self.scoped.memory.applied(&key, target, &wish, &result);
        }
        Ok(())
    }
}

fn without_nulls(mut value: Value) -> Value {
    drop_nulls(&mut value);
    value
}

/// An absent field and a null one mean the same; servers send the former.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_absent() {
        assert_eq!(without_nulls(json!({"a": null, "b": [{"c": null, "d": 1}]})), json!({"b": [{"d": 1}]}));
    }
}
