//! Objects at rest: the bytes the server sent, without managedFields, and the few facts of the
//! metadata that the cache, its indexes and the triggers need. Bytes are copied once, on arrival, into
//! an allocation of exactly their size; they are decoded when somebody asks for a type.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use kubewright_machinery::scan::{Header, find};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::memory::{Decoded, Memo};
use super::owner::{Owner, each_owner};
use crate::kind::{Key, Kind};

/// An object of the cache: its bytes and what was read of its metadata.
#[derive(Debug)]
pub struct Cached {
    key: Key,
    uid: Box<str>,
    resource_version: u64,
    generation: i64,
    deleting: bool,
    labels: Range<u32>,
    annotations: Range<u32>,
    owner_references: Range<u32>,
    raw: Box<[u8]>,
    /// What the owner references say, once somebody asked.
    owners: OnceLock<Box<[Owner]>>,
    /// What it was last decoded to, while it is among those that are kept so.
    pub(super) memo: Mutex<Memo>,
    decoded: Option<Arc<Decoded>>,
}

/// An object whose bytes are not what its kind or type says.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind} {key} can't be decoded: {message}")]
pub struct DecodeError {
    /// The kind, as `plural.group`.
    pub kind: String,
    /// Which object; `?` when not even its name could be read.
    pub key: Key,
    /// What the parser says.
    pub message: String,
}

impl Cached {
    /// Reads an object as the server sent it. The metadata is scanned and reading stops there; bytes
    /// the scanner doesn't understand go to the full parser. A list's items get the `apiVersion` and
    /// `kind` that servers leave out.
    ///
    /// # Errors
    /// When the bytes are no object, or have no metadata with a name.
    pub fn read(bytes: &[u8], kind: &Kind) -> Result<Cached, DecodeError> {
        let fail = |message: String| DecodeError { kind: kind.to_string(), key: "?".into(), message };
        if let Some(header) = header(bytes) {
            return Ok(Cached::assemble(bytes, kind, &header));
        }
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let canonical = serde_json::to_vec(&value).map_err(|error| fail(error.to_string()))?;
        match header(&canonical) {
            Some(header) => Ok(Cached::assemble(&canonical, kind, &header)),
            None => Err(fail("it has no metadata with a name and well-formed members".into())),
        }
    }

    fn assemble(bytes: &[u8], kind: &Kind, header: &Header<'_>) -> Cached {
        let mut head = String::new();
        if header.kind.is_empty() {
            head.push_str(&format!("\"kind\":\"{}\",", kind.kind));
        }
        if header.api_version.is_empty() {
            head.push_str(&format!("\"apiVersion\":\"{}\",", kind.api_version()));
        }
        let open = bytes.iter().position(|byte| *byte == b'{').unwrap_or_default() + 1;
        let cut = header.managed_fields.map_or(0..0, |value| member(bytes, &range_in(bytes, value)));
        let mut raw = Vec::with_capacity(bytes.len() - open + 1 + head.len() - cut.len());
        raw.push(b'{');
        raw.extend_from_slice(head.as_bytes());
        if cut.is_empty() {
            raw.extend_from_slice(&bytes[open..]);
        } else {
            raw.extend_from_slice(&bytes[open..cut.start]);
            raw.extend_from_slice(&bytes[cut.end..]);
        }
        // Where a part of the source lies after the head was put in and managedFields taken out.
        let moved = |part: Option<&[u8]>| -> Range<u32> {
            let Some(part) = part else { return 0..0 };
            let range = range_in(bytes, part);
            let shift = |at: usize| {
                let at = if !cut.is_empty() && at >= cut.end { at - cut.len() } else { at };
                u32::try_from(at + 1 + head.len() - open).unwrap_or(u32::MAX)
            };
            shift(range.start)..shift(range.end)
        };
        let key = Key::new(&header.namespace, &header.name);
        Cached::of(header, key, moved, raw.into())
    }

    /// An object of this header, whose parts lie in `raw` where `place` says.
    fn of(
        header: &Header<'_>,
        key: Key,
        place: impl Fn(Option<&[u8]>) -> Range<u32>,
        raw: Box<[u8]>,
    ) -> Cached {
        Cached {
            key,
            uid: header.uid.as_ref().into(),
            resource_version: header.resource_version.parse().unwrap_or(0),
            generation: header.generation,
            deleting: header.deleting,
            labels: place(header.labels),
            annotations: place(header.annotations),
            owner_references: place(header.owner_references),
            raw,
            owners: OnceLock::new(),
            memo: Mutex::default(),
            decoded: None,
        }
    }

