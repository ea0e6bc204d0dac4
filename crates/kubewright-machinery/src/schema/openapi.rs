//! A structural schema as OpenAPI: v3 says all of it, v2 only what v2 and kubectl can bear.

use serde_json::{Map, Value, json};

use super::{ListType, Schema, Type, Validation};

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// OpenAPI 2.0 (swagger): junctors, nullable and what depends on them are left out.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Version {
    /// A reference to the definition of a type (`io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta`).
    pub fn reference(self, name: &str) -> String {
        match self {
            Version::V2 => format!("#/definitions/{name}"),
            Version::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// A kind in its version.
#[derive(Clone, Copy, Debug)]
pub struct Gvk<'a> {
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
}

impl Gvk<'_> {
    /// The name of the type's definition: `com.example.v1.Widget` for group `example.com`.
    pub fn definition_name(&self) -> String {
        let reversed: Vec<&str> = self.group.rsplit('.').collect();
        format!("{}.{}.{}", reversed.join("."), self.version, self.kind)
    }

    fn extension(&self) -> Value {
        json!([{"group": self.group, "version": self.version, "kind": self.kind}])
    }
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const API_VERSION_DOC: &str = "APIVersion defines the versioned schema of this representation of an object. Servers \
    should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND_DOC: &str = "Kind is a string value representing the REST resource this object represents. Servers may \
    infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA_DOC: &str = "Standard object's metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA_DOC: &str = "Standard list metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION_DOC: &str = "apiVersion defines the versioned schema of this representation of an object. \
    More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND_DOC: &str = "kind is a string value representing the type of this object. In CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// A schema alone, as it is stated.
pub fn schema(schema: &Schema, version: Version) -> Value {
    Value::Object(Writer { version, embedded: false }.schema(schema))
}

/// The definition of a custom resource: its schema with apiVersion, kind and metadata, and its kind as an extension.
/// `selectable` are the JSON paths of its selectable fields.
pub fn resource(custom: Option<&Schema>, gvk: Gvk<'_>, selectable: &[&str], version: Version) -> Value {
    let mut out = match custom {
        // Properties here would make clients refuse all other fields.
        None => Map::from_iter([("type".into(), json!("object"))]),
        Some(s) if version == Version::V2 && s.preserve_unknown_fields => {
            Map::from_iter([("type".into(), json!("object"))])
        }
        Some(custom) => {
            let mut out = Writer { version, embedded: true }.schema(custom);
            resource_properties(&mut out, version, API_VERSION_DOC, KIND_DOC, OBJECT_META, METADATA_DOC);
            out
        }
    };
    extend(&mut out, gvk, selectable);
    Value::Object(out)
}

/// The definition of a list of custom resources.
pub fn list(gvk: Gvk<'_>, list_kind: &str, plural: &str, selectable: &[&str], version: Version) -> Value {
    let mut out = Map::new();
    let items = version.reference(&gvk.definition_name());
    let doc = format!(
        "List of {plural}. More info: \
         https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
    );
    out.insert("description".into(), format!("{list_kind} is a list of {}", gvk.kind).into());
    out.insert("type".into(), "object".into());
    out.insert("required".into(), json!(["items"]));
    out.insert(
        "properties".into(),
        json!({"items": {"description": doc, "type": "array", "items": {"$ref": items}}}),
    );
    resource_properties(&mut out, version, API_VERSION_DOC, KIND_DOC, LIST_META, LIST_METADATA_DOC);
    extend(&mut out, Gvk { kind: list_kind, ..gvk }, selectable);
    Value::Object(out)
}

fn extend(out: &mut Map<String, Value>, gvk: Gvk<'_>, selectable: &[&str]) {
    out.insert("x-kubernetes-group-version-kind".into(), gvk.extension());
    if !selectable.is_empty() {
        let fields: Vec<Value> =
            selectable.iter().map(|path| json!({"fieldPath": path.trim_start_matches('.')})).collect();
        out.insert("x-kubernetes-selectable-fields".into(), fields.into());
    }
}

fn resource_properties(
    out: &mut Map<String, Value>,
    version: Version,
    api_version: &str,
    kind: &str,
    metadata: &str,
    metadata_doc: &str,
) {
    let properties = out.entry("properties").or_insert_with(|| json!({}));
    let Some(properties) = properties.as_object_mut() else { return };
    properties.insert("apiVersion".into(), json!({"description": api_version, "type": "string"}));
    properties.insert("kind".into(), json!({"description": kind, "type": "string"}));
    let reference = version.reference(metadata);
    properties.insert("metadata".into(), json!({"description": metadata_doc, "$ref": reference}));
}

struct Writer {
    version: Version,
    /// Embedded resources get the properties of a resource.
    embedded: bool,
}

impl Writer {
    fn schema(&self, schema: &Schema) -> Map<String, Value> {
        let mut out = Map::new();
        let v2 = self.version == Version::V2;
        // kubectl cannot bear items and properties of untyped or free values in v2.
        let bare = v2 && (schema.nullable || schema.preserve_unknown_fields);
        let no_items = bare || schema.items.is_none();
        let untyped = v2
            && (schema.nullable
                || (schema.ty == Some(Type::Array) && no_items)
                || (schema.ty == Some(Type::Object) && schema.preserve_unknown_fields));
        if let Some(ty) = schema.ty.filter(|_| !untyped) {
            out.insert("type".into(), ty.name().into());
        }
        let mut text = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                out.insert(key.into(), value.into());
            }
        };
        text("format", schema.format.as_deref());
        text("title", schema.title.as_deref());
        text("description", schema.description.as_deref());
        let values = [
            ("default", &schema.default),
            ("externalDocs", &schema.external_docs),
            ("example", &schema.example),
        ];
        for (key, value) in values {
            if let Some(value) = value {
                out.insert(key.into(), (**value).clone());
            }
        }
        if schema.nullable && !v2 {
            out.insert("nullable".into(), true.into());
        }
        self.structure(schema, bare, &mut out);
        if let Some(validation) = schema.validation.as_deref() {
            self.validation(validation, &mut out);
        }
        extensions(schema, &mut out);
        if self.embedded && schema.embedded_resource && !(v2 && schema.preserve_unknown_fields) {
            resource_properties(
                &mut out,
                self.version,
                EMBEDDED_API_VERSION_DOC,
                EMBEDDED_KIND_DOC,
                OBJECT_META,
                METADATA_DOC,
            );
            let required = out.entry("required").or_insert_with(|| json!([]));
            if let Some(required) = required.as_array_mut() {
                for name in ["kind", "apiVersion"] {
                    if !required.iter().any(|r| r == name) {
                        required.push(name.into());
                    }
                }
            }
        }
        out
    }

    fn structure(&self, schema: &Schema, bare: bool, out: &mut Map<String, Value>) {
        let v2 = self.version == Version::V2;
        if !bare && !schema.properties.is_empty() {
            let properties: Map<String, Value> =
                schema.properties.iter().map(|(k, v)| (k.to_string(), self.schema(v).into())).collect();
            out.insert("properties".into(), properties.into());
        }
        if let Some(items) = schema.items.as_deref().filter(|_| !bare) {
            out.insert("items".into(), self.schema(items).into());
        }
        if let Some(additional) = schema.additional.as_deref() {
            let value = if additional.is_untyped() { true.into() } else { self.schema(additional).into() };
            out.insert("additionalProperties".into(), value);
        } else if schema.additional_false {
            out.insert("additionalProperties".into(), false.into());
        }
        let nullable_values = schema.additional.as_deref().is_some_and(|s| s.nullable && !s.is_untyped());
        let required: Vec<Value> = schema
            .required
            .iter()
            .filter(|name| {
                !v2 || !(nullable_values
                    || (!bare && schema.properties.get(name).is_some_and(|p| p.nullable)))
            })
            .map(|name| Value::from(&**name))
            .collect();
        if !required.is_empty() {
            out.insert("required".into(), required.into());
        }
    }

    fn validation(&self, v: &Validation, out: &mut Map<String, Value>) {
        for (key, value) in [("minimum", v.minimum), ("maximum", v.maximum), ("multipleOf", v.multiple_of)] {
            if let Some(value) = value {
                out.insert(key.into(), number(value));
            }
        }
        let counts = [
            ("minLength", v.min_length),
            ("maxLength", v.max_length),
            ("minItems", v.min_items),
            ("maxItems", v.max_items),
            ("minProperties", v.min_properties),
            ("maxProperties", v.max_properties),
        ];
        for (key, value) in counts {
            if let Some(value) = value {
                out.insert(key.into(), value.into());
            }
        }
        let flags = [
            ("exclusiveMinimum", v.exclusive_minimum),
            ("exclusiveMaximum", v.exclusive_maximum),
            ("uniqueItems", v.unique_items),
        ];
        for (key, _) in flags.iter().filter(|(_, set)| *set) {
            out.insert((*key).into(), true.into());
        }
        if let Some(pattern) = &v.pattern {
            out.insert("pattern".into(), Value::from(&**pattern));
        }
        if !v.one_of_values.is_empty() {
            out.insert("enum".into(), v.one_of_values.clone().into());
        }
        if !v.rules.is_empty() {
            out.insert("x-kubernetes-validations".into(), v.rules.clone().into());
        }
        if self.version == Version::V2 {
            return;
        }
        for (key, schemas) in [("allOf", &v.all_of), ("anyOf", &v.any_of), ("oneOf", &v.one_of)] {
            if !schemas.is_empty() {
                let schemas: Vec<Value> = schemas.iter().map(|s| self.schema(s).into()).collect();
                out.insert(key.into(), schemas.into());
            }
        }
        if let Some(not) = v.not.as_deref() {
            out.insert("not".into(), self.schema(not).into());
        }
    }
}

