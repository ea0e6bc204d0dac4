//! Messages → objects: fields by the numbers of the catalogue, values by the schema.
//!
//! A message has every field of its Go struct, also those that an object leaves out when they are zero; so zeros of
//! such fields are left out here. What the schema can't tell (a Time is a message with seconds, a Quantity one with a
//! text) is told by the type's name. Unknown fields are passed over; a field given twice is merged or replaced, as
//! protobuf wants it. Recursion is bounded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kubewright_machinery::schema::{Schema, Type, Zero};
use kubewright_machinery::{decode, time};
use serde_json::{Map, Number, Value, json};
use thiserror::Error;

use super::wire::{Reader, Wire, WireError};
use crate::catalogue::Catalogue;
use crate::catalogue::numbers::{Numbered, Numbers, Path};

/// Messages inside of messages that are followed.
const MAX_DEPTH: usize = 128;

const PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// A message is not of its type.
#[derive(Debug, Error)]
pub enum MessageError {
    /// The bytes are no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A value in another form than its field has.
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongWire {
        /// The wire type.
        wire: u8,
        /// The field.
        field: String,
    },
    /// Nested too deeply.
    #[error("exceeded max depth")]
    Depth,
    /// JSON inside of the message that is none.
    #[error(transparent)]
    Json(decode::Error),
    /// A time that no text can have.
    #[error("proto: time of {field} is out of range")]
    Time {
        /// The field.
        field: String,
        /// The limit that it passes.
        source: jiff::Error,
    },
    /// A number that JSON has not.
    #[error("json: unsupported value: {0}")]
    Number(f64),
}

/// Decodes a message as the type that a schema describes.
pub(super) fn decode(message: &[u8], schema: &Schema) -> Result<Map<String, Value>, MessageError> {
    let mut out = Map::new();
    read(message, schema, &mut out, 0)?;
    Ok(out)
}

fn read(
    message: &[u8],
    schema: &Schema,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), MessageError> {
    let fields = schema.name.as_deref().map_or(&[][..], |name| Numbers::builtin().of(name));
    Struct { schema, fields }.read(message, Path::default(), 0, out, depth)
}

/// A type with fields.
struct Struct<'a> {
    schema: &'a Schema,
    fields: &'a [Numbered],
}

impl Struct<'_> {
    /// Reads a message of the type itself or (`level` > 0, at the path `within`) of a struct embedded in it.
    fn read(
        &self,
        message: &[u8],
        within: Path,
        level: usize,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), MessageError> {
        if depth > MAX_DEPTH {
            return Err(MessageError::Depth);
        }
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.tag()? {
            let mut path = within;
            if let (Some(place), Ok(number)) = (path.get_mut(level), u8::try_from(number)) {
                *place = number;
            } else {
                reader.skip(number, wire)?;
                continue;
            }
            match self.fields.iter().find(|f| f.path[..=level] == path[..=level]) {
                Some(field) if field.path == path => match self.schema.properties.get(field.name) {
                    Some(schema) => Field { name: field.name, schema }.read(&mut reader, wire, out, depth)?,
                    None => reader.skip(number, wire)?,
                },
                Some(field) => {
                    let embedded = delimited(&mut reader, wire, field.name)?;
                    self.read(embedded, path, level + 1, out, depth + 1)?;
                }
                None => reader.skip(number, wire)?,
            }
        }
        Ok(())
    }
}

/// A field, or an item of it.
struct Field<'a> {
    name: &'a str,
    schema: &'a Schema,
}

