//! Tree → value, as a schema's type or as it is. Follows Go's decoder: the first wrong type is remembered and
//! decoding goes on, so that strict faults are complete; a type with its own decoder (quantity, time) ends it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::parse::Node;
use super::{Decoded, Error};
use crate::quantity::Quantity;
use crate::schema::{Schema, Type, Zero};
use crate::time;

/// As many strict faults as Go's decoder keeps.
const MAX_STRICT: usize = 100;

pub(super) fn decode(node: Node, schema: Option<&Schema>) -> Result<Decoded, Error> {
    let mut decoder = Decoder::default();
    let value = match schema {
        Some(schema) => decoder.typed(node, schema).unwrap_or(Value::Null),
        None => decoder.any(node),
    };
    match decoder.fatal.or(decoder.saved) {
        Some(error) => Err(error),
        None => Ok(Decoded { value, strict: decoder.strict }),
    }
}

enum Step {
    Field(String),
    Index(usize),
}

#[derive(Default)]
struct Decoder {
    path: Vec<Step>,
    /// The names of the structs that are being decoded.
    structs: Vec<String>,
    strict: Vec<String>,
    saved: Option<Error>,
    fatal: Option<Error>,
}

impl Decoder {
    fn strict(&mut self, what: &str, key: &str) {
        if self.strict.len() >= MAX_STRICT {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => {
                    let _ = write!(path, ".{name}");
                }
                Step::Index(i) => {
                    let _ = write!(path, "[{i}]");
                }
            }
        }
        if !path.is_empty() {
            path.push('.');
        }
        let fault = format!("{what} field {}", crate::field::quote(&format!("{path}{key}")));
        if !self.strict.contains(&fault) {
            self.strict.push(fault);
        }
    }

    fn within<T>(&mut self, step: Step, decode: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let out = decode(self);
        self.path.pop();
        out
    }

    fn wrong_type(&mut self, node: &Node, schema: &Schema) {
        let found = match node {
            Node::Null => "null".to_string(),
            Node::Bool(_) => "bool".to_string(),
            Node::Number(raw) if matches!(schema.ty, Some(Type::Integer | Type::Number)) => {
                format!("number {raw}")
            }
            Node::Number(_) => "number".to_string(),
            Node::String(_) => "string".to_string(),
            Node::Array(_) => "array".to_string(),
            Node::Object(_) => "object".to_string(),
        };
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                Step::Index(_) => None,
            })
            .collect();
        let place = match self.structs.last() {
            Some(name) if !fields.is_empty() => format!("struct field {name}.{}", fields.join(".")),
            _ => "value".to_string(),
        };
        self.saved.get_or_insert(Error::Type { found, place, expected: go_type(schema) });
    }

    fn fail(&mut self, error: impl Into<Error>) {
        self.fatal.get_or_insert(error.into());
    }

    /// Decodes without a type.
    fn any(&mut self, node: Node) -> Value {
        match node {
            Node::Null => Value::Null,
            Node::Bool(b) => Value::Bool(b),
            Node::Number(raw) => match number(&raw) {
                Some(n) => Value::Number(n),
                None => {
                    let float = Schema { ty: Some(Type::Number), ..Schema::default() };
                    self.wrong_type(&Node::Number(raw), &float);
                    Value::Null
                }
            },
            Node::String(s) => Value::String(s),
            Node::Array(items) => Value::Array(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(i, n)| self.within(Step::Index(i), |d| d.any(n)))
                    .collect(),
            ),
            Node::Object(members) => {
                let mut out = Map::new();
                for (key, node) in members {
                    if out.contains_key(&key) {
                        self.strict("duplicate", &key);
                    }
                    let value = self.within(Step::Field(key.clone()), |d| d.any(node));
                    out.insert(key, value);
                }
                Value::Object(out)
            }
        }
    }

    /// Decodes as a type; none for null and for what has a wrong type.
    fn typed(&mut self, node: Node, schema: &Schema) -> Option<Value> {
        if node == Node::Null {
            return None;
        }
        if schema.int_or_string {
            return self.int_or_string(node, schema);
        }
        let format = schema.format.as_deref().unwrap_or_default();
        if format == "quantity" || is_named(schema, "api.resource.Quantity") {
            return self.quantity(node);
        }
        match schema.ty {
            None => Some(self.any(node)),
            Some(Type::String) => self.string(node, format, schema),
            Some(Type::Integer) => self.integer(node, schema),
            Some(Type::Number) => match &node {
                Node::Number(raw) => match number(raw) {
                    Some(n) => Some(Value::Number(n)),
                    None => self.refuse(&node, schema),
                },
                _ => self.refuse(&node, schema),
            },
            Some(Type::Boolean) => match node {
                Node::Bool(b) => Some(Value::Bool(b)),
                _ => self.refuse(&node, schema),
            },
            Some(Type::Array) => match node {
                Node::Array(items) => Some(self.items(items, schema)),
                _ => self.refuse(&node, schema),
            },
            Some(Type::Object) if !schema.properties.is_empty() => match node {
                Node::Object(members) => Some(self.fields(members, schema)),
                _ => self.refuse(&node, schema),
            },
            Some(Type::Object) => match (node, &schema.additional) {
                (Node::Object(members), Some(values)) => Some(self.entries(members, values)),
                (node, Some(_)) => self.refuse(&node, schema),
                (node, None) => Some(self.any(node)),
            },
        }
    }

    fn refuse(&mut self, node: &Node, schema: &Schema) -> Option<Value> {
        self.wrong_type(node, schema);
        None
    }

    fn int_or_string(&mut self, node: Node, schema: &Schema) -> Option<Value> {
        match node {
            Node::String(s) => Some(Value::String(s)),
            Node::Number(raw) if raw.parse::<i32>().is_ok() => raw.parse::<i32>().ok().map(Value::from),
            node => {
                let int =
                    Schema { ty: Some(Type::Integer), format: Some("int32".into()), ..Schema::default() };
                self.wrong_type(&node, if matches!(node, Node::Number(_)) { &int } else { schema });
                None
            }
        }
    }

    fn quantity(&mut self, node: Node) -> Option<Value> {
        let parsed = match &node {
            Node::String(s) => s.trim().parse::<Quantity>(),
            Node::Number(raw) => raw.parse(),
            _ => Err(crate::quantity::Error::Format),
        };
        match parsed {
            Ok(quantity) => Some(quantity.to_string().into()),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    fn string(&mut self, node: Node, format: &str, schema: &Schema) -> Option<Value> {
        let Node::String(text) = node else { return self.refuse(&node, schema) };
        let canonical = match format {
            "date-time" if is_named(schema, "meta.v1.MicroTime") => {
                time::parse_micro(&text).map(time::format_micro).map_err(Error::from)
            }
            "date-time" => time::parse(&text).map(time::format).map_err(Error::from),
            "byte" => base64_text(&text),
            _ if is_named(schema, "meta.v1.Duration") => {
                time::parse_duration(&text).map(time::format_duration).map_err(Error::from)
            }
            _ => return Some(Value::String(text)),
        };
        match canonical {
            Ok(text) => Some(Value::String(text)),
            // Bad base64 is Go's own fault of a type, remembered as such; the others end the decoding.
            Err(error @ Error::Base64(_)) => {
                self.saved.get_or_insert(error);
                None
            }
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    fn integer(&mut self, node: Node, schema: &Schema) -> Option<Value> {
        if let Node::Number(raw) = &node {
            let parsed: Option<i64> = match schema.format.as_deref() {
                Some("int32") => raw.parse::<i32>().ok().map(i64::from),
                _ => raw.parse().ok(),
            };
            if let Some(n) = parsed {
                return Some(n.into());
            }
        }
        self.refuse(&node, schema)
    }

    fn items(&mut self, items: Vec<Node>, schema: &Schema) -> Value {
        let any = Schema::any();
        let item = schema.items.as_deref().unwrap_or(&any);
        let decode = |(i, node): (usize, Node)| {
            self.within(Step::Index(i), |d| d.typed(node, item)).unwrap_or_else(|| zero(item))
        };
        Value::Array(items.into_iter().enumerate().map(decode).collect())
    }

    fn entries(&mut self, members: Vec<(String, Node)>, schema: &Schema) -> Value {
        let mut out = Map::new();
        for (key, node) in members {
            if out.contains_key(&key) {
                self.strict("duplicate", &key);
            }
            let value = self.within(Step::Field(key.clone()), |d| d.typed(node, schema));
            out.insert(key, value.unwrap_or_else(|| zero(schema)));
        }
        Value::Object(out)
    }

    fn fields(&mut self, members: Vec<(String, Node)>, schema: &Schema) -> Value {
        if let Some(name) = &schema.name {
            self.structs.push(name.rsplit('.').next().unwrap_or_default().to_string());
        }
        let mut out = Map::new();
        let mut seen = BTreeSet::new();
        for (key, node) in members {
            let Some(property) = schema.properties.get(key.as_str()) else {
                if schema.preserve_unknown_fields {
                    let value = self.within(Step::Field(key.clone()), |d| d.any(node));
                    out.insert(key, value);
                } else {
                    self.strict("unknown", &key);
                }
                continue;
            };
            if !seen.insert(key.clone()) {
                self.strict("duplicate", &key);
            }
            let Some(value) = self.within(Step::Field(key.clone()), |d| d.typed(node, property)) else {
                continue;
            };
            if is_omitted(&value, property) && !schema.required.iter().any(|r| r.as_ref() == key) {
                continue;
            }
            match out.get_mut(&key) {
                Some(before) => merge(before, value),
                None => {
                    out.insert(key, value);
                }
            }
        }
        if schema.name.is_some() {
            self.structs.pop();
        }
        Value::Object(out)
    }
}

fn is_named(schema: &Schema, suffix: &str) -> bool {
    schema.name.as_deref().is_some_and(|name| name.ends_with(suffix))
}

/// Go leaves out optional lists and maps that are empty when it writes an object back, but for those that it always
/// writes.
fn is_omitted(value: &Value, schema: &Schema) -> bool {
    match value {
        _ if schema.zero == Zero::Write => false,
        Value::Array(items) => items.is_empty() && schema.ty == Some(Type::Array),
        Value::Object(map) => map.is_empty() && schema.properties.is_empty() && schema.additional.is_some(),
        _ => false,
    }
}

/// A second value for the same field is decoded into the first, as Go does.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(before) => merge(before, value),
                    None => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (into, from) => *into = from,
    }
}

/// The zero value of a list item or map value that is null.
fn zero(schema: &Schema) -> Value {
    if schema.format.as_deref() == Some("quantity") || is_named(schema, "api.resource.Quantity") {
        return "0".into();
    }
    if schema.int_or_string {
        return 0.into();
    }
    match schema.ty {
        Some(Type::String) if schema.format.as_deref() == Some("date-time") => Value::Null,
        Some(Type::String) => "".into(),
        Some(Type::Integer | Type::Number) => 0.into(),
        Some(Type::Boolean) => false.into(),
        Some(Type::Object) if !schema.properties.is_empty() => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

/// An int64 if it is one, else a float64; none past its range. Whole floats become integers, for that is how
/// they are written back.
fn number(raw: &str) -> Option<Number> {
    if let Ok(n) = raw.parse::<i64>() {
        return Some(n.into());
    }
    let float: f64 = raw.parse().ok()?;
    if float.fract() == 0.0 && float.abs() < 1e15 {
        return Some((float as i64).into());
    }
    Number::from_f64(float)
}

/// The same bytes in canonical base64; line breaks are skipped, as Go's decoder does.
fn base64_text(text: &str) -> Result<String, Error> {
    let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(&compact) {
        Ok(bytes) => Ok(STANDARD.encode(bytes)),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(Error::Base64(at))
        }
        Err(_) => Err(Error::Base64(compact.len() / 4 * 4)),
    }
}

/// Go's name of a type, as far as the schema tells.
fn go_type(schema: &Schema) -> String {
    if let Some(name) = &schema.name {
        let mut parts = name.rsplit('.');
        let kind = parts.next().unwrap_or_default();
        return parts.next().map_or_else(|| kind.to_string(), |version| format!("{version}.{kind}"));
    }
    match schema.ty {
        Some(Type::String) if schema.format.as_deref() == Some("byte") => "[]uint8".into(),
        Some(Type::String) => "string".into(),
        Some(Type::Integer) => schema.format.as_deref().unwrap_or("int64").into(),
        Some(Type::Number) => "float64".into(),
        Some(Type::Boolean) => "bool".into(),
        Some(Type::Array) => format!("[]{}", schema.items.as_deref().map_or("interface {}".into(), go_type)),
        Some(Type::Object) => match &schema.additional {
            Some(values) => format!("map[string]{}", go_type(values)),
            None => "map[string]interface {}".into(),
        },
        None if schema.int_or_string => "int32".into(),
        None => "interface {}".into(),
    }
}
