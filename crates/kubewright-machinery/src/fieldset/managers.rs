//! `metadata.managedFields`: who owns which fields, decoded and encoded.
//!
//! An entry is identified by manager, operation, subresource and, for updates, by its apiVersion: one applier has
//! one entry, whatever version it applies. The order of entries is that of the encoded list: appliers first,
//! then by time, then by name. Nothing here decides who owns what; see [`super::apply`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::json::SetError;
use super::set::Set;
use crate::field::quote;

/// How many entries of updates an object keeps; older ones become one entry of [`ANCIENT_CHANGES`].
pub const MAX_UPDATE_MANAGERS: usize = 10;

/// The manager of bundled updates.
pub const ANCIENT_CHANGES: &str = "ancient-changes";

/// The manager of what an object held when its first apply came and nobody was tracked.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Every other write.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What identifies an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManagerId {
    /// Name of the manager.
    pub manager: String,
    /// Its operation.
    pub operation: Operation,
    /// apiVersion of an update; empty for an apply.
    pub api_version: String,
    /// The subresource written, such as `status`; empty for the object itself.
    pub subresource: String,
}

impl ManagerId {
    /// The identity of a write; a manager without a name is `unknown`.
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        Self {
            manager: if manager.is_empty() { "unknown" } else { manager }.into(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => api_version.into(),
            },
            subresource: subresource.into(),
        }
    }
}

/// As conflicts name it: `"kubectl" with subresource "status" using apps/v1`.
impl fmt::Display for ManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.manager))?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {}", quote(&self.subresource))?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// What an entry owns. Cloning shares the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The fields, as named in `api_version`.
    pub set: Arc<Set>,
    /// The version that the names of the fields belong to.
    pub api_version: String,
    /// When fields were last taken or an apply last changed the object; absent where nothing was written.
    pub time: Option<Timestamp>,
}

/// `managedFields` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// An entry, or the list, is not of the API's shape.
    #[error("entry {0} is no managed fields entry")]
    Shape(usize),
    /// Neither `Apply` nor `Update`.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No apiVersion.
    #[error("apiVersion must not be empty")]
    ApiVersion,
    /// No fieldsType.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// A fieldsType other than `FieldsV1`.
    #[error("invalid fieldsType {} in managed fields entry {at}", quote(name))]
    FieldsType {
        /// The type.
        name: String,
        /// Which entry.
        at: usize,
    },
    /// The time is no RFC 3339 time.
    #[error("invalid time {} in managed fields entry {at}", quote(text))]
    Time {
        /// What stands there.
        text: String,
        /// Which entry.
        at: usize,
    },
    /// The fields are no field set.
    #[error("error decoding set: {source}")]
    Fields {
        /// Why not.
        source: SetError,
    },
}

/// The entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers(BTreeMap<ManagerId, Owned>);

impl Managers {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `metadata.managedFields`; null or absent is no entries.
    ///
    /// # Errors
    /// [`DecodeError`] for the first entry that cannot be used.
    pub fn decode(managed_fields: Option<&Value>) -> Result<Self, DecodeError> {
        let entries = match managed_fields {
            None | Some(Value::Null) => return Ok(Self::new()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(DecodeError::Shape(0)),
        };
        let mut out = BTreeMap::new();
        for (i, entry) in entries.iter().enumerate() {
            let (id, owned) = decode_entry(entry, i)?;
            out.insert(id, owned);
        }
        Ok(Self(out))
    }

    /// Decodes the entries of an object.
    ///
    /// # Errors
    /// See [`Managers::decode`].
    pub fn of(object: &Value) -> Result<Self, DecodeError> {
        Self::decode(object.pointer("/metadata/managedFields"))
    }

    /// `metadata.managedFields` in its order; none without entries.
    pub fn encode(&self) -> Option<Value> {
        if self.0.is_empty() {
            return None;
        }
        let seconds = |owned: &Owned| owned.time.map_or(0, Timestamp::as_second);
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|(a, x), (b, y)| {
            (a.operation, seconds(x), &a.manager, &x.api_version, &a.subresource).cmp(&(
                b.operation,
                seconds(y),
                &b.manager,
                &y.api_version,
                &b.subresource,
            ))
        });
        Some(entries.into_iter().map(|(id, owned)| encode_entry(id, owned)).collect())
    }

