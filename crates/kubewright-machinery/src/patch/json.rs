//! JSON patch (RFC 6902) with the leniencies of the library that kube-apiserver uses: negative indexes count from
//! the end, `replace` of an absent member adds it, `copy` of one gives null.

use serde_json::{Map, Value};

use crate::decode::{self, Decoded};
use crate::field::quote;
use crate::status::Status;

/// As many operations as a patch may have.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes of JSON that the copies of one patch may come to.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

/// A body is no JSON patch.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or no list of operations.
    #[error("error decoding patch: {0}")]
    Decode(#[from] decode::Error),
    /// Too many operations.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
}

impl ParseError {
    /// The answer: 400 `BadRequest`, or 413.
    pub fn status(&self) -> Status {
        match self {
            ParseError::Decode(_) => Status::bad_request(self.to_string()),
            ParseError::TooMany(_) => Status::too_large(self),
        }
    }
}

/// An operation can't be done on a document. The API server keeps these words to itself and answers
/// [`Status::unprocessable`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something on the path of a pointer is absent or a scalar.
    #[error("{op} operation does not apply: doc is missing path: {pointer}")]
    Missing {
        /// The operation.
        op: &'static str,
        /// The pointer.
        pointer: String,
    },
    /// An index that is no number.
    #[error("value was not a proper array index: '{0}'")]
    NoIndex(String),
    /// An index outside of the list.
    #[error("Unable to access invalid index: {0}")]
    Index(i64),
    /// A `remove` or `move` of an absent member.
    #[error("Unable to remove nonexistent key: {0}")]
    Absent(String),
    /// A `test` that does not hold.
    #[error("testing value {0} failed")]
    Test(String),
    /// The whole document replaced by a scalar.
    #[error("replace operation value must be object or array")]
    Scalar,
    /// An operation without `path` or `from`.
    #[error("operation missing {0} field")]
    NoField(&'static str),
    /// An operation that RFC 6902 does not know.
    #[error("Unexpected kind: {0}")]
    Kind(String),
    /// What is copied is more than may be: copies of copies double.
    #[error("Unable to copy, the accumulated size increase of copy is {0}, exceeding the limit {MAX_COPIED}")]
    Copied(usize),
    /// The document would be nested more deeply than one that is sent may be.
    #[error("exceeded max depth")]
    Depth,
}

impl Error {
    /// The answer: 422 without words of its own.
    pub fn status(&self) -> Status {
        Status::unprocessable()
    }
}

/// Operations to be done in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    operations: Vec<Map<String, Value>>,
}

/// Reads a patch; also gives its strict faults (duplicate and unknown fields of operations).
///
/// # Errors
/// When the body is not JSON, no list of objects, or too long.
pub fn parse(body: &[u8]) -> Result<(Patch, Vec<String>), ParseError> {
    let Decoded { value, strict } = decode::json(body)?;
    let wrong = |found: &Value, place: &str, expected: &str| decode::Error::Type {
        found: decode::json_type(found).into(),
        place: place.into(),
        expected: expected.into(),
    };
    let list = match value {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        other => return Err(wrong(&other, "value", "[]handlers.jsonPatchOp").into()),
    };
    let mut faults: Vec<String> = strict.into_iter().map(|f| format!("json patch {f}")).collect();
    let mut operations = Vec::with_capacity(list.len());
    for (i, item) in list.into_iter().enumerate() {
        let operation = match item {
            Value::Object(operation) => operation,
            Value::Null => Map::new(),
            other => return Err(wrong(&other, "value", "handlers.jsonPatchOp").into()),
        };
        for (key, value) in &operation {
            match key.as_str() {
                "op" | "path" | "from" if value.is_string() || value.is_null() => {}
                "op" | "path" | "from" => {
                    return Err(wrong(value, &format!("struct field jsonPatchOp.{key}"), "string").into());
                }
                "value" => {}
                _ => faults.push(format!("json patch unknown field {}", quote(&format!("[{i}].{key}")))),
            }
        }
        operations.push(operation);
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(ParseError::TooMany(operations.len()));
    }
    Ok((Patch { operations }, faults))
}

