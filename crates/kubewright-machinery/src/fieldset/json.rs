//! `fieldsV1`: a set as JSON, in both directions.
//!
//! A member is a key with an empty object; a child is a key with its members inside, and with `"."` inside
//! when it is a member itself. Reading streams (from bytes or from a value), bounds its depth, and leaves out
//! keys of types it does not know.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::path::{ElementError, PathElement};
use super::set::Set;

/// How deep `fieldsV1` may nest. Objects nest less: this only keeps hostile input from exhausting the stack.
const MAX_DEPTH: usize = 200;

/// `fieldsV1` that is no field set: not JSON, not objects all the way down, or keys that are no elements.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetError(#[source] serde_json::Error);

impl Set {
    /// Reads `fieldsV1` from its JSON text.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn from_json(text: &[u8]) -> Result<Self, SetError> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let (set, _) = Node { depth: 0 }.deserialize(&mut reader).map_err(SetError)?;
        reader.end().map_err(SetError)?;
        Ok(set)
    }

    /// Reads `fieldsV1` from a value.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn from_value(value: &Value) -> Result<Self, SetError> {
        Node { depth: 0 }.deserialize(value).map(|(set, _)| set).map_err(SetError)
    }

    /// `fieldsV1` as JSON text, its keys in the order of elements.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a set is an object of objects")
    }

    /// `fieldsV1` as a value.
    pub fn to_value(&self) -> Value {
        fn contents(set: &Set, itself: bool) -> Value {
            let mut out = serde_json::Map::new();
            if itself && !set.is_empty() {
                out.insert(".".into(), Value::Object(serde_json::Map::new()));
            }
            for element in set.members() {
                out.insert(element.encode(), Value::Object(serde_json::Map::new()));
            }
            for (element, child) in set.children() {
                out.insert(element.encode(), contents(child, set.has_member(element)));
            }
            Value::Object(out)
        }
        contents(self, false)
    }
}

/// The contents of a level; `itself` says whether the level is a member too.
struct Contents<'a> {
    set: &'a Set,
    itself: bool,
}

impl Serialize for Contents<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const EMPTY: Contents<'_> = Contents { set: &Set::EMPTY, itself: false };
        let mut map = serializer.serialize_map(None)?;
        if self.itself && !self.set.is_empty() {
            map.serialize_entry(".", &EMPTY)?;
        }
        let mut children = self.set.children().iter().peekable();
        let child = |map: &mut S::SerializeMap, (element, set): &(PathElement, Set), itself| {
            map.serialize_entry(&element.encode(), &Contents { set, itself })
        };
        for member in self.set.members() {
            while let Some(next) = children.next_if(|next| next.0 < *member) {
                child(&mut map, next, false)?;
            }
            match children.next_if(|next| next.0 == *member) {
                Some(next) => child(&mut map, next, true)?,
                None => map.serialize_entry(&member.encode(), &EMPTY)?,
            }
        }
        for next in children {
            child(&mut map, next, false)?;
        }
        map.end()
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Contents { set: self, itself: false }.serialize(serializer)
    }
}

/// Reads one level: what is below it, and whether it is a member of its parent.
struct Node {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = (Set, bool);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = (Set, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok((Set::new(), true))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        if self.depth >= MAX_DEPTH {
            return Err(A::Error::custom("fields nest too deeply"));
        }
        let (mut members, mut children) = (Vec::new(), Vec::new());
        let mut itself = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "." {
                itself = true;
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let element = match PathElement::decode(&key) {
                Ok(element) => element,
                Err(ElementError::UnknownType) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Err(error) => return Err(A::Error::custom(error)),
            };
            let (below, member) = map.next_value_seed(Self { depth: self.depth + 1 })?;
            if member {
                members.push(element.clone());
            }
            if !below.is_empty() {
                children.push((element, below));
            }
        }
        let set = Set::from_parts(members, children);
        let leaf = set.is_empty();
        Ok((set, itself || leaf))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::set::tests::any_set;
    use super::*;

    #[test]
    fn fields_v1_of_a_real_object_make_the_round_trip() {
        let text = r#"{"f:metadata":{"f:finalizers":{".":{},"v:\"example.com/a\"":{}},"f:labels":{"f:l":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},"f:replicas":{}}}"#;
        let set = Set::from_json(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(set.to_json()).unwrap(), text);
        assert_eq!(set.to_value(), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(Set::from_value(&set.to_value()).unwrap(), set);
    }

    #[test]
    fn keys_of_unknown_types_are_left_out() {
        let set = Set::from_value(&json!({"x:what": {"nonsense": 1}, "f:a": {}})).unwrap();
        assert_eq!(set.to_value(), json!({"f:a": {}}));
    }

    #[test]
    fn what_is_no_set_is_an_error() {
        for text in ["[]", "1", r#"{"f:a":1}"#, r#"{"a":{}}"#, r#"{"k:{":{}}"#, r#"{} x"#, "", "{"] {
            assert!(Set::from_json(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn hostile_depth_is_refused() {
        let mut value = json!({});
        for _ in 0..5000 {
            value = Value::Object([("f:a".to_string(), value)].into_iter().collect());
        }
        assert!(Set::from_value(&value).is_err());
        // Dropping it must not recurse either.
        while let Some(inner) = value.get_mut("f:a").map(Value::take) {
            value = inner;
        }
        let text = r#"{"f:a":"#.repeat(100_000);
        assert!(Set::from_json(text.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn every_set_makes_the_round_trip(set in any_set()) {
            prop_assert_eq!(&Set::from_json(&set.to_json()).unwrap(), &set);
            prop_assert_eq!(&Set::from_value(&set.to_value()).unwrap(), &set);
            prop_assert_eq!(serde_json::from_slice::<Value>(&set.to_json()).unwrap(), set.to_value());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[{}\":.fkvi0-9a, \\[\\]]{0,40}") {
            let _ = Set::from_json(&bytes);
            let _ = Set::from_json(text.as_bytes());
        }
    }
}
