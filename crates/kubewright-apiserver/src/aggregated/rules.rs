//! What must hold of the objects of a kind beyond its schema, said about its Rust type.

use std::borrow::Cow;
use std::sync::Arc;

use kubewright_machinery::field::{self, Path};
use kubewright_machinery::meta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Object;
use crate::resources::{Strategy, WriteContext};

/// The rules of a kind. The schema has been judged before; what it says need not be said again.
pub trait Rules: Send + Sync + 'static {
    /// The kind's own fields.
    type Body: Serialize + DeserializeOwned;

    /// Sets what a writer need not or may not set. Of the metadata, labels and annotations can be changed. `old` is
    /// absent on create.
    fn prepare(&self, new: &mut Object<Self::Body>, old: Option<&Object<Self::Body>>) {
        let _ = (new, old);
    }

    /// What is wrong with an object, or with a change.
    fn validate(&self, new: &Object<Self::Body>, old: Option<&Object<Self::Body>>) -> Vec<field::Error> {
        let _ = (new, old);
        Vec::new()
    }

    /// What is allowed but unwise: the writer is warned.
    fn warn(&self, new: &Object<Self::Body>, old: Option<&Object<Self::Body>>) -> Vec<String> {
        let _ = (new, old);
        Vec::new()
    }
}

/// The rules of a kind on top of those that every kind of that shape has.
pub(super) struct Ruled<R> {
    pub inner: Arc<dyn Strategy>,
    pub rules: R,
}

impl<R: Rules> Ruled<R> {
    fn prepare(&self, object: &mut Value, old: Option<&Value>) {
        // What does not fit the type is said when it is validated.
        let Ok(mut new) = Object::<R::Body>::read(object) else { return };
        let old = old.and_then(|old| Object::read(old).ok());
        let Ok(before) = new.write() else { return };
        self.rules.prepare(&mut new, old.as_ref());
        if let Ok(after) = new.write() {
            take_over(object, &before, &after);
        }
    }

    fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<field::Error> {
        match Object::<R::Body>::read(object) {
            Ok(new) => {
                let old = old.and_then(|old| Object::read(old).ok());
                self.rules.validate(&new, old.as_ref())
            }
            Err(error) => {
                let kind = meta::kind(object);
                vec![field::Error::invalid(&Path::ROOT, kind, format!("it does not decode: {error}"))]
            }
        }
    }
}

/// Puts into an object what changed between two forms of it.
fn take_over(object: &mut Value, before: &Value, after: &Value) {
    for key in ["labels", "annotations"] {
        let (was, is) = (&before["metadata"][key], &after["metadata"][key]);
        if was != is {
            match is {
                Value::Null => drop(meta::remove(object, key)),
                is => meta::set(object, key, is.clone()),
            }
        }
    }
    let (Some(fields), Some(before), Some(after)) =
        (object.as_object_mut(), before.as_object(), after.as_object())
    else {
        return;
    };
    let own = |key: &str| !matches!(key, "metadata" | "kind" | "apiVersion");
    for key in before.keys().filter(|key| own(key) && !after.contains_key(*key)) {
        fields.remove(key);
    }
    for (key, value) in after.iter().filter(|(key, value)| own(key) && before.get(*key) != Some(value)) {
        fields.insert(key.clone(), value.clone());
    }
}

impl<R: Rules> Strategy for Ruled<R> {
    fn default(&self, object: &mut Value) {
        self.inner.default(object);
    }

    fn prepare_create(&self, cx: &WriteContext<'_>, object: &mut Value) {
        self.inner.prepare_create(cx, object);
        self.prepare(object, None);
    }

    fn validate_create(&self, cx: &WriteContext<'_>, object: &Value) -> Vec<field::Error> {
        let mut faults = self.inner.validate_create(cx, object);
        if faults.is_empty() {
            faults = self.validate(object, None);
        }
        faults
    }

    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        self.inner.prepare_update(cx, object, old);
        self.prepare(object, Some(old));
    }

    fn validate_update(&self, cx: &WriteContext<'_>, object: &Value, old: &Value) -> Vec<field::Error> {
        let mut faults = self.inner.validate_update(cx, object, old);
        if faults.is_empty() {
            faults = self.validate(object, Some(old));
        }
        faults
    }

    fn warnings(&self, cx: &WriteContext<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = self.inner.warnings(cx, object, old);
        if let Ok(new) = Object::read(object) {
            let old = old.and_then(|old| Object::read(old).ok());
            warnings.extend(self.rules.warn(&new, old.as_ref()));
        }
        warnings
    }

    fn selectable_fields(&self) -> &[Box<str>] {
        self.inner.selectable_fields()
    }

    fn field<'v>(&self, object: &'v Value, name: &str) -> Option<Cow<'v, str>> {
        self.inner.field(object, name)
    }

    fn reset_fields(&self) -> &[&[&str]] {
        self.inner.reset_fields()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_rules_changed_is_taken_over() {
        let mut object = json!({
            "kind": "K", "apiVersion": "a/v1", "metadata": {"name": "x", "uid": "1", "labels": {"a": "b"}},
            "size": 1, "note": "n", "unknown": {"kept": true},
        });
        let before = json!({"metadata": {"labels": {"a": "b"}}, "size": 1, "note": "n"});
        let after = json!({"metadata": {"uid": "forged", "annotations": {"c": "d"}}, "size": 2});
        take_over(&mut object, &before, &after);
        assert_eq!(
            object,
            json!({
                "kind": "K", "apiVersion": "a/v1", "metadata": {"name": "x", "uid": "1", "annotations": {"c": "d"}},
                "size": 2, "unknown": {"kept": true},
            })
        );
    }
}
