//! Swagger 2.0 as the protobuf message `openapi.v2.Document` (google/gnostic), which is the only form in which
//! client-go, and so every kubectl, reads `/openapi/v2`.
//!
//! A pure function from the JSON document to bytes. Only what our own documents hold is encoded: paths with their
//! operations and definitions with their schemas. Nothing is ever decoded here.

use serde_json::{Map, Value};

/// The media type that client-go asks for.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Encodes a Swagger 2.0 document. Costs one pass over the document; the result is about as long as its JSON.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.message(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    out.message(8, |paths| {
        for (path, item) in fields(&document["paths"]) {
            paths.message(2, |named| {
                named.string(1, path);
                named.message(2, |m| path_item(m, item));
            });
        }
    });
    out.message(9, |definitions| named_schemas(definitions, &document["definitions"]));
    out.bytes
}

fn path_item(out: &mut Message, item: &Value) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(operation) = item.get(method) {
            out.message(number, |m| self::operation(m, operation));
        }
    }
    for parameter in items(&item["parameters"]) {
        out.message(9, |m| parameters_item(m, parameter));
    }
}

fn operation(out: &mut Message, operation: &Value) {
    out.text(3, &operation["description"]);
    out.text(5, &operation["operationId"]);
    for (number, name) in [(6, "produces"), (7, "consumes")] {
        for media_type in items(&operation[name]) {
            out.text(number, media_type);
        }
    }
    for parameter in items(&operation["parameters"]) {
        out.message(8, |m| parameters_item(m, parameter));
    }
    out.message(9, |responses| {
        for (code, response) in fields(&operation["responses"]) {
            responses.message(1, |named| {
                named.string(1, code);
                named.message(2, |value| {
                    value.message(1, |m| {
                        m.text(1, &response["description"]);
                        if let Some(schema) = response.get("schema") {
                            m.message(2, |item| item.message(1, |s| self::schema(s, schema)));
                        }
                    });
                });
            });
        }
    });
    extensions(out, 13, operation);
}

/// A parameter, in the body or in the query or path.
fn parameters_item(out: &mut Message, parameter: &Value) {
    out.message(1, |one_of| {
        if parameter["in"] == "body" {
            one_of.message(1, |body| {
                body.text(1, &parameter["description"]);
                body.text(2, &parameter["name"]);
                body.text(3, &parameter["in"]);
                body.flag(4, &parameter["required"]);
                body.message(5, |s| self::schema(s, &parameter["schema"]));
            });
            return;
        }
        let in_path = parameter["in"] == "path";
        one_of.message(2, |non_body| {
            non_body.message(if in_path { 4 } else { 3 }, |m| {
                m.flag(1, &parameter["required"]);
                m.text(2, &parameter["in"]);
                m.text(3, &parameter["description"]);
                m.text(4, &parameter["name"]);
                // Query parameters have one field more, so that the numbers after it differ by one.
                m.text(if in_path { 5 } else { 6 }, &parameter["type"]);
            });
        });
    });
}

fn schema(out: &mut Message, schema: &Value) {
    out.text(1, &schema["$ref"]);
    out.text(2, &schema["format"]);
    out.text(3, &schema["title"]);
    out.text(4, &schema["description"]);
    if let Some(default) = schema.get("default") {
        out.message(5, |m| any(m, default));
    }
    out.double(6, &schema["multipleOf"]);
    out.double(7, &schema["maximum"]);
    out.flag(8, &schema["exclusiveMaximum"]);
    out.double(9, &schema["minimum"]);
    out.flag(10, &schema["exclusiveMinimum"]);
    out.integer(11, &schema["maxLength"]);
    out.integer(12, &schema["minLength"]);
    out.text(13, &schema["pattern"]);
    out.integer(14, &schema["maxItems"]);
    out.integer(15, &schema["minItems"]);
    out.flag(16, &schema["uniqueItems"]);
    out.integer(17, &schema["maxProperties"]);
    out.integer(18, &schema["minProperties"]);
    for name in items(&schema["required"]) {
        out.text(19, name);
    }
    for value in items(&schema["enum"]) {
        out.message(20, |m| any(m, value));
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(allowed)) => out.message(21, |m| m.varint(2, u64::from(*allowed))),
        Some(values) => out.message(21, |m| m.message(1, |s| self::schema(s, values))),
        None => {}
    }
    if schema["type"].is_string() {
        out.message(22, |m| m.text(1, &schema["type"]));
    }
    if let Some(of) = schema.get("items") {
        out.message(23, |m| m.message(1, |s| self::schema(s, of)));
    }
    for part in items(&schema["allOf"]) {
        out.message(24, |m| self::schema(m, part));
    }
    if schema.get("properties").is_some() {
        out.message(25, |m| named_schemas(m, &schema["properties"]));
    }
    extensions(out, 31, schema);
}

fn named_schemas(out: &mut Message, schemas: &Value) {
    for (name, value) in fields(schemas) {
        out.message(1, |named| {
            named.string(1, name);
            named.message(2, |m| schema(m, value));
        });
    }
}

/// The `x-…` fields of an object as `repeated NamedAny`.
fn extensions(out: &mut Message, number: u32, of: &Value) {
    for (name, value) in fields(of).filter(|(name, _)| name.starts_with("x-")) {
        out.message(number, |named| {
            named.string(1, name);
            named.message(2, |m| any(m, value));
        });
    }
}

/// `Any` carries YAML, and JSON is YAML.
fn any(out: &mut Message, value: &Value) {
    out.string(2, &format!("{value}\n"));
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A protobuf message being written.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn key(&mut self, number: u32, wire_type: u8) {
        self.raw((u64::from(number) << 3) | u64::from(wire_type));
    }

    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn varint(&mut self, number: u32, value: u64) {
        self.key(number, 0);
        self.raw(value);
    }

    fn string(&mut self, number: u32, text: &str) {
        self.key(number, 2);
        self.raw(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn message(&mut self, number: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.key(number, 2);
        self.raw(inner.bytes.len() as u64);
        self.bytes.append(&mut inner.bytes);
    }

    /// A string, unless it is absent.
    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            self.string(number, text);
        }
    }

    /// A bool, unless it is false, which is what absence means.
    fn flag(&mut self, number: u32, value: &Value) {
        if value == &Value::Bool(true) {
            self.varint(number, 1);
        }
    }

    fn integer(&mut self, number: u32, value: &Value) {
        if let Some(n) = value.as_i64() {
            self.varint(number, n.cast_unsigned());
        }
    }

    fn double(&mut self, number: u32, value: &Value) {
        if let Some(n) = value.as_f64() {
            self.key(number, 1);
            self.bytes.extend_from_slice(&n.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_string_field_is_its_key_its_length_and_its_bytes() {
        assert_eq!(encode(&json!({"swagger": "2.0"}))[..5], [0x0a, 3, b'2', b'.', b'0']);
    }

    #[test]
    fn lengths_above_127_take_two_bytes() {
        let mut out = Message::default();
        out.string(1, &"x".repeat(300));
        assert_eq!(out.bytes[..3], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn a_definition_keeps_its_extensions_as_yaml() {
        let document = json!({"definitions": {"A": {"type": "object", "x-kubernetes-group-version-kind": [{"kind": "A"}]}}});
        let bytes = encode(&document);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("x-kubernetes-group-version-kind") && text.contains("[{\"kind\":\"A\"}]\n"));
    }
}
