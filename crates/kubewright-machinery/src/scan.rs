//! Reading a few fields of an object at rest without building it: an early-stop scan over its JSON bytes.
//!
//! Values come back as slices of the input. The scan checks what it walks over and nothing behind the point where
//! it stops; it takes the first of duplicate keys. Objects that a server stored have neither faults nor
//! duplicates; for bytes of others use the decoder.

mod nested;

use std::borrow::Cow;

use memchr::memchr2;

use crate::decode::ends_in;

/// The bytes are not what the scan can read: no JSON object, cut off, or nested too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object, at byte {at}")]
pub struct ScanError {
    /// Where the scan gave up.
    pub at: usize,
}

/// What most readers want of an object: its type and metadata, as slices of its bytes.
#[derive(Clone, Debug, Default)]
pub struct Header<'a> {
    /// `apiVersion`.
    pub api_version: Cow<'a, str>,
    /// `kind`.
    pub kind: Cow<'a, str>,
    /// `metadata.name`.
    pub name: Cow<'a, str>,
    /// `metadata.namespace`.
    pub namespace: Cow<'a, str>,
    /// `metadata.uid`.
    pub uid: Cow<'a, str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Cow<'a, str>,
    /// `metadata.generation`; 0 if absent.
    pub generation: i64,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The JSON of `metadata.labels`; see [`entries`].
    pub labels: Option<&'a [u8]>,
    /// The JSON of `metadata.annotations`; see [`entries`].
    pub annotations: Option<&'a [u8]>,
    /// The JSON of `metadata.ownerReferences`.
    pub owner_references: Option<&'a [u8]>,
    /// The JSON of `metadata.finalizers`.
    pub finalizers: Option<&'a [u8]>,
    /// The JSON of `metadata.managedFields`.
    pub managed_fields: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// Reads up to the end of the metadata, or further if type or metadata have not been met.
    ///
    /// # Errors
    /// When the bytes are no JSON object as far as they were read.
    pub fn scan(json: &'a [u8]) -> Result<Self, ScanError> {
        let mut header = Self::default();
        let mut missing = 3;
        let mut cursor = Cursor { json, at: 0 };
        cursor.object(|key, cursor| {
            match key {
                "apiVersion" => header.api_version = cursor.string()?,
                "kind" => header.kind = cursor.string()?,
                "metadata" => cursor.object(|key, cursor| {
                    header.take(key, cursor)?;
                    Ok(true)
                })?,
                _ => {
                    cursor.skip()?;
                    return Ok(true);
                }
            }
            missing -= 1;
            Ok(missing > 0)
        })?;
        Ok(header)
    }

    fn take(&mut self, key: &str, cursor: &mut Cursor<'a>) -> Result<(), ScanError> {
        match key {
            "name" => self.name = cursor.string()?,
            "namespace" => self.namespace = cursor.string()?,
            "uid" => self.uid = cursor.string()?,
            "resourceVersion" => self.resource_version = cursor.string()?,
            "generation" => {
                self.generation =
                    std::str::from_utf8(cursor.skip()?).ok().and_then(|s| s.parse().ok()).unwrap_or(0);
            }
            "deletionTimestamp" => self.deleting = cursor.skip()? != b"null",
            "labels" => self.labels = non_null(cursor.skip()?),
            "annotations" => self.annotations = non_null(cursor.skip()?),
            "ownerReferences" => self.owner_references = non_null(cursor.skip()?),
            "finalizers" => self.finalizers = non_null(cursor.skip()?),
            "managedFields" => self.managed_fields = non_null(cursor.skip()?),
            _ => {
                cursor.skip()?;
            }
        }
        Ok(())
    }
}

fn non_null(raw: &[u8]) -> Option<&[u8]> {
    (raw != b"null").then_some(raw)
}

/// The JSON of the value at a path of object keys, or none if something on the way is absent or no object.
///
/// # Errors
/// When the bytes are no JSON object as far as they were read.
pub fn find<'a>(json: &'a [u8], path: &[&str]) -> Result<Option<&'a [u8]>, ScanError> {
    let mut raw = json;
    for step in path {
        let mut cursor = Cursor { json: raw, at: 0 };
        cursor.space();
        if cursor.peek() != Some(b'{') {
            return if raw.len() == json.len() { Err(cursor.error()) } else { Ok(None) };
        }
        let mut found = None;
        cursor.object(|key, cursor| {
            let value = cursor.skip()?;
            if key == *step {
                found = Some(value);
            }
            Ok(found.is_none())
        })?;
        match found {
            Some(value) => raw = value,
            None => return Ok(None),
        }
    }
    Ok(Some(raw))
}