    /// Puts the entries into an object, in place of those it has.
    pub fn store(&self, object: &mut Value) {
        let Value::Object(object) = object else { return };
        match self.encode() {
            Some(entries) => {
                let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(metadata) = metadata {
                    metadata.insert("managedFields".into(), entries);
                }
            }
            None => {
                if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
                    metadata.remove("managedFields");
                }
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry of an identity.
    pub fn get(&self, id: &ManagerId) -> Option<&Owned> {
        self.0.get(id)
    }

    /// Sets an entry; an empty set removes it.
    pub fn set(&mut self, id: ManagerId, owned: Owned) {
        if owned.set.is_empty() {
            self.0.remove(&id);
        } else {
            self.0.insert(id, owned);
        }
    }

    /// Sets an entry, an empty one too: an applier of nothing still takes part until the owners are settled.
    pub(super) fn insert_as_is(&mut self, id: ManagerId, owned: Owned) {
        self.0.insert(id, owned);
    }

    /// Removes an entry.
    pub fn remove(&mut self, id: &ManagerId) -> Option<Owned> {
        self.0.remove(id)
    }

    /// All entries, by identity.
    pub fn iter(&self) -> impl Iterator<Item = (&ManagerId, &Owned)> {
        self.0.iter()
    }

    /// Every entry through `change`; none drops it, as does an empty set.
    pub(super) fn rewrite<E>(
        self,
        mut change: impl FnMut(&ManagerId, Owned) -> Result<Option<Owned>, E>,
    ) -> Result<Self, E> {
        let mut out = BTreeMap::new();
        for (id, owned) in self.0 {
            if let Some(owned) = change(&id, owned)? {
                out.insert(id, owned);
            }
        }
        Ok(Self(out))
    }

    pub(super) fn time_mut(&mut self, id: &ManagerId) -> Option<&mut Option<Timestamp>> {
        self.0.get_mut(id).map(|owned| &mut owned.time)
    }

    /// Bundles the oldest entries of updates, per version, until there are no more than [`MAX_UPDATE_MANAGERS`].
    pub fn cap(&mut self) {
        let mut updates: Vec<_> = self
            .0
            .iter()
            .filter(|(id, _)| id.operation == Operation::Update)
            .map(|(id, owned)| (owned.time.map_or(0, Timestamp::as_second), id.clone()))
            .collect();
        let mut count = updates.len();
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        updates.sort();
        let mut first_of_version: BTreeMap<String, ManagerId> = BTreeMap::new();
        for (_, id) in updates {
            if count <= MAX_UPDATE_MANAGERS {
                break;
            }
            let Some(owned) = self.0.get(&id).cloned() else { continue };
            let Some(first) = first_of_version.get(&owned.api_version) else {
                first_of_version.insert(owned.api_version, id);
                continue;
            };
            let bucket = ManagerId::new(ANCIENT_CHANGES, Operation::Update, &owned.api_version, "");
            // The first of a version becomes the bucket when a second one comes and there is none yet.
            let older = if id == bucket || !self.0.contains_key(&bucket) { first } else { &bucket };
            let older = self.0.remove(older);
            let set =
                older.map_or_else(|| Arc::clone(&owned.set), |older| Arc::new(older.set.union(&owned.set)));
            self.0.remove(&id);
            self.0.insert(bucket, Owned { set, ..owned });
            count -= 1;
        }
    }
}

fn text<'v>(entry: &'v Map<String, Value>, field: &str, at: usize) -> Result<&'v str, DecodeError> {
    match entry.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(DecodeError::Shape(at)),
    }
}

fn decode_entry(entry: &Value, at: usize) -> Result<(ManagerId, Owned), DecodeError> {
    let entry = entry.as_object().ok_or(DecodeError::Shape(at))?;
    let operation = match text(entry, "operation", at)? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(DecodeError::Operation),
    };
    let api_version = text(entry, "apiVersion", at)?;
    if api_version.is_empty() {
        return Err(DecodeError::ApiVersion);
    }
    match text(entry, "fieldsType", at)? {
        "FieldsV1" => {}
        "" => return Err(DecodeError::NoFieldsType(at)),
        other => return Err(DecodeError::FieldsType { name: other.into(), at }),
    }
    let time = match text(entry, "time", at)? {
        "" => None,
        time => Some(time.parse().map_err(|_| DecodeError::Time { text: time.into(), at })?),
    };
    let set = match entry.get("fieldsV1") {
        None | Some(Value::Null) => Set::new(),
        Some(fields) => Set::from_value(fields).map_err(|source| DecodeError::Fields { source })?,
    };
    let id = ManagerId {
        manager: text(entry, "manager", at)?.into(),
        operation,
        api_version: if operation == Operation::Update { api_version.into() } else { String::new() },
        subresource: text(entry, "subresource", at)?.into(),
    };
    Ok((id, Owned { set: Arc::new(set), api_version: api_version.into(), time }))
}

