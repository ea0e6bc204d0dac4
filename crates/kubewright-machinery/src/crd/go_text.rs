//! Parts of a definition as a real server shows them in errors: the JSON of its internal Go types, field by field in their
//! order, zero values included.

use serde_json::Value;

use super::hub::{Hub, PER_VERSION};
use crate::gojson::{self, Style};
use crate::schema::structural::Node;

/// How a field is shown.
#[derive(Clone, Copy)]
enum Go {
    Text,
    Bool,
    Int,
    /// Absent is null.
    Pointer,
    Schema,
    Schemas,
    SchemaMap,
    /// `items`: one schema or several.
    Items,
    /// `additionalProperties`: a schema or a bool.
    OrBool,
    /// `dependencies`: a schema or names.
    Dependencies,
    Structs(&'static [(&'static str, &'static str, Go)]),
}

const RULE: &[(&str, &str, Go)] = &[
    ("Rule", "rule", Go::Text),
    ("Message", "message", Go::Text),
    ("MessageExpression", "messageExpression", Go::Text),
    ("Reason", "reason", Go::Pointer),
    ("FieldPath", "fieldPath", Go::Text),
    ("OptionalOldSelf", "optionalOldSelf", Go::Pointer),
];

const SCHEMA: &[(&str, &str, Go)] = &[
    ("ID", "id", Go::Text),
    ("Schema", "$schema", Go::Text),
    ("Ref", "$ref", Go::Pointer),
    ("Description", "description", Go::Text),
    ("Type", "type", Go::Text),
    ("Nullable", "nullable", Go::Bool),
    ("Format", "format", Go::Text),
    ("Title", "title", Go::Text),
    ("Default", "default", Go::Pointer),
    ("Maximum", "maximum", Go::Pointer),
    ("ExclusiveMaximum", "exclusiveMaximum", Go::Bool),
    ("Minimum", "minimum", Go::Pointer),
    ("ExclusiveMinimum", "exclusiveMinimum", Go::Bool),
    ("MaxLength", "maxLength", Go::Pointer),
    ("MinLength", "minLength", Go::Pointer),
    ("Pattern", "pattern", Go::Text),
    ("MaxItems", "maxItems", Go::Pointer),
    ("MinItems", "minItems", Go::Pointer),
    ("UniqueItems", "uniqueItems", Go::Bool),
    ("MultipleOf", "multipleOf", Go::Pointer),
    ("Enum", "enum", Go::Pointer),
    ("MaxProperties", "maxProperties", Go::Pointer),
    ("MinProperties", "minProperties", Go::Pointer),
    ("Required", "required", Go::Pointer),
    ("Items", "items", Go::Items),
    ("AllOf", "allOf", Go::Schemas),
    ("OneOf", "oneOf", Go::Schemas),
    ("AnyOf", "anyOf", Go::Schemas),
    ("Not", "not", Go::Schema),
    ("Properties", "properties", Go::SchemaMap),
    ("AdditionalProperties", "additionalProperties", Go::OrBool),
    ("PatternProperties", "patternProperties", Go::SchemaMap),
    ("Dependencies", "dependencies", Go::Dependencies),
    ("AdditionalItems", "additionalItems", Go::OrBool),
    ("Definitions", "definitions", Go::SchemaMap),
    ("ExternalDocs", "externalDocs", Go::Pointer),
    ("Example", "example", Go::Pointer),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields", Go::Pointer),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", Go::Bool),
    ("XIntOrString", "x-kubernetes-int-or-string", Go::Bool),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Go::Pointer),
    ("XListType", "x-kubernetes-list-type", Go::Pointer),
    ("XMapType", "x-kubernetes-map-type", Go::Pointer),
    ("XValidations", "x-kubernetes-validations", Go::Structs(RULE)),
];

const COLUMN: &[(&str, &str, Go)] = &[
    ("Name", "name", Go::Text),
    ("Type", "type", Go::Text),
    ("Format", "format", Go::Text),
    ("Description", "description", Go::Text),
    ("Priority", "priority", Go::Int),
    ("JSONPath", "jsonPath", Go::Text),
];

const SELECTABLE: &[(&str, &str, Go)] = &[("JSONPath", "jsonPath", Go::Text)];

const SCALE: &[(&str, &str, Go)] = &[
    ("SpecReplicasPath", "specReplicasPath", Go::Text),
    ("StatusReplicasPath", "statusReplicasPath", Go::Text),
    ("LabelSelectorPath", "labelSelectorPath", Go::Pointer),
];

const VERSION: &[(&str, &str, Go)] = &[
    ("Name", "name", Go::Text),
    ("Served", "served", Go::Bool),
    ("Storage", "storage", Go::Bool),
    ("Deprecated", "deprecated", Go::Bool),
    ("DeprecationWarning", "deprecationWarning", Go::Pointer),
];

/// A rule of `x-kubernetes-validations`.
pub fn rule(json: &Value) -> String {
    let mut out = String::new();
    write_struct(RULE, Node::new(json), &mut out);
    out
}

/// The keywords of a schema that are not at their zero value, by the names of the Go fields, in their order.
pub(crate) fn stated_keywords(json: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let node = Node::new(json);
    let stated = move |(name, key, go): &(&'static str, &'static str, Go)| {
        let value = node.get(key)?;
        let zero = match go {
            Go::Bool => value == &Value::Bool(false),
            Go::Text => value == "",
            _ => false,
        };
        (!zero).then_some((*name, value))
    };
    SCHEMA.iter().filter_map(stated)
}