/// The text of a JSON string; none for any other value.
pub fn string(raw: &[u8]) -> Option<Cow<'_, str>> {
    if raw.first() != Some(&b'"') {
        return None;
    }
    Cursor { json: raw, at: 0 }.string().ok()
}

/// The string values of a JSON object of strings (labels, annotations) in their order; empty after a fault.
pub fn entries(raw: &[u8]) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let mut out = Vec::new();
    let mut cursor = Cursor { json: raw, at: 0 };
    let end = cursor.object_raw(|key, cursor| {
        let value = cursor.string()?;
        out.push((key, value));
        Ok(true)
    });
    if end.is_err() {
        out.clear();
    }
    out
}

/// Goes over what stands for itself in a string, for a few words at most.
fn plain(json: &[u8], mut at: usize) -> usize {
    for _ in 0..4 {
        let Some(word) = json.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { return at };
        let ends = ends_in(u64::from_le_bytes(*word));
        if ends != 0 {
            return at + (ends.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at
}

/// Nesting that the scan follows; the same as the decoder's.
const MAX_DEPTH: usize = 10_000;

/// A position in JSON bytes, for readers that need more than [`Header`], [`find`] and [`entries`]: it visits
/// members and elements and moves behind values without building anything. No recursion.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor before the first byte.
    pub fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0 }
    }

    /// The first byte of the next value, which stays where it is; none at the end.
    pub fn next_byte(&mut self) -> Option<u8> {
        self.space();
        self.peek()
    }

    fn error(&self) -> ScanError {
        ScanError { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), ScanError> {
        self.space();
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error())
    }

    /// Visits the members of an object until the visitor has had enough (false); it must consume the value.
    ///
    /// # Errors
    /// When the bytes are no object as far as they were read, or the visitor fails.
    pub fn object(
        &mut self,
        mut visit: impl FnMut(&str, &mut Self) -> Result<bool, ScanError>,
    ) -> Result<(), ScanError> {
        self.object_raw(|key, cursor| visit(&key, cursor))
    }

    fn object_raw(
        &mut self,
        mut visit: impl FnMut(Cow<'a, str>, &mut Self) -> Result<bool, ScanError>,
    ) -> Result<(), ScanError> {
        self.expect(b'{')?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            self.space();
            if !visit(key, self)? {
                return Ok(());
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error()),
            }
        }
    }

    /// Visits the elements of an array; the visitor must consume each.
    ///
    /// # Errors
    /// When the bytes are no array, or the visitor fails.
    pub fn elements(
        &mut self,
        mut visit: impl FnMut(&mut Self) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        self.expect(b'[')?;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            visit(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error()),
            }
        }
    }

    /// Moves behind a string; returns what stands between the quotes and whether it has escapes.
    fn string_span(&mut self) -> Result<(&'a [u8], bool), ScanError> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.error());
        }
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            // Most strings are short: a few words are looked through before a search of its own would have begun.
            at = plain(self.json, at);
            if !matches!(self.json.get(at), Some(b'"' | b'\\')) {
                let rest = self.json.get(at..).unwrap_or_default();
                at += memchr2(b'"', b'\\', rest).ok_or_else(|| self.error())?;
            }
            if self.json[at] == b'"' {
                self.at = at + 1;
                return Ok((&self.json[start..at], escaped));
            }
            escaped = true;
            at += 2;
        }
    }

    /// Reads a string; null reads as empty.
    ///
    /// # Errors
    /// When the next value is neither.
    pub fn string(&mut self) -> Result<Cow<'a, str>, ScanError> {
        self.space();
        if self.json[self.at..].starts_with(b"null") {
            self.at += 4;
            return Ok(Cow::Borrowed(""));
        }
        let start = self.at;
        let (inner, escaped) = self.string_span()?;
        if escaped {
            let text =
                serde_json::from_slice(&self.json[start..self.at]).map_err(|_| ScanError { at: start })?;
            return Ok(Cow::Owned(text));
        }
        std::str::from_utf8(inner).map(Cow::Borrowed).map_err(|_| ScanError { at: start })
    }

    /// Moves behind a value of any type and returns its bytes.
    ///
    /// # Errors
    /// When there is none, or it is cut off.
    pub fn skip(&mut self) -> Result<&'a [u8], ScanError> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string_span()?;
            }
            Some(b'{' | b'[') => self.skip_nested()?,
            Some(_) => {
                while self
                    .peek()
                    .is_some_and(|b| !matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
                {
                    self.at += 1;
                }
            }
            None => {}
        }
        if self.at == start {
            return Err(self.error());
        }
        Ok(&self.json[start..self.at])
    }

    fn skip_nested(&mut self) -> Result<(), ScanError> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        self.at += nested::end(rest, MAX_DEPTH).ok_or_else(|| self.error())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::meta;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            "[\"\\\\\n{}:,\\[\\]]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\]{0,5}", inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_scan_agrees_with_a_full_parse(
            name in "\\PC{0,8}", uid in "\\PC{0,4}", labels in prop::collection::btree_map("\\PC{1,4}", "\\PC{0,4}", 0..4),
            spec in any_json(), extra in any_json(), generation in any::<i64>(), pretty in any::<bool>(),
        ) {
            let object = json!({"apiVersion": "v1", "data": extra, "kind": "X", "spec": spec, "metadata":
                {"name": name, "uid": uid, "labels": labels, "annotations": extra, "generation": generation}});
            let bytes = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap();
            let header = Header::scan(&bytes).unwrap();
            prop_assert_eq!(&header.name, meta::name(&object));
            prop_assert_eq!(&header.uid, meta::uid(&object));
            prop_assert_eq!(&header.kind, "X");
            prop_assert_eq!(header.generation, generation);
            let found: serde_json::Map<String, Value> =
                entries(header.labels.unwrap()).into_iter().map(|(k, v)| (k.into_owned(), v.into_owned().into())).collect();
            prop_assert_eq!(Some(&found), meta::labels(&object));
            let raw = find(&bytes, &["spec"]).unwrap().unwrap();
            prop_assert_eq!(&serde_json::from_slice::<Value>(raw).unwrap(), &object["spec"]);
        }

        #[test]
        fn no_bytes_make_the_scan_panic(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'{'), Just(b'}'), Just(b':'), Just(b'\\'), Just(b','), any::<u8>()], 0..40)) {
            let _ = Header::scan(&bytes);
            let _ = find(&bytes, &["a", "b"]);
            let _ = entries(&bytes);
            let _ = string(&bytes);
        }
    }

    #[test]
    fn the_scan_stops_behind_type_and_metadata() {
        let cut =
            br#"{"apiVersion":"v1","kind":"A","metadata":{"name":"x","deletionTimestamp":"t"},"spec":{"#;
        let header = Header::scan(cut).unwrap();
        assert_eq!((header.name.as_ref(), header.deleting), ("x", true));
        assert_eq!(Header::scan(br#"{"kind":"A","metadata":{"na"#).unwrap_err(), ScanError { at: 24 });
    }

    #[test]
    fn a_cursor_visits_elements_up_to_the_end_of_their_array() {
        let mut cursor = Cursor::new(br#" [ {"a":"]"} , [1], "x" ] tail"#);
        let mut seen = Vec::new();
        let end = cursor.elements(|cursor| {
            seen.push(String::from_utf8_lossy(cursor.skip()?).into_owned());
            Ok(())
        });
        assert_eq!((end, seen.join(" ")), (Ok(()), r#"{"a":"]"} [1] "x""#.to_owned()));
        assert_eq!(cursor.next_byte(), Some(b't'));
        assert_eq!(Cursor::new(b"[]").elements(|_| Err(ScanError { at: 0 })), Ok(()));
        assert!(Cursor::new(b"[1 2]").elements(|cursor| cursor.skip().map(drop)).is_err());
        assert!(Cursor::new(b"{}").elements(|_| Ok(())).is_err());
    }

    #[test]
    fn a_path_leads_to_raw_json() {
        let json = br#"{"spec":{"a":[1,{"b":"}"}],"nodeName":"n1"},"x":1}"#;
        assert_eq!(find(json, &["spec", "nodeName"]), Ok(Some(&br#""n1""#[..])));
        assert_eq!(find(json, &["spec", "a", "b"]), Ok(None));
        assert_eq!(string(br#""a\u0041""#).as_deref(), Some("aA"));
        assert!(find(b"[]", &["a"]).is_err());
    }
}