impl Field<'_> {
    /// Reads one occurrence of the field into its object.
    fn read(
        &self,
        reader: &mut Reader<'_>,
        wire: Wire,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), MessageError> {
        let slot = out.entry(self.name).or_insert(Value::Null);
        self.value(reader, wire, slot, depth)?;
        let dropped = match slot {
            Value::Null => true,
            Value::String(text) => self.schema.zero == Zero::Drop && text.is_empty(),
            Value::Bool(on) => self.schema.zero == Zero::Drop && !*on,
            Value::Number(number) => self.schema.zero == Zero::Drop && number.as_f64() == Some(0.0),
            Value::Array(_) | Value::Object(_) => false,
        };
        if dropped {
            out.remove(self.name);
        }
        Ok(())
    }

    /// Reads one value. Lists, maps and messages grow in the slot; anything else replaces what is there.
    fn value(
        &self,
        reader: &mut Reader<'_>,
        wire: Wire,
        slot: &mut Value,
        depth: usize,
    ) -> Result<(), MessageError> {
        let schema = self.schema;
        if schema.int_or_string {
            *slot = int_or_string(self.message(reader, wire)?, self.name)?;
            return Ok(());
        }
        if schema.format.as_deref() == Some("quantity") {
            *slot = match text_at(self.message(reader, wire)?, 1, self.name)? {
                text if text.is_empty() => "0".into(),
                text => text.into(),
            };
            return Ok(());
        }
        match schema.ty {
            Some(Type::Array) => return self.item(reader, wire, slot, depth),
            Some(Type::Boolean) => *slot = Value::Bool(self.varint(reader, wire)? != 0),
            Some(Type::Integer) => {
                let number = self.varint(reader, wire)?.cast_signed();
                // int32 is cut, not refused: as Go does.
                let is_short = schema.format.as_deref() == Some("int32");
                *slot = if is_short { i64::from(number as i32) } else { number }.into();
            }
            Some(Type::Number) => {
                self.expect(wire, Wire::Fixed64)?;
                *slot = double(reader.double()?)?.into();
            }
            Some(Type::String) => {
                let bytes = self.message(reader, wire)?;
                *slot = match schema.format.as_deref() {
                    Some("byte") => STANDARD.encode(bytes).into(),
                    Some("date-time") => self.time(bytes)?,
                    _ => String::from_utf8_lossy(bytes).into(),
                };
            }
            Some(Type::Object) | None => {
                let message = self.message(reader, wire)?;
                if let Some(whole) = self.whole(message, depth)? {
                    *slot = whole;
                } else if let (Some(values), true) = (&schema.additional, schema.properties.is_empty()) {
                    Field { name: self.name, schema: values }.entry(message, object(slot), depth + 1)?;
                } else {
                    read(message, schema, object(slot), depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn expect(&self, wire: Wire, expected: Wire) -> Result<(), MessageError> {
        if wire == expected { Ok(()) } else { Err(wrong_wire(wire, self.name)) }
    }

    fn varint(&self, reader: &mut Reader<'_>, wire: Wire) -> Result<u64, MessageError> {
        self.expect(wire, Wire::Varint)?;
        Ok(reader.varint()?)
    }

    fn message<'r>(&self, reader: &mut Reader<'r>, wire: Wire) -> Result<&'r [u8], MessageError> {
        delimited(reader, wire, self.name)
    }

    /// One item of a list, or all of them where they are packed.
    fn item(
        &self,
        reader: &mut Reader<'_>,
        wire: Wire,
        slot: &mut Value,
        depth: usize,
    ) -> Result<(), MessageError> {
        let any = Schema::any();
        let items = Field { name: self.name, schema: self.schema.items.as_deref().unwrap_or(&any) };
        let list = array(slot);
        let packed = match items.schema.ty {
            Some(Type::Integer | Type::Boolean) => Some(Wire::Varint),
            Some(Type::Number) => Some(Wire::Fixed64),
            _ => None,
        };
        match packed {
            Some(each) if wire == Wire::Delimited => {
                let mut numbers = Reader::new(reader.delimited()?);
                while !numbers.is_empty() {
                    let mut item = Value::Null;
                    items.value(&mut numbers, each, &mut item, depth)?;
                    list.push(item);
                }
            }
            _ => {
                let mut item = Value::Null;
                items.value(reader, wire, &mut item, depth)?;
                list.push(item);
            }
        }
        Ok(())
    }

    /// One entry of a map of which this is the value: a message with the key and the value.
    fn entry(&self, message: &[u8], map: &mut Map<String, Value>, depth: usize) -> Result<(), MessageError> {
        let mut key = String::new();
        let mut value = self.absent();
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.tag()? {
            match number {
                1 => key = String::from_utf8_lossy(self.message(&mut reader, wire)?).into_owned(),
                2 if self.schema.ty == Some(Type::Array) => {
                    // A list can't be a map's value: it is a message whose field 1 is the list.
                    let mut list = Reader::new(self.message(&mut reader, wire)?);
                    while let Some((number, wire)) = list.tag()? {
                        match number {
                            1 => self.value(&mut list, wire, &mut value, depth)?,
                            _ => list.skip(number, wire)?,
                        }
                    }
                }
                2 => self.value(&mut reader, wire, &mut value, depth)?,
                _ => reader.skip(number, wire)?,
            }
        }
        map.insert(key, value);
        Ok(())
    }

    /// The value of an entry that has none.
    fn absent(&self) -> Value {
        let schema = self.schema;
        match schema.ty {
            _ if schema.format.as_deref() == Some("quantity") => "0".into(),
            Some(Type::String) if schema.format.as_deref() != Some("date-time") => "".into(),
            Some(Type::Integer | Type::Number) => 0.into(),
            Some(Type::Boolean) => false.into(),
            Some(Type::Array) => json!([]),
            Some(Type::Object) => json!({}),
            _ => Value::Null,
        }
    }

    /// A time as text; null for the zero time, which is an empty message.
    fn time(&self, message: &[u8]) -> Result<Value, MessageError> {
        if message.is_empty() {
            return Ok(Value::Null);
        }
        let is_micro = self.schema.name.as_deref().is_some_and(|name| name.ends_with(".MicroTime"));
        let (mut seconds, mut nanos) = (0_i64, 0_i64);
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.tag()? {
            match number {
                1 => seconds = self.varint(&mut reader, wire)?.cast_signed(),
                2 => nanos = i64::from(self.varint(&mut reader, wire)? as i32),
                _ => reader.skip(number, wire)?,
            }
        }
        if !is_micro {
            // The fraction of a Time is never written, so it is not to be read.
            nanos = 0;
        }
        const SECOND: i64 = 1_000_000_000;
        let seconds = seconds.saturating_add(nanos.div_euclid(SECOND));
        let at = Timestamp::new(seconds, nanos.rem_euclid(SECOND) as i32)
            .map_err(|source| MessageError::Time { field: self.name.into(), source })?;
        Ok(if is_micro { time::format_micro(at) } else { time::format(at) }.into())
    }

    /// A type that is JSON as a whole, or one of several forms; none for the others.
    fn whole(&self, message: &[u8], depth: usize) -> Result<Option<Value>, MessageError> {
        let Some(name) = self.schema.name.as_deref() else { return Ok(None) };
        let union = |first: Wire| Union::read(message, self.name, first, depth);
        Ok(Some(match name.rsplit('.').next().unwrap_or_default() {
            "RawExtension" | "FieldsV1" | "JSON" => match bytes_at(message, 1, self.name)? {
                [] => Value::Null,
                raw => decode::json(raw).map_err(MessageError::Json)?.value,
            },
            "JSONSchemaPropsOrArray" => {
                let union = union(Wire::Delimited)?;
                let mut schemas = Vec::with_capacity(union.second.len());
                for message in &union.second {
                    schemas.push(props(message, depth)?);
                }
                match union.first {
                    _ if !schemas.is_empty() => Value::Array(schemas),
                    Some(first) => props(first, depth)?,
                    None => Value::Null,
                }
            }
            "JSONSchemaPropsOrStringArray" => {
                let union = union(Wire::Delimited)?;
                match union.first {
                    _ if !union.second.is_empty() => {
                        union.second.iter().map(|text| String::from_utf8_lossy(text)).collect()
                    }
                    Some(first) => props(first, depth)?,
                    None => Value::Null,
                }
            }
            "JSONSchemaPropsOrBool" => {
                let union = union(Wire::Varint)?;
                match union.second.last() {
                    Some(schema) => props(schema, depth)?,
                    None => Value::Bool(union.allows),
                }
            }
            _ => return Ok(None),
        }))
    }
}

/// A message whose field 1 is one form (a schema, or whether anything is allowed) and whose field 2 is the other.
#[derive(Default)]
struct Union<'a> {
    first: Option<&'a [u8]>,
    allows: bool,
    second: Vec<&'a [u8]>,
}

impl<'a> Union<'a> {
    fn read(message: &'a [u8], field: &str, first: Wire, depth: usize) -> Result<Self, MessageError> {
        if depth > MAX_DEPTH {
            return Err(MessageError::Depth);
        }
        let mut union = Self::default();
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.tag()? {
            match number {
                1 if wire != first => return Err(wrong_wire(wire, field)),
                1 if wire == Wire::Varint => union.allows = reader.varint()? != 0,
                1 => union.first = Some(reader.delimited()?),
                2 => union.second.push(delimited(&mut reader, wire, field)?),
                _ => reader.skip(number, wire)?,
            }
        }
        Ok(union)
    }
}

/// A schema inside of a schema.
fn props(message: &[u8], depth: usize) -> Result<Value, MessageError> {
    let mut out = Map::new();
    if let Some(schema) = Catalogue::builtin().schema(PROPS) {
        read(message, schema, &mut out, depth + 1)?;
    }
    Ok(Value::Object(out))
}

fn int_or_string(message: &[u8], field: &str) -> Result<Value, MessageError> {
    let (mut is_text, mut number, mut text) = (false, 0, "".into());
    let mut reader = Reader::new(message);
    while let Some((tag, wire)) = reader.tag()? {
        match tag {
            1 | 2 if wire != Wire::Varint => return Err(wrong_wire(wire, field)),
            1 => is_text = reader.varint()? != 0,
            2 => number = reader.varint()? as i32,
            3 => text = String::from_utf8_lossy(delimited(&mut reader, wire, field)?),
            _ => reader.skip(tag, wire)?,
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// A field of bytes; empty where it is absent.
pub(super) fn bytes_at<'a>(message: &'a [u8], at: u32, field: &str) -> Result<&'a [u8], MessageError> {
    let mut found: &[u8] = &[];
    let mut reader = Reader::new(message);
    while let Some((number, wire)) = reader.tag()? {
        if number == at {
            found = delimited(&mut reader, wire, field)?;
        } else {
            reader.skip(number, wire)?;
        }
    }
    Ok(found)
}

/// A field of text; empty where it is absent.
pub(super) fn text_at(message: &[u8], at: u32, field: &str) -> Result<String, MessageError> {
    bytes_at(message, at, field).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn delimited<'a>(reader: &mut Reader<'a>, wire: Wire, field: &str) -> Result<&'a [u8], MessageError> {
    match wire {
        Wire::Delimited => Ok(reader.delimited()?),
        other => Err(wrong_wire(other, field)),
    }
}

/// The field by the name that it has in Go.
fn wrong_wire(wire: Wire, field: &str) -> MessageError {
    let mut letters = field.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    MessageError::WrongWire { wire: wire.number(), field: first.into_iter().chain(letters).collect() }
}

/// Whole numbers are written without a fraction.
fn double(number: f64) -> Result<Number, MessageError> {
    const EXACT: f64 = 1e15;
    if number.fract() == 0.0 && number.abs() < EXACT {
        return Ok((number as i64).into());
    }
    Number::from_f64(number).ok_or(MessageError::Number(number))
}

fn object(slot: &mut Value) -> &mut Map<String, Value> {
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("it was made one above")
}

fn array(slot: &mut Value) -> &mut Vec<Value> {
    if !slot.is_array() {
        *slot = json!([]);
    }
    slot.as_array_mut().expect("it was made one above")
}