impl Patch {
    /// Number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Does the operations in order. A document that an error leaves half-patched is consumed.
    ///
    /// # Errors
    /// When an operation can't be done, or a test fails.
    pub fn apply(&self, mut document: Value) -> Result<Value, Error> {
        let mut copied = 0;
        for operation in &self.operations {
            step(&mut document, operation, &mut copied)?;
        }
        Ok(document)
    }
}

fn step(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), Error> {
    let pointer = |name| operation.get(name).and_then(Value::as_str).ok_or(Error::NoField(name));
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match operation.get("op").and_then(Value::as_str).unwrap_or("unknown") {
        "add" => {
            let (path, value) = (pointer("path")?, value());
            fits(path, &value)?;
            let (parent, key) = parent(document, path, "add")?;
            add(parent, &key, value)
        }
        "remove" => {
            let (parent, key) = parent(document, pointer("path")?, "remove")?;
            remove(parent, &key).map(drop)
        }
        "replace" => {
            let (path, value) = (pointer("path")?, value());
            fits(path, &value)?;
            if path.is_empty() {
                if !value.is_object() && !value.is_array() {
                    return Err(Error::Scalar);
                }
                *document = value;
                return Ok(());
            }
            match parent(document, path, "replace")? {
                (Value::Array(items), key) => {
                    let at = existing(items, &key)?;
                    items[at] = value;
                    Ok(())
                }
                (other, key) => add(other, &key, value),
            }
        }
        "move" => {
            let (source, key) = parent(document, pointer("from")?, "move")?;
            let value = remove(source, &key)?;
            let path = pointer("path")?;
            fits(path, &value)?;
            let (target, key) = parent(document, path, "move")?;
            add(target, &key, value)
        }
        "copy" => {
            let (source, key) = parent(document, pointer("from")?, "copy")?;
            let value = get(source, &key)?.unwrap_or(&Value::Null);
            *copied += serde_json::to_string(value).map_or(0, |text| text.len());
            if *copied > MAX_COPIED {
                return Err(Error::Copied(*copied));
            }
            let (path, value) = (pointer("path")?, value.clone());
            fits(path, &value)?;
            let (target, key) = parent(document, path, "copy")?;
            add(target, &key, value)
        }
        "test" => {
            let path = pointer("path")?;
            let found = if path.is_empty() {
                Some(&*document)
            } else {
                let (parent, key) = parent(document, path, "test")?;
                get(parent, &key)?
            };
            // Absent and null are the same to a test.
            let expected = operation.get("value").unwrap_or(&Value::Null);
            if found.unwrap_or(&Value::Null) == expected {
                Ok(())
            } else {
                Err(Error::Test(path.to_string()))
            }
        }
        other => Err(Error::Kind(other.to_string())),
    }
}

/// Whether a value may be put at a place: a patch nests no more deeply than a body may.
fn fits(pointer: &str, value: &Value) -> Result<(), Error> {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    let above = pointer.bytes().filter(|byte| *byte == b'/').count();
    if above + depth(value) > decode::MAX_DEPTH { Err(Error::Depth) } else { Ok(()) }
}

