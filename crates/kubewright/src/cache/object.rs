//! Objects at rest: the bytes the server sent, without managedFields, and the few facts of the
//! metadata that the cache, its indexes and the triggers need. Bytes are copied once, on arrival, into
//! an allocation of exactly their size; they are decoded when somebody asks for a type.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::scan::{Flow, Scanner};
use crate::kind::{Key, Kind};

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `group/version` of the owner.
    pub api_version: Box<str>,
    /// Kind of the owner.
    pub kind: Box<str>,
    /// Name of the owner, in the same namespace or of the cluster.
    pub name: Box<str>,
    /// Uid of the owner.
    pub uid: Box<str>,
    /// Whether this owner is the managing controller; at most one is.
    pub controller: bool,
}

/// An object of the cache: its bytes and what was read of its metadata.
#[derive(Debug)]
pub struct Cached {
    key: Key,
    uid: Box<str>,
    resource_version: u64,
    generation: i64,
    deleting: bool,
    owners: Box<[Owner]>,
    labels: Range<u32>,
    annotations: Range<u32>,
    raw: Box<[u8]>,
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

#[derive(Default)]
struct Found<'a> {
    api_version: bool,
    kind: bool,
    metadata: bool,
    name: Option<std::borrow::Cow<'a, str>>,
    namespace: std::borrow::Cow<'a, str>,
    uid: std::borrow::Cow<'a, str>,
    resource_version: u64,
    generation: i64,
    deleting: bool,
    owners: Vec<Owner>,
    labels: Range<usize>,
    annotations: Range<usize>,
    managed_fields: Range<usize>,
}

impl Cached {
    /// Reads an object as the server sent it. The metadata is scanned and reading stops there; bytes
    /// the scanner doesn't understand go to the full parser. A list's items get the `apiVersion` and
    /// `kind` that servers leave out.
    ///
    /// # Errors
    /// When the bytes are no object, or have no metadata with a name.
    pub fn read(bytes: &[u8], kind: &Kind) -> Result<Cached, DecodeError> {
        if let Some(found) = scan(bytes) {
            return Ok(Cached::assemble(bytes, kind, found));
        }
        let fail = |message: String| DecodeError { kind: kind.to_string(), key: "?".into(), message };
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let canonical = serde_json::to_vec(&value).map_err(|error| fail(error.to_string()))?;
        match scan(&canonical) {
            Some(found) => Ok(Cached::assemble(&canonical, kind, found)),
            None => Err(fail("it has no metadata with a name and well-formed members".into())),
        }
    }

