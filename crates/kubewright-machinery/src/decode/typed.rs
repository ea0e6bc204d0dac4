//! Pieces → value, as a schema's type or as it is. Follows Go's decoder: the first wrong type is remembered and
//! decoding goes on, so that strict faults are complete; a type with its own decoder (quantity, time) ends it.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::reader::{Reader, Token};
use super::{Decoded, Error};
use crate::quantity::Quantity;
use crate::schema::{Schema, Type};
use crate::time;

/// What most objects need of each stack: growing them between other allocations costs more than they do.
const ROOM: usize = 64;
/// As many strict faults as Go's decoder keeps.
const MAX_STRICT: usize = 100;

pub(super) fn decode<'a>(reader: impl Reader<'a>, schema: Option<&Schema>) -> Result<Decoded, Error> {
    let mut decoder = Decoder {
        reader,
        path: Vec::with_capacity(ROOM),
        structs: Vec::with_capacity(ROOM),
        items: Vec::with_capacity(ROOM),
        strict: Vec::new(),
        saved: None,
        fatal: None,
    };
    let value = match schema {
        Some(schema) => decoder.typed(schema)?.unwrap_or(Value::Null),
        None => decoder.any()?,
    };
    decoder.reader.end()?;
    match decoder.fatal.or(decoder.saved) {
        Some(error) => Err(error),
        None => Ok(Decoded { value, strict: decoder.strict }),
    }
}

enum Step<'a> {
    Field(Cow<'a, str>),
    Index(usize),
}

/// Errors of its methods are faults of the text, which win over everything else.
struct Decoder<'a, 's, R> {
    reader: R,
    path: Vec<Step<'a>>,
    /// The types of the structs that are being decoded.
    structs: Vec<&'s str>,
    /// The items so far of the lists that are being decoded, outer lists first: a list is made when its length is known.
    items: Vec<Value>,
    strict: Vec<String>,
    saved: Option<Error>,
    fatal: Option<Error>,
}

