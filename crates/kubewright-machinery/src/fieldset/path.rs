//! Paths: how a field of an object is named in a field set.
//!
//! A path is a sequence of elements; each selects one child of the value before it. What flows through
//! here is the order of elements (the order in which sets and `fieldsV1` list them), their text for
//! messages (`.spec.containers[name="c"].image`) and their key in `fieldsV1` (`k:{"name":"c"}`).
//! Nothing here looks at an object or at a schema.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::Value;

use super::value;
use crate::gojson::{self, Style};

/// One step of a path. Cloning is a reference count.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A field of an object or a key of a map (`f:`).
    Field(Arc<str>),
    /// The item of a list of type map with these keys, sorted by name (`k:`).
    Key(Arc<[(Box<str>, Value)]>),
    /// The item of a list of type set with this value (`v:`).
    Value(Arc<Value>),
    /// The item of an atomic list at this place (`i:`).
    Index(i64),
}

/// Why a key of `fieldsV1` is not a path element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// Shorter than a type and its colon.
    #[error("key must be 2 characters long:")]
    Short,
    /// The second character is no colon.
    #[error("missing colon: {0}")]
    NoColon(String),
    /// A type letter that nobody knows; readers leave such keys out.
    #[error("unknown path element type")]
    UnknownType,
    /// What follows `k:` is no JSON object, what follows `v:` no JSON, or what follows `i:` no integer.
    #[error("{0}")]
    Content(String),
}

impl PathElement {
    /// The element of a field.
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// The element of a keyed item; the keys may come in any order.
    pub fn key(mut keys: Vec<(Box<str>, Value)>) -> Self {
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Key(keys.into())
    }

    /// The element of an item of a set.
    pub fn value(value: Value) -> Self {
        Self::Value(Arc::new(value))
    }

    /// Reads a key of `fieldsV1`.
    ///
    /// # Errors
    /// [`ElementError`]; a caller that reads a whole set skips [`ElementError::UnknownType`].
    pub fn decode(text: &str) -> Result<Self, ElementError> {
        let bytes = text.as_bytes();
        if bytes.len() < 2 {
            return Err(ElementError::Short);
        }
        if bytes[1] != b':' {
            return Err(ElementError::NoColon(text.into()));
        }
        let content = text.get(2..).unwrap_or_default();
        match bytes[0] {
            b'f' => Ok(Self::field(content)),
            b'v' => serde_json::from_str(content)
                .map(Self::value)
                .map_err(|e| ElementError::Content(e.to_string())),
            b'k' => {
                let keys: serde_json::Map<String, Value> =
                    serde_json::from_str(content).map_err(|e| ElementError::Content(e.to_string()))?;
                Ok(Self::key(keys.into_iter().map(|(name, value)| (name.into_boxed_str(), value)).collect()))
            }
            b'i' => content
                .parse()
                .map(Self::Index)
                .map_err(|_| ElementError::Content(format!("invalid index {content:?}"))),
            _ => Err(ElementError::UnknownType),
        }
    }

    /// The key of `fieldsV1`.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Field(name) => {
                out.push_str("f:");
                out.push_str(name);
            }
            Self::Key(keys) => {
                out.push_str("k:{");
                for (i, (name, value)) in keys.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    gojson::write_name(&mut out, name);
                    out.push(':');
                    gojson::write(&mut out, value, Style::Iterator);
                }
                out.push('}');
            }
            Self::Value(value) => {
                out.push_str("v:");
                gojson::write(&mut out, value, Style::Iterator);
            }
            Self::Index(index) => {
                let _ = write!(out, "i:{index}");
            }
        }
        out
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                for (x, y) in a.iter().zip(b.iter()) {
                    let order = x.0.cmp(&y.0).then_with(|| value::compare(&x.1, &y.1));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                a.len().cmp(&b.len())
            }
            (Self::Value(a), Self::Value(b)) => value::compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PathElement {}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                f.write_char('[')?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    if i > 0 {
                        f.write_char(',')?;
                    }
                    write!(f, "{name}={}", value::display(value))?;
                }
                f.write_char(']')
            }
            Self::Value(value) => write!(f, "[={}]", value::display(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The name of a field, from the root of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<PathElement>);

impl Path {
    /// A path of fields only: `Path::fields(&["spec", "replicas"])`.
    pub fn fields(names: &[&str]) -> Self {
        Self(names.iter().map(|name| PathElement::field(name)).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_are_read_and_written_as_in_fields_v1() {
        for text in [
            "f:spec",
            "f:kubectl.kubernetes.io/last-applied",
            r#"k:{"containerPort":80,"protocol":"TCP"}"#,
            r#"v:"example.com/a""#,
            "v:5",
            "v:true",
            "i:3",
        ] {
            assert_eq!(PathElement::decode(text).unwrap().encode(), text);
        }
    }

    #[test]
    fn keys_are_sorted_and_escaped_as_go_does() {
        let element = PathElement::decode(r#"k:{"b":"<x>","a":1.0}"#).unwrap();
        assert_eq!(element.encode(), r#"k:{"a":1,"b":"\u003cx\u003e"}"#);
        assert_eq!(PathElement::decode(&element.encode()).unwrap(), element);
    }

    #[test]
    fn what_is_no_element_says_why() {
        assert_eq!(PathElement::decode("f"), Err(ElementError::Short));
        assert_eq!(PathElement::decode("spec"), Err(ElementError::NoColon("spec".into())));
        assert_eq!(PathElement::decode("x:1"), Err(ElementError::UnknownType));
        assert!(matches!(PathElement::decode("k:[1]"), Err(ElementError::Content(_))));
        assert!(matches!(PathElement::decode("v:1 2"), Err(ElementError::Content(_))));
        assert!(matches!(PathElement::decode("i:1.5"), Err(ElementError::Content(_))));
        assert_eq!(PathElement::decode("é:"), Err(ElementError::NoColon("é:".into())));
    }

    #[test]
    fn fields_sort_before_keys_before_values_before_indexes() {
        let sorted = [
            PathElement::field("a"),
            PathElement::field("b"),
            PathElement::key(vec![("n".into(), json!(1))]),
            PathElement::key(vec![("n".into(), json!(1)), ("o".into(), json!(1))]),
            PathElement::key(vec![("n".into(), json!(2))]),
            PathElement::value(json!(1)),
            PathElement::value(json!(1.5)),
            PathElement::value(json!("a")),
            PathElement::value(json!(false)),
            PathElement::value(json!(null)),
            PathElement::Index(1),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_path_reads_as_in_messages() {
        let path = Path(vec![
            PathElement::field("spec"),
            PathElement::key(vec![("name".into(), json!("c")), ("p".into(), json!(80))]),
            PathElement::value(json!("x\"y")),
            PathElement::Index(2),
        ]);
        assert_eq!(path.to_string(), r#".spec[name="c",p=80][="x\"y"][2]"#);
    }
}
