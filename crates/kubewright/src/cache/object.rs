//! Objects at rest: the bytes the server sent, without managedFields, and the few facts of the
//! metadata that the cache, its indexes and the triggers need. Bytes are copied once, on arrival, into
//! an allocation of exactly their size; they are decoded when somebody asks for a type.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kubewright_machinery::scan::{Cursor, Header, ScanError, find};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::memory::{Decoded, Memo};
use crate::kind::{Key, Kind};

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        if let Some((header, owners)) = header(bytes) {
            return Ok(Cached::assemble(bytes, kind, &header, owners));
        }
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let canonical = serde_json::to_vec(&value).map_err(|error| fail(error.to_string()))?;
        match header(&canonical) {
            Some((header, owners)) => Ok(Cached::assemble(&canonical, kind, &header, owners)),
            None => Err(fail("it has no metadata with a name and well-formed members".into())),
        }
    }

    fn assemble(bytes: &[u8], kind: &Kind, header: &Header<'_>, owners: Vec<Owner>) -> Cached {
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
        let (labels, annotations) = (moved(header.labels), moved(header.annotations));
        let key = Key::new(&header.namespace, &header.name);
        Cached::of(header, key, owners, labels, annotations, raw.into())
    }

    fn of(
        header: &Header<'_>,
        key: Key,
        owners: Vec<Owner>,
        labels: Range<u32>,
        annotations: Range<u32>,
        raw: Box<[u8]>,
    ) -> Cached {
        Cached {
            key,
            uid: header.uid.as_ref().into(),
            resource_version: header.resource_version.parse().unwrap_or(0),
            generation: header.generation,
            deleting: header.deleting,
            owners: owners.into(),
            labels,
            annotations,
            raw,
            memo: Mutex::default(),
            decoded: None,
        }
    }

    /// The object of a key whose bytes are just as [`json`](Self::json) gave them once.
    pub(super) fn of_raw(raw: Vec<u8>, key: Key) -> Option<Cached> {
        let raw = raw.into_boxed_slice();
        let (header, owners) = header(&raw)?;
        let range = |part: Option<&[u8]>| {
            let range = part.map_or(0..0, |part| range_in(&raw, part));
            u32::try_from(range.start).unwrap_or(u32::MAX)..u32::try_from(range.end).unwrap_or(u32::MAX)
        };
        let (labels, annotations) = (range(header.labels), range(header.annotations));
        let object = Cached::of(&header, key, owners, labels, annotations, Box::default());
        drop(header);
        Some(Cached { raw, ..object })
    }

    /// Puts the object among those of a store: under a key that is held once, and with a place for what it is
    /// decoded to.
    pub(super) fn settle(&mut self, key: Key, decoded: &Arc<Decoded>) {
        self.key = key;
        self.decoded = Some(Arc::clone(decoded));
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
        serde_json::from_slice(&self.raw).map_err(|error| DecodeError {
            kind: std::any::type_name::<K>().rsplit("::").next().unwrap_or_default().to_owned(),
            key: self.key.clone(),
            message: error.to_string(),
        })
    }
}

/// So many objects are decoded faster than a thread is started for half of them.
const WORTH_A_THREAD: usize = 256;
/// So many are decoded between two looks at what is left.
const PART: usize = 32;

/// Many objects as a type, in their order; on all cores when there are very many.
pub fn decode_all<K>(objects: &[Arc<Cached>]) -> Vec<Result<Arc<K>, DecodeError>>
where
    K: DeserializeOwned + Send + Sync + 'static,
{
    decode_each(objects, |decoded| decoded)
}

/// What `look` makes of each of many objects as a type, in their order; on all cores when there are very many. A type
/// takes about eight times the memory of its JSON: what `look` does not keep makes room for the next, which takes half
/// the time of keeping all.
pub fn decode_each<K, T>(
    objects: &[Arc<Cached>],
    look: impl Fn(Result<Arc<K>, DecodeError>) -> T + Sync,
) -> Vec<T>
where
    K: DeserializeOwned + Send + Sync + 'static,
    T: Send,
{
    let threads = objects.len() / WORTH_A_THREAD;
    let threads = threads.min(std::thread::available_parallelism().map_or(1, usize::from));
    let decode = |object| look(Cached::typed(object));
    if threads < 2 {
        return objects.iter().map(decode).collect();
    }
    // Each thread takes the next part when it is done with one: on a core that others use as well it takes fewer.
    let next = AtomicUsize::new(0);
    let parts: Vec<_> = objects.chunks(PART).collect();
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(number) else { return done };
            done.push((number, part.iter().map(decode).collect::<Vec<_>>()));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(parts) => done.extend(parts),
                // Decoding does not panic of itself; if somebody's own code does, it does so where it is caught.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().flat_map(|(_, part)| part).collect()
}

/// Reads the header and the owners of an object that can be kept; `None` is for the full parser to judge.
fn header(bytes: &[u8]) -> Option<(Header<'_>, Vec<Owner>)> {
    let header = Header::scan(bytes).ok()?;
    let versioned = header.resource_version.is_empty() || header.resource_version.parse::<u64>().is_ok();
    let owners = header.owner_references.map_or(Ok(Vec::new()), owners).ok()?;
    // Sent objects end with their bracket.
    let whole = bytes.trim_ascii_end().last() == Some(&b'}');
    (!header.name.is_empty() && versioned && whole).then_some((header, owners))
}

fn owners(json: &[u8]) -> Result<Vec<Owner>, ScanError> {
    let mut owners = Vec::with_capacity(1);
    Cursor::new(json).elements(|cursor| {
        let mut owner = Owner::default();
        cursor.object(|name, cursor| {
            match name {
                "apiVersion" => owner.api_version = cursor.string()?.into(),
                "kind" => owner.kind = cursor.string()?.into(),
                "name" => owner.name = cursor.string()?.into(),
                "uid" => owner.uid = cursor.string()?.into(),
                "controller" => owner.controller = cursor.skip()? == b"true",
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(true)
        })?;
        owners.push(owner);
        Ok(())
    })?;
    Ok(owners)
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
    fn many_objects_are_decoded_in_their_order_and_each_with_its_own_error() {
        let objects: Vec<Arc<Cached>> = (0..WORTH_A_THREAD * 3)
            .map(|number| {
                let data = if number == 300 { "7" } else { "{}" };
                let text = format!(r#"{{"metadata":{{"name":"c{number}"}},"data":{data}}}"#);
                Arc::new(Cached::read(text.as_bytes(), &Kind::of::<ConfigMap>()).unwrap())
            })
            .collect();
        let decoded = decode_all::<ConfigMap>(&objects);
        assert_eq!(decoded.len(), objects.len());
        for (number, decoded) in decoded.iter().enumerate() {
            match decoded {
                Ok(decoded) => assert_eq!(decoded.metadata.name, Some(format!("c{number}"))),
                Err(error) => assert_eq!((number, error.key.name()), (300, "c300")),
            }
        }
        assert!(decoded[300].is_err());
    }

    #[test]
    fn decoding_a_wrong_type_names_the_object() {
        let object =
            Cached::read(br#"{"metadata":{"name":"p"},"data":7}"#, &Kind::of::<ConfigMap>()).unwrap();
        let error = object.decode::<ConfigMap>().unwrap_err();
        assert!(error.to_string().starts_with("ConfigMap p can't be decoded"), "{error}");
    }
}