fn encode_entry(id: &ManagerId, owned: &Owned) -> Value {
    let mut entry = Map::new();
    entry.insert("apiVersion".into(), owned.api_version.as_str().into());
    entry.insert("fieldsType".into(), "FieldsV1".into());
    entry.insert("fieldsV1".into(), owned.set.to_value());
    if !id.manager.is_empty() {
        entry.insert("manager".into(), id.manager.as_str().into());
    }
    entry.insert("operation".into(), id.operation.name().into());
    if !id.subresource.is_empty() {
        entry.insert("subresource".into(), id.subresource.as_str().into());
    }
    if let Some(time) = owned.time {
        let seconds = Timestamp::from_second(time.as_second()).unwrap_or(time);
        entry.insert("time".into(), seconds.to_string().into());
    }
    Value::Object(entry)
}

/// Whether `managedFields` of a request ask to forget all entries: an empty list, or one empty entry.
pub fn is_reset(managed_fields: Option<&Value>) -> bool {
    let Some(Value::Array(entries)) = managed_fields else { return false };
    match entries.as_slice() {
        [] => true,
        [Value::Object(entry)] => entry.values().all(|value| value.is_null() || *value == json!("")),
        [Value::Null] => true,
        _ => false,
    }
}

/// Gives `new` the times of `old` back when nothing but times of entries differs, so that the write is none.
/// Returns whether it did. Call it last before the comparison that decides whether to store.
pub fn keep_times(old: &Value, new: &mut Value) -> bool {
    let entries =
        |object: &Value| object.pointer("/metadata/managedFields").and_then(Value::as_array).cloned();
    let (Some(before), Some(after)) = (entries(old), entries(new)) else { return false };
    let time = |entry: &Value| entry.get("time").cloned().filter(|time| !time.is_null());
    let same_entry = |a: &Value, b: &Value| match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let rest = |entry: &'_ Map<String, Value>| entry.keys().filter(|k| *k != "time").count();
            rest(a) == rest(b) && a.iter().filter(|(k, _)| *k != "time").all(|(k, v)| b.get(k) == Some(v))
        }
        _ => false,
    };
    let times_changed = before.iter().zip(&after).any(|(a, b)| time(a) != time(b));
    if before.len() != after.len()
        || !times_changed
        || !before.iter().zip(&after).all(|(a, b)| same_entry(a, b))
        || !same_but_entries(old, new)
    {
        return false;
    }
    if let Some(place) = new.pointer_mut("/metadata/managedFields") {
        *place = Value::Array(before);
    }
    true
}