    /// The object of a key whose bytes are just as [`json`](Self::json) gave them once.
    pub(super) fn of_raw(raw: Vec<u8>, key: Key) -> Option<Cached> {
        let raw = raw.into_boxed_slice();
        let header = header(&raw)?;
        let place = |part: Option<&[u8]>| {
            let range = part.map_or(0..0, |part| range_in(&raw, part));
            u32::try_from(range.start).unwrap_or(u32::MAX)..u32::try_from(range.end).unwrap_or(u32::MAX)
        };
        let object = Cached::of(&header, key, place, Box::default());
        drop(header);
        Some(Cached { raw, ..object })
    }

    /// Gives it a place for what it is decoded to.
    pub(super) fn share(&mut self, decoded: Option<&Arc<Decoded>>) {
        self.decoded = decoded.cloned();
    }

    /// Puts an equal key in the place of its own, so that it is held once.
    pub(super) fn rekey(&mut self, key: &Key) {
        self.key = key.clone();
    }

    /// Namespace and name.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// `metadata.uid`; empty when the server gave none.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// `metadata.resourceVersion`; versions of one kind compare as numbers (KEP-5504).
    pub fn resource_version(&self) -> u64 {
        self.resource_version
    }

    /// `metadata.generation`; 0 for kinds that have none.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Whether `metadata.deletionTimestamp` is set.
    pub fn is_deleting(&self) -> bool {
        self.deleting
    }

    /// `metadata.ownerReferences`, parsed when they are asked for first.
    pub fn owners(&self) -> &[Owner] {
        self.owners.get_or_init(|| {
            let mut owners = Vec::with_capacity(1);
            // They could be read when the object came.
            let _ = each_owner(self.owner_bytes(), |owner| owners.push(owner.to_owned()));
            owners.into()
        })
    }

    /// Calls a function with the uid of each owner; builds nothing.
    pub(super) fn each_owner_uid(&self, mut each: impl FnMut(&str)) {
        let _ = each_owner(self.owner_bytes(), |owner| each(&owner.uid));
    }

    /// The owner that is the managing controller.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners().iter().find(|owner| owner.controller)
    }

    /// `metadata.labels`, parsed now.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.map(&self.labels)
    }

    /// `metadata.annotations`, parsed now.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.map(&self.annotations)
    }

    fn map(&self, range: &Range<u32>) -> BTreeMap<String, String> {
        serde_json::from_slice(self.part(range)).unwrap_or_default()
    }

    fn part(&self, range: &Range<u32>) -> &[u8] {
        self.raw.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    pub(crate) fn label_bytes(&self) -> &[u8] {
        self.part(&self.labels)
    }

    pub(crate) fn annotation_bytes(&self) -> &[u8] {
        self.part(&self.annotations)
    }

    pub(super) fn owner_bytes(&self) -> &[u8] {
        self.part(&self.owner_references)
    }

    /// The object's JSON, without managedFields.
    pub fn json(&self) -> &[u8] {
        &self.raw
    }

    /// The bytes of the value at a path of member names, without parsing the object.
    pub fn at(&self, path: &[&str]) -> Option<&[u8]> {
        find(&self.raw, path).ok().flatten()
    }

    /// The object as a type. From the second time on the result is kept, within the limits of
    /// [`Memory::decoded`](super::Memory::decoded) and for one type at a time.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn typed<K: DeserializeOwned + Send + Sync + 'static>(
        self: &Arc<Self>,
    ) -> Result<Arc<K>, DecodeError> {
        if let Some(value) = self.memo.lock().read() {
            return Ok(value);
        }
        let value = Arc::new(self.decode::<K>()?);
        if let Some(decoded) = self.decoded.as_ref().filter(|decoded| decoded.takes(self.raw.len())) {
            let kept = self.memo.lock().decoded(&value);
            if kept {
                decoded.keep(self);
            }
        }
        Ok(value)
    }

    /// The object as a type, decoded now; about 60 µs for a pod of 9 KB.
    ///
    /// # Errors
    /// When the bytes are not what the type says.
    pub fn decode<K: DeserializeOwned>(&self) -> Result<K, DecodeError> {
        // Looking through all bytes at once whether they are text takes less than doing so for every string in them.
        let decoded = match std::str::from_utf8(&self.raw) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(&self.raw),
        };
        decoded.map_err(|error| DecodeError {
            kind: std::any::type_name::<K>().rsplit("::").next().unwrap_or_default().to_owned(),
            key: self.key.clone(),
            message: match self.at(&["kind"]) {
                Some(br#""PartialObjectMetadata""#) => "nothing but its metadata is cached".into(),
                _ => error.to_string(),
            },
        })
    }
}

/// Reads the header of an object that can be kept; `None` is for the full parser to judge.
fn header(bytes: &[u8]) -> Option<Header<'_>> {
    let header = Header::scan(bytes).ok()?;
    let versioned = header.resource_version.is_empty() || header.resource_version.parse::<u64>().is_ok();
    let owned = header.owner_references.is_none_or(|owners| each_owner(owners, |_| ()).is_ok());
    // Sent objects end with their bracket.
    let whole = bytes.trim_ascii_end().last() == Some(&b'}');
    (!header.name.is_empty() && versioned && owned && whole).then_some(header)
}

