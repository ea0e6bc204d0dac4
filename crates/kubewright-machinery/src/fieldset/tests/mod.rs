//! Server-side apply as a whole, as sentences.

mod applying;
mod owners;
mod properties;
mod versions;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::typed::{ObjectType, schema_of, ty};
use super::{ApplyError, FieldManager};

/// An object that managers write to; every write is a second after the one before.
struct World {
    fields: FieldManager,
    object: Option<Value>,
    seconds: i64,
    /// What a store does with an object before it keeps it.
    stored: fn(Value) -> Value,
}

impl World {
    fn new() -> Self {
        Self::of(&ty())
    }

    fn of(ty: &ObjectType) -> Self {
        Self::with(FieldManager::single("example.com/v1", "Thing", schema_of(ty)))
    }

    fn with(fields: FieldManager) -> Self {
        Self { fields, object: None, seconds: 1_700_000_000, stored }
    }

    fn now(&mut self) -> Timestamp {
        self.seconds += 1;
        Timestamp::from_second(self.seconds).unwrap()
    }

    /// Applies with `example.com/v1`'s envelope around `spec`; an empty one is left out.
    fn apply(&mut self, manager: &str, spec: Value) -> Result<(), ApplyError> {
        let rest = if spec == json!({}) { spec } else { json!({ "spec": spec }) };
        self.apply_object(manager, thing(rest), false)
    }

    fn force(&mut self, manager: &str, spec: Value) {
        self.apply_object(manager, thing(json!({ "spec": spec })), true).unwrap();
    }

    fn apply_object(&mut self, manager: &str, patch: Value, force: bool) -> Result<(), ApplyError> {
        let now = self.now();
        let applied = self.fields.apply(self.object.as_ref(), &patch, manager, force, now)?;
        self.object = Some((self.stored)(applied));
        Ok(())
    }

    /// Replaces the spec, as a PUT that sends no managedFields.
    fn update(&mut self, manager: &str, spec: Value) {
        let mut new = self.object.clone().unwrap_or_else(|| thing(json!({})));
        new["spec"] = spec;
        new["metadata"].as_object_mut().unwrap().remove("managedFields");
        self.update_object(manager, new);
    }

    fn update_object(&mut self, manager: &str, new: Value) {
        let now = self.now();
        let updated = self.fields.update(self.object.as_ref(), new, manager, now);
        self.object = Some((self.stored)(updated));
    }

    fn spec(&self) -> Value {
        self.object.as_ref().unwrap().get("spec").cloned().unwrap_or(Value::Null)
    }

    fn entries(&self) -> Vec<Value> {
        let entries = self.object.as_ref().unwrap().pointer("/metadata/managedFields");
        entries.and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// What a manager owns below `spec`; null for nothing.
    fn owns(&self, manager: &str) -> Value {
        self.entries()
            .into_iter()
            .find(|entry| entry["manager"] == manager)
            .and_then(|entry| entry["fieldsV1"].get("f:spec").cloned())
            .unwrap_or(Value::Null)
    }

    fn managers(&self) -> Vec<String> {
        let name = |entry: &Value| {
            format!("{}/{}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap())
        };
        self.entries().iter().map(name).collect()
    }
}

/// An object in `example.com/v1` with a name.
fn thing(rest: Value) -> Value {
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}});
    let Value::Object(rest) = rest else { panic!("an object") };
    for (name, value) in rest {
        match (object.get_mut(&name), value) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
            (_, value) => object[name] = value,
        }
    }
    object
}

/// What a store would keep: a uid, and no nulls outside unknown ground.
fn stored(mut object: Value) -> Value {
    fn drop_nulls(map: &mut Map<String, Value>) {
        map.retain(|_, value| !value.is_null());
        for value in map.values_mut() {
            if let Value::Object(map) = value {
                drop_nulls(map);
            }
        }
    }
    object["metadata"]["uid"] = json!("1");
    drop_nulls(object.as_object_mut().unwrap());
    object
}

/// What a store would keep that keeps nulls: a uid.
fn stored_with_nulls(mut object: Value) -> Value {
    object["metadata"]["uid"] = json!("1");
    object
}

fn message(result: Result<(), ApplyError>) -> String {
    result.unwrap_err().to_string()
}