/// The container that a pointer's last token names a place in.
fn parent<'d>(
    document: &'d mut Value,
    pointer: &str,
    op: &'static str,
) -> Result<(&'d mut Value, String), Error> {
    let missing = || Error::Missing { op, pointer: pointer.to_string() };
    // What stands before the first slash has no meaning.
    let (_, tokens) = pointer.split_once('/').ok_or_else(missing)?;
    let (path, last) = match tokens.rsplit_once('/') {
        Some((path, last)) => (Some(path), last),
        None => (None, tokens),
    };
    let mut here = document;
    for token in path.into_iter().flat_map(|p| p.split('/')) {
        let token = unescape(token);
        here = match here {
            Value::Object(map) => map.get_mut(&token).ok_or_else(missing)?,
            Value::Array(items) => {
                let at = existing(items, &token).map_err(|_| missing())?;
                &mut items[at]
            }
            _ => return Err(missing()),
        };
    }
    if here.is_object() || here.is_array() { Ok((here, unescape(last))) } else { Err(missing()) }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn index(token: &str) -> Result<i64, Error> {
    token.parse().map_err(|_| Error::NoIndex(token.to_string()))
}

/// The place of an index among `length` places; negative ones count from the end.
fn place(index: i64, length: usize) -> Result<usize, Error> {
    let length = i64::try_from(length).map_err(|_| Error::Index(index))?;
    let at = if index < 0 { index.checked_add(length).ok_or(Error::Index(index))? } else { index };
    if (0..length).contains(&at) {
        usize::try_from(at).map_err(|_| Error::Index(index))
    } else {
        Err(Error::Index(index))
    }
}

fn existing(items: &[Value], token: &str) -> Result<usize, Error> {
    place(index(token)?, items.len())
}

fn get<'v>(parent: &'v Value, key: &str) -> Result<Option<&'v Value>, Error> {
    match parent {
        Value::Array(items) => Ok(Some(&items[existing(items, key)?])),
        other => Ok(other.get(key)),
    }
}

fn add(parent: &mut Value, key: &str, value: Value) -> Result<(), Error> {
    match parent {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let at = place(index(key)?, items.len() + 1)?;
            items.insert(at, value);
        }
        Value::Object(map) => {
            map.insert(key.to_string(), value);
        }
        _ => return Err(Error::Absent(key.to_string())),
    }
    Ok(())
}