    fn assemble(bytes: &[u8], kind: &Kind, found: Found<'_>) -> Cached {
        let mut head = String::new();
        if !found.kind {
            head.push_str(&format!("\"kind\":\"{}\",", kind.kind));
        }
        if !found.api_version {
            head.push_str(&format!("\"apiVersion\":\"{}\",", kind.api_version()));
        }
        let open = bytes.iter().position(|byte| *byte == b'{').unwrap_or_default() + 1;
        let cut = found.managed_fields.clone();
        let mut raw = Vec::with_capacity(bytes.len() - open + 1 + head.len() - cut.len());
        raw.push(b'{');
        raw.extend_from_slice(head.as_bytes());
        if cut.is_empty() {
            raw.extend_from_slice(&bytes[open..]);
        } else {
            raw.extend_from_slice(&bytes[open..cut.start]);
            raw.extend_from_slice(&bytes[cut.end..]);
        }
        // Where a range of the source lies after the head was put in and managedFields taken out.
        let moved = |range: &Range<usize>| -> Range<u32> {
            if range.is_empty() {
                return 0..0;
            }
            let shift = |at: usize| {
                let at = if !cut.is_empty() && at >= cut.end { at - cut.len() } else { at };
                u32::try_from(at + 1 + head.len() - open).unwrap_or(u32::MAX)
            };
            shift(range.start)..shift(range.end)
        };
        Cached {
            key: Key::new(&found.namespace, &found.name.unwrap_or_default()),
            uid: found.uid.into(),
            resource_version: found.resource_version,
            generation: found.generation,
            deleting: found.deleting,
            owners: found.owners.into(),
            labels: moved(&found.labels),
            annotations: moved(&found.annotations),
            raw: raw.into_boxed_slice(),
        }
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

    /// `metadata.ownerReferences`.
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// The owner that is the managing controller.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.controller)
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
        let bytes = self.raw.get(range.start as usize..range.end as usize).unwrap_or_default();
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    pub(crate) fn label_bytes(&self) -> &[u8] {
        self.raw.get(self.labels.start as usize..self.labels.end as usize).unwrap_or_default()
    }

    pub(crate) fn annotation_bytes(&self) -> &[u8] {
        self.raw.get(self.annotations.start as usize..self.annotations.end as usize).unwrap_or_default()
    }

    /// The object's JSON, without managedFields.
    pub fn json(&self) -> &[u8] {
        &self.raw
    }

    /// The bytes of the value at a path of member names, without parsing the object.
    pub fn at(&self, path: &[&str]) -> Option<&[u8]> {
        super::scan::find(&self.raw, path)
    }

    /// The object as a type; about 60 µs for a pod of 9 KB.
    ///
    /// # Errors
    /// When the bytes are not what the type says.
    pub fn decode<K: DeserializeOwned>(&self) -> Result<K, DecodeError> {
        serde_json::from_slice(&self.raw).map_err(|error| DecodeError {
            kind: std::any::type_name::<K>().rsplit("::").next().unwrap_or_default().to_owned(),
            key: self.key.clone(),
            message: error.to_string(),
        })
    }
}

fn scan(bytes: &[u8]) -> Option<Found<'_>> {
    let mut found = Found::default();
    let mut scanner = Scanner::new(bytes);
    scanner.members(|scanner, name, _| {
        match name {
            "kind" => found.kind = !scanner.string()?.is_empty(),
            "apiVersion" => found.api_version = !scanner.string()?.is_empty(),
            "metadata" => {
                scan_metadata(scanner, &mut found)?;
                found.metadata = true;
            }
            _ => {
                scanner.skip()?;
            }
        }
        Some(if found.metadata && found.kind && found.api_version { Flow::Stop } else { Flow::Next })
    })?;
    found.name.as_ref()?;
    // Sent objects end with their bracket; anything else is for the full parser to judge.
    (bytes.trim_ascii_end().last() == Some(&b'}')).then_some(found)
}

fn scan_metadata<'a>(scanner: &mut Scanner<'a>, found: &mut Found<'a>) -> Option<()> {
    scanner.members(|scanner, name, begins| {
        let first = scanner.peek()?;
        match name {
            "name" => found.name = Some(scanner.string()?),
            "namespace" => found.namespace = scanner.string()?,
            "uid" => found.uid = scanner.string()?,
            "resourceVersion" => found.resource_version = scanner.string()?.parse().ok()?,
            "generation" => found.generation = scanner.scalar()?.parse().ok()?,
            "deletionTimestamp" => found.deleting = scanner.skip()?.len() > 4,
            "labels" if first == b'{' => found.labels = scanner.skip()?,
            "annotations" if first == b'{' => found.annotations = scanner.skip()?,
            "ownerReferences" if first == b'[' => {
                let owners = &mut found.owners;
                scanner.elements(|scanner| {
                    owners.push(scan_owner(scanner)?);
                    Some(())
                })?;
            }
            "managedFields" => {
                scanner.skip()?;
                let mut end = scanner.position();
                // The first member has no comma before it, so it takes the one behind it.
                if !scanner.is_comma(begins) && scanner.peek()? == b',' {
                    end = scanner.position() + 1;
                }
                found.managed_fields = begins..end;
            }
            _ => {
                scanner.skip()?;
            }
        }
        Some(Flow::Next)
    })
}

fn scan_owner(scanner: &mut Scanner<'_>) -> Option<Owner> {
    let mut owner = Owner {
        api_version: Box::default(),
        kind: Box::default(),
        name: Box::default(),
        uid: Box::default(),
        controller: false,
    };
    scanner.members(|scanner, name, _| {
        match name {
            "apiVersion" => owner.api_version = scanner.string()?.into(),
            "kind" => owner.kind = scanner.string()?.into(),
            "name" => owner.name = scanner.string()?.into(),
            "uid" => owner.uid = scanner.string()?.into(),
            "controller" => owner.controller = scanner.scalar()? == "true",
            _ => {
                scanner.skip()?;
            }
        }
        Some(Flow::Next)
    })?;
    Some(owner)
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
