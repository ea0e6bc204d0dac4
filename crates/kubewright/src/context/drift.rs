//! Whether an apply would change anything: pure. What was applied last is remembered by its hash and
//! the revision it led to, so that an unchanged wish costs no request; what others changed since is
//! compared with the wish. Forgetting is safe: it costs one apply that changes nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use parking_lot::Mutex;
use serde_json::Value;

use crate::cache::Cached;
use crate::kind::{Key, Kind};

/// What is applied: an object, or its status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub kind: Kind,
    pub key: Key,
    pub status: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    hash: u64,
    uid: u64,
    version: u64,
}

/// What was applied last, by owner and target.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<Key, HashMap<Target, Last>>>);

impl Memory {
    /// Whether applying `wish` would change nothing on the cached object.
    pub(crate) fn is_applied(&self, owner: &Key, target: &Target, wish: &Value, cached: &Cached) -> bool {
        let mut memory = self.0.lock();
        let Some(last) = memory.get_mut(owner).and_then(|targets| targets.get_mut(target)) else {
            return false;
        };
        // A wish that dropped a field is still covered by what is there, so the hash must agree too.
        if last.hash != hash(wish) || last.uid != hash_of(cached.uid().as_bytes()) {
            return false;
        }
        if last.version == cached.resource_version() {
            return true;
        }
        let covered = serde_json::from_slice(cached.json()).is_ok_and(|actual: Value| covers(wish, &actual));
        if covered {
            last.version = cached.resource_version();
        }
        covered
    }

    /// Whether what was applied last to this very object was another wish.
    pub(crate) fn was_another(&self, owner: &Key, target: &Target, wish: &Value, cached: &Cached) -> bool {
        let memory = self.0.lock();
        let last = memory.get(owner).and_then(|targets| targets.get(target));
        last.is_some_and(|last| last.uid == hash_of(cached.uid().as_bytes()) && last.hash != hash(wish))
    }

    /// Whether anything is known to have been applied.
    pub(crate) fn knows(&self, owner: &Key, target: &Target) -> bool {
        self.0.lock().get(owner).is_some_and(|targets| targets.contains_key(target))
    }

    /// Remembers an apply and the object it led to.
    pub(crate) fn applied(&self, owner: &Key, target: Target, wish: &Value, result: &Cached) {
        let last = Last {
            hash: hash(wish),
            uid: hash_of(result.uid().as_bytes()),
            version: result.resource_version(),
        };
        self.0.lock().entry(owner.clone()).or_default().insert(target, last);
    }

    /// Keeps of an owner's targets only those that are still wished for.
    pub(crate) fn retain(&self, owner: &Key, mut keep: impl FnMut(&Target) -> bool) {
        if let Some(targets) = self.0.lock().get_mut(owner) {
            targets.retain(|target, _| keep(target));
        }
    }

    /// Forgets all owners but these.
    pub(crate) fn keep(&self, keep: impl Fn(&Key) -> bool) {
        self.0.lock().retain(|owner, _| keep(owner));
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.0.lock().remove(owner);
    }
}

fn hash(value: &Value) -> u64 {
    hash_of(value.to_string().as_bytes())
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Whether an object holds everything that is wished for. Elements that others added to lists of objects
/// are no drift: servers and other managers do that.
pub(crate) fn covers(wish: &Value, actual: &Value) -> bool {
    match (wish, actual) {
        (Value::Null, _) => true,
        (Value::Object(wish), Value::Object(actual)) => wish.iter().all(|(name, value)| {
            value.is_null() || actual.get(name).is_some_and(|actual| covers(value, actual))
        }),
        (Value::Array(wish), Value::Array(actual))
            if wish.iter().all(Value::is_object) && !wish.is_empty() =>
        {
            let mut rest = actual.iter();
            wish.iter().all(|element| rest.any(|actual| covers(element, actual)))
        }
        (Value::Number(wish), Value::Number(actual)) => wish == actual || wish.as_f64() == actual.as_f64(),
        _ => wish == actual,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn cached(version: u64, image: &str, labels: &Value) -> Cached {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "uid": "u", "resourceVersion": version.to_string(), "labels": labels},
            "spec": {"containers": [{"name": "c", "image": image, "imagePullPolicy": "Always"}]},
        });
        Cached::read(object.to_string().as_bytes(), &Kind::of::<Pod>()).unwrap()
    }

    fn target() -> Target {
        Target { kind: Kind::of::<Pod>(), key: "p".into(), status: false }
    }

    #[test]
    fn an_unchanged_wish_is_applied_once() {
        let (memory, owner) = (Memory::default(), Key::from("o"));
        let wish = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "a"}]}});
        let object = cached(5, "a", &json!({}));
        assert!(!memory.is_applied(&owner, &target(), &wish, &object));
        memory.applied(&owner, target(), &wish, &object);
        assert!(memory.is_applied(&owner, &target(), &wish, &object));
        assert!(memory.is_applied(&owner, &target(), &wish, &cached(9, "a", &json!({"added": "by others"}))));
        assert!(!memory.is_applied(&owner, &target(), &wish, &cached(12, "b", &json!({}))));
        memory.forget(&owner);
        assert!(!memory.is_applied(&owner, &target(), &wish, &object));
    }

    #[test]
    fn a_field_that_is_no_longer_wished_for_is_applied() {
        let (memory, owner) = (Memory::default(), Key::from("o"));
        let labels = json!({"a": "1", "b": "2"});
        let before = json!({"metadata": {"name": "p", "labels": labels}});
        memory.applied(&owner, target(), &before, &cached(5, "a", &labels));
        let after = json!({"metadata": {"name": "p", "labels": {"a": "1"}}});
        assert!(!memory.is_applied(&owner, &target(), &after, &cached(5, "a", &labels)));
        assert!(memory.was_another(&owner, &target(), &after, &cached(5, "a", &labels)));
        assert!(!memory.was_another(&owner, &target(), &before, &cached(9, "a", &labels)));
        assert!(memory.knows(&owner, &target()) && !memory.knows(&"other".into(), &target()));
    }

    #[test]
    fn elements_others_add_are_no_drift_and_changed_ones_are() {
        let wish = json!([{"name": "a"}, {"name": "c"}]);
        assert!(covers(&wish, &json!([{"name": "a", "x": 1}, {"name": "b"}, {"name": "c"}])));
        assert!(!covers(&wish, &json!([{"name": "a"}])));
        assert!(!covers(&json!(["x"]), &json!(["x", "y"])));
        assert!(!covers(&json!([]), &json!(["y"])));
        assert!(covers(&json!({"a": null}), &json!({})));
    }
}