fn remove(parent: &mut Value, key: &str) -> Result<Value, Error> {
    match parent {
        Value::Array(items) => {
            let at = existing(items, key)?;
            Ok(items.remove(at))
        }
        Value::Object(map) => map.remove(key).ok_or_else(|| Error::Absent(key.to_string())),
        _ => Err(Error::Absent(key.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::tests::any_json;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn apply(document: Value, patch: Value) -> Result<Value, Error> {
        parse(patch.to_string().as_bytes()).unwrap().0.apply(document)
    }

    /// Operations that make `from` into `to`, by the plainest way.
    fn diff(from: &Value, to: &Value, pointer: &str, out: &mut Vec<Value>) {
        match (from, to) {
            (Value::Object(a), Value::Object(b)) => {
                let at = |k: &str| format!("{pointer}/{}", k.replace('~', "~0").replace('/', "~1"));
                for key in a.keys().filter(|k| !b.contains_key(*k)) {
                    out.push(json!({"op": "remove", "path": at(key)}));
                }
                for (key, value) in b {
                    match a.get(key) {
                        Some(before) => diff(before, value, &at(key), out),
                        None => out.push(json!({"op": "add", "path": at(key), "value": value})),
                    }
                }
            }
            (a, b) if a == b => {}
            (_, b) => out.push(json!({"op": "replace", "path": pointer, "value": b})),
        }
    }

    #[test]
    fn copies_that_double_and_places_that_deepen_have_an_end() {
        let copies: Vec<Value> =
            (0..60).map(|n| json!({"op": "copy", "from": "/d", "path": format!("/d/c{n}")})).collect();
        let document = json!({"d": {"a": "x".repeat(1000)}});
        assert!(matches!(apply(document, json!(copies)), Err(Error::Copied(size)) if size > MAX_COPIED));
        let mut path = String::from("/d");
        let mut deepening = Vec::new();
        for _ in 0..decode::MAX_DEPTH + 1 {
            path.push_str("/d");
            deepening.push(json!({"op": "add", "path": path, "value": {}}));
        }
        assert_eq!(apply(json!({"d": {}}), json!(deepening)), Err(Error::Depth));
    }

    #[test]
    fn lists_take_indexes_a_dash_and_negative_indexes() {
        let doc = || json!({"l": ["a", "b", "c"]});
        for (patch, list) in [
            (json!([{"op": "add", "path": "/l/1", "value": "x"}]), json!(["a", "x", "b", "c"])),
            (json!([{"op": "add", "path": "/l/-", "value": "x"}]), json!(["a", "b", "c", "x"])),
            (json!([{"op": "add", "path": "/l/3", "value": "x"}]), json!(["a", "b", "c", "x"])),
            (json!([{"op": "add", "path": "/l/-1", "value": "x"}]), json!(["a", "b", "c", "x"])),
            (json!([{"op": "remove", "path": "/l/-1"}]), json!(["a", "b"])),
            (json!([{"op": "test", "path": "/l/00", "value": "a"}]), json!(["a", "b", "c"])),
            (json!([{"op": "move", "from": "/l/0", "path": "/l/-"}]), json!(["b", "c", "a"])),
            (json!([{"op": "replace", "path": "/l/2", "value": null}]), json!(["a", "b", null])),
        ] {
            assert_eq!(apply(doc(), patch), Ok(json!({"l": list})));
        }
        for path in ["/l/9", "/l/x", "/l/-9", "/l/a/b", "/no/a", "l"] {
            assert!(apply(doc(), json!([{"op": "add", "path": path, "value": 1}])).is_err(), "{path}");
        }
        assert!(apply(doc(), json!([{"op": "remove", "path": "/l/-"}])).is_err());
        assert_eq!(
            apply(doc(), json!([{"op": "remove", "path": ""}])).unwrap_err().status(),
            Status::unprocessable()
        );
    }

    #[test]
    fn members_are_escaped_and_absent_ones_are_lenient() {
        let doc = || json!({"a/b": 1, "m~n": 2});
        assert_eq!(
            apply(
                doc(),
                json!([{"op": "move", "from": "/a~1b", "path": "/x"}, {"op": "replace", "path": "/m~0n", "value": 3}])
            ),
            Ok(json!({"x": 1, "m~n": 3}))
        );
        assert_eq!(
            apply(json!({}), json!([{"op": "replace", "path": "/n", "value": 1}])),
            Ok(json!({"n": 1}))
        );
        assert_eq!(
            apply(json!({}), json!([{"op": "copy", "from": "/n", "path": "/m"}])),
            Ok(json!({"m": null}))
        );
        assert_eq!(apply(json!({}), json!([{"op": "test", "path": "/n", "value": null}])), Ok(json!({})));
        assert_eq!(apply(json!({}), json!([{"op": "replace", "path": "", "value": [1]}])), Ok(json!([1])));
        assert!(apply(json!({}), json!([{"op": "replace", "path": "", "value": 1}])).is_err());
        assert!(apply(json!({}), json!([{"op": "frob", "path": "/a"}])).is_err());
    }

    #[test]
    fn bodies_that_are_no_patch_are_refused_in_the_servers_words() {
        let status = |b: &str| parse(b.as_bytes()).unwrap_err().status();
        assert_eq!(
            status(r#"{"op":"add"}"#).message,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        );
        let many = format!("[{}]", vec!["{}"; MAX_OPERATIONS + 1].join(","));
        assert_eq!(
            (status(&many).code, status(&many).message.as_str()),
            (
                413,
                "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
            )
        );
        let (_, strict) = parse(br#"[{"op":"test","path":"","x":1,"path":""}]"#).unwrap();
        assert_eq!(
            strict,
            [r#"json patch duplicate field "[0].path""#, r#"json patch unknown field "[0].x""#]
        );
    }

    proptest! {
        #[test]
        fn the_operations_between_two_documents_lead_from_one_to_the_other(from in any_json(true), to in any_json(true)) {
            let (from, to) = (json!({"r": from}), json!({"r": to}));
            let mut patch = Vec::new();
            diff(&from, &to, "", &mut patch);
            prop_assert_eq!(apply(from, Value::from(patch)), Ok(to));
        }

        #[test]
        fn any_pointer_is_followed_or_refused(document in any_json(true), op in "(add|remove|replace|move|copy|test)", path in "[/a-d0-2~+-]{0,6}", from in "[/a-d0-2-]{0,4}") {
            let _ = apply(document, json!([{"op": op, "path": path, "from": from, "value": 1}]));
        }
    }
}