/// Whether two objects are equal but for `metadata.managedFields`. Copies nothing.
pub fn same_but_entries(a: &Value, b: &Value) -> bool {
    fn same<'v>(
        a: &'v Map<String, Value>,
        b: &'v Map<String, Value>,
        but: &str,
        inside: fn(&Value, &Value) -> bool,
    ) -> bool {
        let mine = a.iter().filter(|(name, _)| *name != but);
        let theirs = b.iter().filter(|(name, _)| *name != but);
        mine.eq(theirs)
            && match (a.get(but), b.get(but)) {
                (Some(a), Some(b)) => inside(a, b),
                (a, b) => a.is_none() && b.is_none(),
            }
    }
    fn metadata(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                let rest =
                    |map: &'_ Map<String, Value>| map.len() - usize::from(map.contains_key("managedFields"));
                rest(a) == rest(b)
                    && a.iter()
                        .filter(|(name, _)| *name != "managedFields")
                        .all(|(name, value)| b.get(name) == Some(value))
            }
            _ => a == b,
        }
    }
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => same(a, b, "metadata", metadata),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, time: Option<&str>) -> Value {
        let mut entry = json!({
            "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {format!("f:{manager}"): {}}},
        });
        if let Some(time) = time {
            entry["time"] = json!(time);
        }
        entry
    }

    #[test]
    fn entries_make_the_round_trip_appliers_first_then_by_time_and_name() {
        let entries = json!([
            entry("z", "Apply", None),
            entry("b", "Apply", Some("2026-01-01T00:00:00Z")),
            entry("c", "Apply", Some("2026-01-01T00:00:00Z")),
            entry("a", "Apply", Some("2026-01-01T00:00:01Z")),
            entry("a", "Update", Some("2026-01-01T00:00:00Z")),
        ]);
        let mut shuffled = entries.as_array().unwrap().clone();
        shuffled.reverse();
        let managers = Managers::decode(Some(&Value::Array(shuffled))).unwrap();
        assert_eq!(managers.encode(), Some(entries));
    }

    #[test]
    fn an_applier_has_one_entry_and_an_updater_one_a_version() {
        let at = |operation: &str, version: &str| {
            let mut entry = entry("m", operation, None);
            entry["apiVersion"] = json!(version);
            entry
        };
        let list = json!([at("Apply", "v1"), at("Apply", "v2"), at("Update", "v1"), at("Update", "v2")]);
        assert_eq!(Managers::decode(Some(&list)).unwrap().iter().count(), 3);
    }

    #[test]
    fn broken_entries_say_why() {
        let broken = |field: &str, value: Value| {
            let mut entry = entry("m", "Apply", None);
            entry[field] = value;
            Managers::decode(Some(&json!([entry]))).unwrap_err().to_string()
        };
        assert_eq!(broken("operation", json!("Patch")), "operation must be `Apply` or `Update`");
        assert_eq!(broken("apiVersion", json!("")), "apiVersion must not be empty");
        assert_eq!(broken("fieldsType", json!("")), "missing fieldsType in managed fields entry 0");
        assert_eq!(
            broken("fieldsType", json!("FieldsV2")),
            "invalid fieldsType \"FieldsV2\" in managed fields entry 0"
        );
        assert!(
            broken("fieldsV1", json!({"nope": {}})).starts_with("error decoding set: missing colon: nope")
        );
        assert!(broken("time", json!("yesterday")).starts_with("invalid time"));
        assert!(broken("manager", json!(1)).starts_with("entry 0"));
        assert!(Managers::decode(Some(&json!("x"))).is_err());
    }

    #[test]
    fn identities_read_as_in_conflicts() {
        let id = |operation, subresource| ManagerId::new("m", operation, "apps/v1", subresource).to_string();
        assert_eq!(id(Operation::Apply, ""), "\"m\"");
        assert_eq!(id(Operation::Apply, "scale"), "\"m\" with subresource \"scale\"");
        assert_eq!(id(Operation::Update, "status"), "\"m\" with subresource \"status\" using apps/v1");
        assert_eq!(ManagerId::new("", Operation::Apply, "v1", "").manager, "unknown");
    }

    #[test]
    fn the_oldest_updates_beyond_ten_are_bundled() {
        let mut managers = Managers::new();
        for n in 0..12i64 {
            let id = ManagerId::new(&format!("u{n:02}"), Operation::Update, "v1", "");
            let set = Set::from_value(&json!({ "f:data": {format!("f:k{n:02}"): {}} })).unwrap();
            let time = Timestamp::from_second(1000 + n).ok();
            managers.set(id, Owned { set: Arc::new(set), api_version: "v1".into(), time });
            managers.cap();
        }
        let bucket = managers.get(&ManagerId::new(ANCIENT_CHANGES, Operation::Update, "v1", "")).unwrap();
        assert_eq!(bucket.set.to_value(), json!({"f:data": {"f:k00": {}, "f:k01": {}, "f:k02": {}}}));
        assert_eq!(bucket.time, Timestamp::from_second(1002).ok());
        assert_eq!(managers.iter().count(), MAX_UPDATE_MANAGERS);
    }

    #[test]
    fn a_reset_is_an_empty_list_or_one_empty_entry() {
        assert!(is_reset(Some(&json!([]))) && is_reset(Some(&json!([{}]))));
        assert!(
            !is_reset(None)
                && !is_reset(Some(&Value::Null))
                && !is_reset(Some(&json!([entry("m", "Apply", None)])))
        );
    }

    #[test]
    fn times_alone_are_no_change() {
        let object = |time: &str, data: &str| {
            json!({
                "metadata": {"name": "a", "managedFields": [entry("m", "Apply", Some(time))]}, "data": {"k": data},
            })
        };
        let old = object("2026-01-01T00:00:00Z", "v");
        let mut new = object("2026-01-02T00:00:00Z", "v");
        assert!(keep_times(&old, &mut new));
        assert_eq!(new, old);
        let mut changed = object("2026-01-02T00:00:00Z", "w");
        assert!(!keep_times(&old, &mut changed));
        assert_eq!(changed, object("2026-01-02T00:00:00Z", "w"));
    }
}
