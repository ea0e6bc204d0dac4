//! Objects at rest as bytes, and copying them out with their revision.
//!
//! At rest an object is `{"kind":K,"apiVersion":V,"metadata":{` followed by the rest of metadata without
//! resourceVersion, then the other fields. Serving it copies the bytes around one splice point, right after
//! `"metadata":{`. Nothing here parses JSON.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

/// The fixed beginning of objects of one kind and version, up to the splice point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    bytes: Box<[u8]>,
    /// Length of `{"kind":K,"apiVersion":V,`: list items of built-in kinds start after it.
    type_len: usize,
}

const METADATA: &[u8] = b"\"metadata\":{";

impl Head {
    /// The head of a kind.
    pub fn new(kind: &str, api_version: &str) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"{\"kind\":");
        write_string(&mut bytes, kind);
        bytes.extend_from_slice(b",\"apiVersion\":");
        write_string(&mut bytes, api_version);
        bytes.push(b',');
        let type_len = bytes.len();
        bytes.extend_from_slice(METADATA);
        Self { bytes: bytes.into(), type_len }
    }

    /// Whether the bytes at rest are of this kind and version.
    pub fn matches(&self, at_rest: &[u8]) -> bool {
        at_rest.starts_with(&self.bytes)
    }

    /// Writes the object at rest with its revision. `typed` keeps kind and apiVersion.
    pub fn copy(&self, out: &mut impl BufMut, at_rest: &[u8], revision: u64, typed: bool) {
        if typed {
            out.put_slice(&self.bytes);
        } else {
            out.put_slice(b"{");
            out.put_slice(METADATA);
        }
        put_revision(out, revision);
        out.put_slice(&at_rest[self.bytes.len()..]);
    }

    /// Upper bound of what [`Head::copy`] writes.
    pub fn copied_len(&self, at_rest: &[u8]) -> usize {
        at_rest.len() + 45
    }

    /// The object at rest with its revision, as one buffer with a newline at the end.
    pub fn served(&self, at_rest: &[u8], revision: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(self.copied_len(at_rest) + 1);
        self.copy(&mut out, at_rest, revision, true);
        out.put_u8(b'\n');
        out.freeze()
    }

    /// Length of the part that names kind and version.
    pub fn type_len(&self) -> usize {
        self.type_len
    }
}

fn put_revision(out: &mut impl BufMut, revision: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = revision;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(b"\"resourceVersion\":\"");
    out.put_slice(&digits[at..]);
    out.put_slice(b"\",");
}

/// The object as it is stored: kind and apiVersion first, metadata next (its uid first and without resourceVersion), then
/// the rest. An object's own uid comes before those of its owners, as it does in Kubernetes.
pub fn at_rest(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let empty = serde_json::Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
    out.extend_from_slice(b"{\"kind\":");
    write_string(&mut out, text("kind"));
    out.extend_from_slice(b",\"apiVersion\":");
    write_string(&mut out, text("apiVersion"));
    out.extend_from_slice(b",\"metadata\":{");
    let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let uid = metadata.get("uid").and_then(Value::as_str);
    if let Some(uid) = uid {
        out.extend_from_slice(b"\"uid\":");
        write_string(&mut out, uid);
    }
    write_fields(
        &mut out,
        metadata,
        &["resourceVersion", if uid.is_some() { "uid" } else { "" }],
        uid.is_none(),
    );
    out.push(b'}');
    write_fields(&mut out, fields, &["kind", "apiVersion", "metadata"], false);
    out.push(b'}');
    // A buffer of its own size: the store keeps it for long.
    Bytes::from(out.into_boxed_slice())
}

fn write_fields(out: &mut Vec<u8>, fields: &serde_json::Map<String, Value>, skip: &[&str], mut first: bool) {
    for (key, value) in fields {
        if skip.contains(&key.as_str()) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(out, key);
        out.push(b':');
        write_value(out, value);
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing JSON into memory cannot fail");
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("writing JSON into memory cannot fail");
}

/// The object at rest as a value, with its revision in place.
pub fn decode(at_rest: &[u8], revision: u64) -> Result<Value, serde_json::Error> {
    let mut object: Value = serde_json::from_slice(at_rest)?;
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_comes_back_with_its_revision() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
            "metadata": {"name": "x", "resourceVersion": "7"},
        });
        let rest = at_rest(&object);
        assert_eq!(
            &rest[..],
            br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":"b"}}"#
        );
        let head = Head::new("ConfigMap", "v1");
        assert!(head.matches(&rest));
        let served = head.served(&rest, 1203);
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = json!("1203");
        assert_eq!(serde_json::from_slice::<Value>(&served).unwrap(), expected);
        assert_eq!(decode(&rest, 1203).unwrap(), expected);
        assert!(served.len() <= head.copied_len(&rest) + 1);
    }

    #[test]
    fn items_of_built_in_lists_have_no_type() {
        let rest = at_rest(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}));
        let mut out = Vec::new();
        Head::new("Pod", "v1").copy(&mut out, &rest, 3, false);
        assert_eq!(out, br#"{"metadata":{"resourceVersion":"3","name":"p"}}"#);
    }

    #[test]
    fn another_version_does_not_match() {
        let rest = at_rest(&json!({"apiVersion": "autoscaling/v2", "kind": "X", "metadata": {"name": "p"}}));
        assert!(!Head::new("X", "autoscaling/v1").matches(&rest));
    }
}