/// Where a slice lies in the bytes it was taken from.
fn range_in(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
    start..start + part.len()
}

/// The member whose value lies there, with its name and one comma; nothing when the name is written in a
/// way that is not recognised, so that the value stays.
fn member(bytes: &[u8], value: &Range<usize>) -> Range<usize> {
    let before =
        bytes[..value.start].trim_ascii_end().strip_suffix(b":").unwrap_or_default().trim_ascii_end();
    let Some(before) = before.strip_suffix(b"\"managedFields\"") else { return 0..0 };
    let outside = before.trim_ascii_end();
    if outside.ends_with(b",") {
        return outside.len() - 1..value.end;
    }
    let behind = &bytes[value.end..];
    let comma = behind.len() - behind.trim_ascii_start().len();
    if behind.get(comma) == Some(&b',') {
        before.len()..value.end + comma + 1
    } else {
        before.len()..value.end
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;

    use super::*;

    fn pods() -> Kind {
        Kind::of::<Pod>()
    }

    #[test]
    fn metadata_is_read_and_managed_fields_are_dropped() {
        let text = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"n","uid":"u","resourceVersion":"12","generation":3,"labels":{"a":"b"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"ru","controller":true,"blockOwnerDeletion":true}],"managedFields":[{"manager":"x","fieldsV1":{"f:spec":{}}}]},"spec":{"containers":[]}}"#;
        let object = Cached::read(text, &pods()).unwrap();
        assert_eq!(object.key(), &Key::new("n", "p"));
        assert_eq!((object.uid(), object.resource_version(), object.generation()), ("u", 12, 3));
        assert_eq!(object.controller().map(|owner| &*owner.uid), Some("ru"));
        assert_eq!(object.labels().get("a").map(String::as_str), Some("b"));
        assert!(!String::from_utf8_lossy(object.json()).contains("managedFields"));
        let pod: Pod = object.decode().unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("p"));
    }

    #[test]
    fn managed_fields_can_stand_anywhere_in_the_metadata() {
        for text in [
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"managedFields":[],"name":"p","labels":{"k":"v"}}}"#,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","managedFields":[1,{"a":2}],"labels":{"k":"v"}}}"#,
            r#"{"kind":"Pod","apiVersion":"v1","metadata": { "managedFields" : [ ] , "name" : "p" , "labels" : {"k":"v"} } }"#,
        ] {
            let object = Cached::read(text.as_bytes(), &pods()).unwrap();
            let value: Value = serde_json::from_slice(object.json()).expect(text);
            assert_eq!(value["metadata"], json!({"name": "p", "labels": {"k": "v"}}), "{text}");
            assert_eq!(object.labels()["k"], "v");
        }
    }

    #[test]
    fn items_of_lists_get_the_type_they_lack() {
        let object = Cached::read(br#"{"metadata":{"name":"p","labels":{"k":"v"}}}"#, &pods()).unwrap();
        let value: Value = serde_json::from_slice(object.json()).unwrap();
        assert_eq!(value["kind"], "Pod");
        assert_eq!(value["apiVersion"], "v1");
        assert_eq!(object.labels()["k"], "v");
    }

    #[test]
    fn what_the_scanner_cannot_read_the_full_parser_reads() {
        let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
        let text = format!(
            r#"{{"spec":{{"a":{deep}}},"metadata":{{"name":"p","labels":null,"generation":1,"managedFields":[{{}}]}}}}"#
        );
        let object = Cached::read(text.as_bytes(), &pods()).unwrap();
        assert_eq!(object.key().name(), "p");
        let escaped = br#"{"metadata":{"na\u006de":"p\u0041"}}"#;
        assert_eq!(Cached::read(escaped, &pods()).unwrap().key().name(), "pA");
    }

    #[test]
    fn an_object_without_a_name_is_an_error_and_not_a_panic() {
        for text in [
            "{}",
            "[]",
            "",
            "{\"metadata\":{}}",
            "{\"metadata\":{\"name\":1}}",
            "{\"metadata\":{\"name\":\"a\"}",
        ] {
            assert!(Cached::read(text.as_bytes(), &pods()).is_err(), "{text}");
        }
    }

    #[test]
    fn decoding_a_wrong_type_names_the_object() {
        let object =
            Cached::read(br#"{"metadata":{"name":"p"},"data":7}"#, &Kind::of::<ConfigMap>()).unwrap();
        let error = object.decode::<ConfigMap>().unwrap_err();
        assert!(error.to_string().starts_with("ConfigMap p can't be decoded"), "{error}");
    }
}