fn extensions(schema: &Schema, out: &mut Map<String, Value>) {
    let flags = [
        ("x-kubernetes-preserve-unknown-fields", schema.preserve_unknown_fields),
        ("x-kubernetes-embedded-resource", schema.embedded_resource),
        ("x-kubernetes-int-or-string", schema.int_or_string),
    ];
    for (key, _) in flags.iter().filter(|(_, set)| *set) {
        out.insert((*key).into(), true.into());
    }
    if !schema.list_map_keys.is_empty() {
        let keys: Vec<Value> = schema.list_map_keys.iter().map(|k| Value::from(&**k)).collect();
        out.insert("x-kubernetes-list-map-keys".into(), keys.into());
    }
    if schema.list_type_stated {
        let name = match schema.list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        out.insert("x-kubernetes-list-type".into(), name.into());
    }
    if schema.map_type_stated {
        let name = if schema.map_atomic { "atomic" } else { "granular" };
        out.insert("x-kubernetes-map-type".into(), name.into());
    }
}

/// A number as JSON writes it: without a fraction where it has none.
fn number(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 9.0e15 { Value::from(n as i64) } else { Value::from(n) }
}

#[cfg(test)]
mod tests {
    use super::super::structural::parse;
    use super::*;

    #[test]
    fn a_schema_survives_the_way_through_v3() {
        let stated = json!({"type": "object", "required": ["size"], "description": "d", "properties": {
            "size": {"type": "integer", "default": 1, "minimum": 1, "nullable": true},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "map": {"type": "object", "additionalProperties": true, "x-kubernetes-map-type": "granular"},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string", "enum": ["a"], "pattern": "^a"}}}}},
            "x-kubernetes-validations": [{"rule": "self.size > 0"}]});
        assert_eq!(schema(&parse(&stated), Version::V3), stated);
    }

    #[test]
    fn v2_leaves_out_what_it_cannot_say() {
        let stated = json!({"type": "object", "required": ["n", "s"], "properties": {
            "n": {"type": "object", "nullable": true, "properties": {"a": {"type": "string"}}},
            "s": {"type": "string", "anyOf": [{"minLength": 1}]},
            "p": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
        assert_eq!(
            schema(&parse(&stated), Version::V2),
            json!({"type": "object", "required": ["s"], "properties": {
                "n": {}, "s": {"type": "string"}, "p": {"x-kubernetes-preserve-unknown-fields": true}}})
        );
    }

    #[test]
    fn a_resource_gets_its_type_and_metadata() {
        let gvk = Gvk { group: "c.example.com", version: "v1", kind: "Widget" };
        let custom = parse(&json!({"type": "object", "properties": {"spec": {"type": "object"}}}));
        let out = resource(Some(&custom), gvk, &[".spec.a"], Version::V3);
        assert_eq!(
            out["properties"]["metadata"]["$ref"],
            "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
        assert_eq!(out["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
        assert_eq!(out["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.a"}]));
        let out = list(gvk, "WidgetList", "widgets", &[], Version::V2);
        assert_eq!(out["properties"]["items"]["items"]["$ref"], "#/definitions/com.example.c.v1.Widget");
    }
}