/// A JSONSchemaProps.
pub fn schema(json: &Value) -> String {
    let mut out = String::new();
    write_struct(SCHEMA, Node::new(json), &mut out);
    out
}

/// `spec.versions`, without what all versions have in common.
pub(crate) fn versions(hub: &Hub<'_>) -> String {
    let Some(stated) = hub.spec.get("versions") else { return "null".into() };
    let all = stated.as_array().map_or(&[][..], Vec::as_slice);
    list(all, |version, out| {
        write_struct(VERSION, Node::new(version), out);
        out.pop();
        for (name, part) in
            [("Schema", 0), ("Subresources", 1), ("AdditionalPrinterColumns", 2), ("SelectableFields", 3)]
        {
            out.push_str(&format!(",\"{name}\":"));
            let Some(value) = Node::new(version).get(PER_VERSION[part]).filter(|_| !hub.is_common(part))
            else {
                out.push_str("null");
                continue;
            };
            let node = Node::new(value);
            match part {
                0 => {
                    out.push_str("{\"OpenAPIV3Schema\":");
                    write(Go::Schema, node.get("openAPIV3Schema"), out);
                    out.push('}');
                }
                1 => {
                    out.push_str(if node.get("status").is_some() {
                        "{\"Status\":{}"
                    } else {
                        "{\"Status\":null"
                    });
                    out.push_str(",\"Scale\":");
                    match node.node("scale") {
                        Some(scale) => write_struct(SCALE, scale, out),
                        None => out.push_str("null"),
                    }
                    out.push('}');
                }
                2 => write(Go::Structs(COLUMN), Some(value), out),
                _ => write(Go::Structs(SELECTABLE), Some(value), out),
            }
        }
        out.push('}');
    })
}

fn list(items: &[Value], mut write: impl FnMut(&Value, &mut String)) -> String {
    let mut out = String::from("[");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(item, &mut out);
    }
    out.push(']');
    out
}

fn write_struct(fields: &[(&str, &str, Go)], node: Node<'_>, out: &mut String) {
    for (i, (name, key, go)) in fields.iter().enumerate() {
        out.push(if i == 0 { '{' } else { ',' });
        out.push_str(&format!("\"{name}\":"));
        write(*go, node.get(key), out);
    }
    out.push('}');
}

fn write(go: Go, value: Option<&Value>, out: &mut String) {
    let Some(value) = value else {
        out.push_str(match go {
            Go::Text => "\"\"",
            Go::Bool => "false",
            Go::Int => "0",
            _ => "null",
        });
        return;
    };
    match go {
        Go::Text | Go::Bool | Go::Int | Go::Pointer => gojson::write(out, value, Style::Standard),
        Go::Schema => write_struct(SCHEMA, Node::new(value), out),
        Go::Schemas => out.push_str(&list(value.as_array().map_or(&[][..], Vec::as_slice), |item, out| {
            write_struct(SCHEMA, Node::new(item), out);
        })),
        Go::Structs(fields) => {
            out.push_str(&list(value.as_array().map_or(&[][..], Vec::as_slice), |item, out| {
                write_struct(fields, Node::new(item), out);
            }))
        }
        Go::SchemaMap => {
            out.push('{');
            for (i, (name, schema)) in value.as_object().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                gojson::write(out, &name.as_str().into(), Style::Standard);
                out.push(':');
                write_struct(SCHEMA, Node::new(schema), out);
            }
            out.push('}');
        }
        Go::Dependencies => {
            out.push('{');
            for (i, (name, value)) in value.as_object().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                gojson::write(out, &name.as_str().into(), Style::Standard);
                out.push_str(":{\"Schema\":");
                write(Go::Schema, Some(value).filter(|v| v.is_object()), out);
                out.push_str(",\"Property\":");
                write(Go::Pointer, Some(value).filter(|v| v.is_array()), out);
                out.push('}');
            }
            out.push('}');
        }
        Go::Items => {
            out.push_str("{\"Schema\":");
            write(Go::Schema, Some(value).filter(|v| v.is_object()), out);
            out.push_str(",\"JSONSchemas\":");
            write(Go::Schemas, Some(value).filter(|v| v.is_array()), out);
            out.push('}');
        }
        Go::OrBool => {
            let allows = value != &Value::Bool(false);
            out.push_str(&format!("{{\"Allows\":{allows},\"Schema\":"));
            write(Go::Schema, Some(value).filter(|v| v.is_object()), out);
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_shows_every_field() {
        assert_eq!(
            rule(&json!({"rule": "self.a"})),
            r#"{"Rule":"self.a","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}"#
        );
    }

    #[test]
    fn a_schema_shows_zero_values_and_nests() {
        let text =
            schema(&json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}}));
        assert!(text.starts_with(
            r#"{"ID":"","Schema":"","Ref":null,"Description":"","Type":"object","Nullable":false"#
        ));
        assert!(text.contains(r#""Properties":{"a":{"ID":"""#) && text.contains(r#""MinLength":1,"#));
    }

    #[test]
    fn versions_leave_out_what_they_share() {
        let object = json!({"spec": {"versions": [{"name": "v1", "served": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
        assert_eq!(
            versions(&Hub::new(&object)),
            r#"[{"Name":"v1","Served":true,"Storage":false,"Deprecated":false,"DeprecationWarning":null,"Schema":null,"Subresources":null,"AdditionalPrinterColumns":null,"SelectableFields":null}]"#
        );
        assert_eq!(versions(&Hub::new(&json!({"spec": {}}))), "null");
    }
}