impl<'a, 's, R: Reader<'a>> Decoder<'a, 's, R> {
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

    fn within<T>(&mut self, step: Step<'a>, decode: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let out = decode(self);
        self.path.pop();
        out
    }

    /// Remembers that a value is of another type than its field.
    fn wrong_type(&mut self, token: &Token<'_>, schema: &Schema) {
        let found = match token {
            Token::Null => "null".to_string(),
            Token::Bool(_) => "bool".to_string(),
            Token::Number(raw) if matches!(schema.ty, Some(Type::Integer | Type::Number)) => {
                format!("number {raw}")
            }
            Token::Number(_) => "number".to_string(),
            Token::String(_) => "string".to_string(),
            Token::Array => "array".to_string(),
            Token::Object => "object".to_string(),
        };
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(&**name),
                Step::Index(_) => None,
            })
            .collect();
        let place = match self.structs.last() {
            Some(name) if !fields.is_empty() => {
                let name = name.rsplit('.').next().unwrap_or_default();
                format!("struct field {name}.{}", fields.join("."))
            }
            _ => "value".to_string(),
        };
        self.saved.get_or_insert(Error::Type { found, place, expected: go_type(schema) });
    }

    fn fail(&mut self, error: impl Into<Error>) {
        self.fatal.get_or_insert(error.into());
    }

    /// Decodes without a type.
    fn any(&mut self) -> Result<Value, Error> {
        let token = self.reader.token()?;
        self.any_from(token)
    }

    fn any_from(&mut self, token: Token<'a>) -> Result<Value, Error> {
        Ok(match token {
            Token::Null => Value::Null,
            Token::Bool(b) => Value::Bool(b),
            Token::Number(raw) => match number(&raw) {
                Some(n) => Value::Number(n),
                None => {
                    let float = Schema { ty: Some(Type::Number), ..Schema::default() };
                    self.wrong_type(&Token::Number(raw), &float);
                    Value::Null
                }
            },
            Token::String(text) => Value::String(text.into_owned()),
            Token::Array => self.list(Self::any)?,
            Token::Object => self.members(Self::any)?,
        })
    }

    /// The members of an object without types of their own; the last of duplicates wins.
    fn members(&mut self, decode: impl Fn(&mut Self) -> Result<Value, Error>) -> Result<Value, Error> {
        let mut out = Map::new();
        while let Some(key) = self.reader.key()? {
            match out.entry(&*key) {
                Entry::Vacant(slot) => {
                    slot.insert(self.within(Step::Field(key), &decode)?);
                }
                Entry::Occupied(mut slot) => {
                    self.strict("duplicate", &key);
                    slot.insert(self.within(Step::Field(key), &decode)?);
                }
            }
        }
        Ok(Value::Object(out))
    }

    /// Decodes as a type; none for null and for what has a wrong type.
    fn typed(&mut self, schema: &'s Schema) -> Result<Option<Value>, Error> {
        let token = self.reader.token()?;
        if token == Token::Null {
            return Ok(None);
        }
        if schema.int_or_string {
            return self.int_or_string(token, schema);
        }
        let format = schema.format.as_deref().unwrap_or_default();
        if format == "quantity" || is_named(schema, "api.resource.Quantity") {
            return self.quantity(token);
        }
        match (schema.ty, token) {
            (None, token) => self.any_from(token).map(Some),
            (Some(Type::String), Token::String(text)) => Ok(self.string(text, format, schema)),
            (Some(Type::Integer), Token::Number(raw)) => match integer(&raw, format) {
                Some(n) => Ok(Some(n.into())),
                None => self.refuse(Token::Number(raw), schema),
            },
            (Some(Type::Number), Token::Number(raw)) => match number(&raw) {
                Some(n) => Ok(Some(Value::Number(n))),
                None => self.refuse(Token::Number(raw), schema),
            },
            (Some(Type::Boolean), Token::Bool(b)) => Ok(Some(Value::Bool(b))),
            (Some(Type::Array), Token::Array) => match schema.items.as_deref() {
                Some(item) => self.list(|d| Ok(d.typed(item)?.unwrap_or_else(|| zero(item)))).map(Some),
                None => self.list(Self::any).map(Some),
            },
            (Some(Type::Object), Token::Object) if !schema.properties.is_empty() => {
                self.fields(schema).map(Some)
            }
            (Some(Type::Object), token) => match (token, &schema.additional) {
                (Token::Object, Some(values)) if schema.properties.is_empty() => {
                    self.members(|d| Ok(d.typed(values)?.unwrap_or_else(|| zero(values)))).map(Some)
                }
                (token, None) if schema.properties.is_empty() => self.any_from(token).map(Some),
                (token, _) => self.refuse(token, schema),
            },
            (Some(_), token) => self.refuse(token, schema),
        }
    }

    fn refuse(&mut self, token: Token<'a>, schema: &Schema) -> Result<Option<Value>, Error> {
        self.wrong_type(&token, schema);
        self.reader.skip(&token)?;
        Ok(None)
    }

    fn int_or_string(&mut self, token: Token<'a>, schema: &Schema) -> Result<Option<Value>, Error> {
        match token {
            Token::String(text) => Ok(Some(Value::String(text.into_owned()))),
            Token::Number(raw) => match raw.parse::<i32>() {
                Ok(n) => Ok(Some(n.into())),
                Err(_) => {
                    let int =
                        Schema { ty: Some(Type::Integer), format: Some("int32".into()), ..Schema::default() };
                    self.refuse(Token::Number(raw), &int)
                }
            },
            token => self.refuse(token, schema),
        }
    }

    fn quantity(&mut self, token: Token<'a>) -> Result<Option<Value>, Error> {
        self.reader.skip(&token)?;
        let text = match &token {
            Token::String(text) => text.trim(),
            Token::Number(raw) => raw,
            _ => "",
        };
        Ok(match Quantity::canonical(text) {
            Ok(text) => Some(text.into_owned().into()),
            Err(error) => {
                self.fail(error);
                None
            }
        })
    }

    fn string(&mut self, text: Cow<'a, str>, format: &str, schema: &Schema) -> Option<Value> {
        let canonical = match format {
            "date-time" if is_named(schema, "meta.v1.MicroTime") => {
                time::parse_micro(&text).map(time::format_micro).map_err(Error::from)
            }
            "date-time" => time::parse(&text).map(time::format).map_err(Error::from),
            "byte" => base64_text(&text),
            _ if is_named(schema, "meta.v1.Duration") => {
                time::parse_duration(&text).map(time::format_duration).map_err(Error::from)
            }
            _ => return Some(Value::String(text.into_owned())),
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

    fn list(&mut self, decode: impl Fn(&mut Self) -> Result<Value, Error>) -> Result<Value, Error> {
        let start = self.items.len();
        while self.reader.item()? {
            let value = self.within(Step::Index(self.items.len() - start), &decode)?;
            self.items.push(value);
        }
        Ok(Value::Array(self.items.drain(start..).collect()))
    }

    fn fields(&mut self, schema: &'s Schema) -> Result<Value, Error> {
        if let Some(name) = &schema.name {
            self.structs.push(name);
        }
        let mut out = Map::new();
        // Fields that were there without a value.
        let mut hollow: Vec<Cow<'a, str>> = Vec::new();
        while let Some(key) = self.reader.key()? {
            let Some(property) = schema.properties.get(&key) else {
                if schema.preserve_unknown_fields {
                    let value = self.within(Step::Field(key.clone()), Self::any)?;
                    out.insert(key.into_owned(), value);
                } else {
                    self.strict("unknown", &key);
                    let value = self.reader.token()?;
                    self.reader.skip(&value)?;
                }
                continue;
            };
            match out.entry(&*key) {
                Entry::Vacant(slot) => {
                    let known = hollow.contains(&key);
                    if known {
                        self.strict("duplicate", &key);
                    }
                    match self.within(Step::Field(key.clone()), |d| d.typed(property))? {
                        Some(value) => drop(slot.insert(value)),
                        None if known => {}
                        None => hollow.push(key),
                    }
                }
                Entry::Occupied(mut slot) => {
                    self.strict("duplicate", &key);
                    if let Some(value) = self.within(Step::Field(key), |d| d.typed(property))? {
                        merge(slot.get_mut(), value);
                    }
                }
            }
        }
        if schema.name.is_some() {
            self.structs.pop();
        }
        Ok(Value::Object(out))
    }
}

/// An integer as the format holds it.
fn integer(raw: &str, format: &str) -> Option<i64> {
    match format {
        "int32" => raw.parse::<i32>().ok().map(i64::from),
        _ => raw.parse().ok(),
    }
}

fn is_named(schema: &Schema, suffix: &str) -> bool {
    schema.name.as_deref().is_some_and(|name| name.ends_with(suffix))
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
