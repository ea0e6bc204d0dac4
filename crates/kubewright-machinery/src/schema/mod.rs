//! What is known of the type of an object: one model for the built-in kinds (read from the catalogue)
//! and for custom resources (read from a structural schema).
//!
//! The same facts serve pruning, defaulting, validation, strict decoding, strategic merge,
//! server-side apply and OpenAPI. A schema is immutable and shared; nothing here does I/O.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::Value;

pub mod canonical;
pub mod default;
pub mod embedded;
pub mod format;
pub mod list_map;
pub mod object_meta;
pub mod openapi;
mod properties;
pub mod prune;
pub mod re2;
pub mod structural;
pub mod validate;

pub use properties::Properties;

#[cfg(test)]
mod property_tests;

/// A shared schema node. Cloning is a reference count.
///
/// A node may be filled after it was handed out, so that recursive built-in types (JSONSchemaProps) can be
/// expressed; whoever builds a graph fills every node before anybody reads it.
#[derive(Clone, Debug)]
pub struct SchemaRef(Arc<OnceLock<Schema>>);

static ANY: OnceLock<Schema> = OnceLock::new();

impl SchemaRef {
    /// A node to be filled by [`SchemaRef::fill`].
    pub fn hole() -> Self {
        Self(Arc::new(OnceLock::new()))
    }

    /// Fills a hole; a node that is filled stays as it is.
    pub fn fill(&self, schema: Schema) {
        let _ = self.0.set(schema);
    }

    /// Whether both are the same node.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl From<Schema> for SchemaRef {
    fn from(schema: Schema) -> Self {
        let cell = OnceLock::new();
        let _ = cell.set(schema);
        Self(Arc::new(cell))
    }
}

impl Deref for SchemaRef {
    type Target = Schema;

    /// The node; a hole nobody filled reads as "anything goes".
    fn deref(&self) -> &Schema {
        self.0.get().unwrap_or_else(|| ANY.get_or_init(Schema::any))
    }
}

impl Default for SchemaRef {
    fn default() -> Self {
        Self::from(Schema::any())
    }
}

/// JSON types of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A JSON object: with properties, or a map with `additional`.
    Object,
    /// A JSON array.
    Array,
    /// A string.
    String,
    /// An integer (int32 / int64 by format).
    Integer,
    /// A number.
    Number,
    /// A boolean.
    Boolean,
}

impl Type {
    /// Its name in schemas and messages.
    pub fn name(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }
}

/// `x-kubernetes-list-type` (KEP-555).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects identified by `list_map_keys`.
    Map,
}

/// `x-kubernetes-patch-strategy` and `-merge-key`: what strategic merge patch knows of a list or struct. It can
/// differ from the list type that server-side apply uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchFacts {
    /// Strategy `merge`.
    pub merge: bool,
    /// Strategy `replace`.
    pub replace: bool,
    /// Strategy `retainKeys`.
    pub retain_keys: bool,
    /// The key that identifies items of a list of objects.
    pub merge_key: Option<Box<str>>,
}

/// How a field that holds its type's zero value is written (Go's `omitempty` and its absence). Only the fields of
/// built-in kinds have this fact; it makes the canonical form of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zero {
    /// As it was given: absent stays absent, an explicit zero stays.
    #[default]
    Keep,
    /// Left out: empty strings, lists and maps, 0 and false.
    Drop,
    /// Written even if absent: null for lists, maps and times, `"0"` for quantities, 0 for int-or-string.
    Write,
}

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// The JSON type; none means any value.
    pub ty: Option<Type>,
    /// `format`, such as `int32`, `date-time`, `byte`; `quantity` for built-in quantities.
    pub format: Option<Box<str>>,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// null is a value.
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields: true`.
    pub preserve_unknown_fields: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// The default for an absent value.
    pub default: Option<Box<Value>>,
    /// Fields of an object.
    pub properties: Properties,
    /// Values of a map. `additionalProperties: true` is [`Schema::untyped`].
    pub additional: Option<SchemaRef>,
    /// `additionalProperties: false`: other fields are invalid (they are not pruned).
    pub additional_false: bool,
    /// Items of an array.
    pub items: Option<SchemaRef>,
    /// Required fields.
    pub required: Vec<Box<str>>,
    /// List type of an array.
    pub list_type: ListType,
    /// Whether `x-kubernetes-list-type` was stated; an unstated one behaves as atomic.
    pub list_type_stated: bool,
    /// Keys of a list of type map.
    pub list_map_keys: Vec<Box<str>>,
    /// `x-kubernetes-map-type: atomic` (objects and maps).
    pub map_atomic: bool,
    /// Whether `x-kubernetes-map-type` was stated; an unstated one behaves as granular.
    pub map_type_stated: bool,
    /// Strategic merge facts; only built-in kinds have them.
    pub patch: Option<Box<PatchFacts>>,
    /// How the zero value is written.
    pub zero: Zero,
    /// Value validations.
    pub validation: Option<Box<Validation>>,
    /// `title`.
    pub title: Option<Box<str>>,
    /// `description`.
    pub description: Option<Box<str>>,
    /// `externalDocs`.
    pub external_docs: Option<Box<Value>>,
    /// `example`.
    pub example: Option<Box<Value>>,
    /// Name of the built-in type (`io.k8s.api.core.v1.Pod`), where it is one: `$ref` of OpenAPI.
    pub name: Option<Box<str>>,
}

impl Schema {
    /// A schema that allows and keeps everything.
    pub fn any() -> Self {
        Self { preserve_unknown_fields: true, ..Self::default() }
    }

    /// The values of `additionalProperties: true`: any scalar or list, while the fields of objects are unknown.
    pub fn untyped() -> Self {
        Self { nullable: true, ..Self::default() }
    }

    /// Whether this is [`Schema::untyped`].
    pub fn is_untyped(&self) -> bool {
        self.nullable
            && self.ty.is_none()
            && !self.int_or_string
            && !self.preserve_unknown_fields
            && !self.embedded_resource
            && self.properties.is_empty()
            && self.additional.is_none()
            && self.items.is_none()
            && self.validation.is_none()
            && self.default.is_none()
    }

    /// Whether this node or one below has `x-kubernetes-validations`. Named built-in types are not entered
    /// (they have none, and may be recursive).
    pub fn has_rules(&self) -> bool {
        if self.name.is_some() {
            return false;
        }
        let own = self.validation.as_deref().is_some_and(|v| {
            !v.rules.is_empty()
                || v.all_of.iter().chain(&v.any_of).chain(&v.one_of).any(Schema::has_rules)
                || v.not.as_deref().is_some_and(Schema::has_rules)
        });
        own || self.properties.values().chain(&self.additional).chain(&self.items).any(|s| s.has_rules())
    }

    /// The schema of the field `name` of an object: its property, or else what all other fields are.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(self.additional.as_ref()).map(|s| &**s)
    }
}

/// Value validations of a structural schema; each keyword as JSON Schema (draft 5 subset of Kubernetes) means it.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// `enum`.
    pub one_of_values: Vec<Value>,
    /// `minimum`.
    pub minimum: Option<f64>,
    /// `maximum`.
    pub maximum: Option<f64>,
    /// `exclusiveMinimum`.
    pub exclusive_minimum: bool,
    /// `exclusiveMaximum`.
    pub exclusive_maximum: bool,
    /// `multipleOf`.
    pub multiple_of: Option<f64>,
    /// `minLength` (characters).
    pub min_length: Option<i64>,
    /// `maxLength` (characters).
    pub max_length: Option<i64>,
    /// `pattern` (RE2 syntax).
    pub pattern: Option<Box<str>>,
    /// `minItems`.
    pub min_items: Option<i64>,
    /// `maxItems`.
    pub max_items: Option<i64>,
    /// `uniqueItems`.
    pub unique_items: bool,
    /// `minProperties`.
    pub min_properties: Option<i64>,
    /// `maxProperties`.
    pub max_properties: Option<i64>,
    /// `allOf`.
    pub all_of: Vec<Schema>,
    /// `anyOf`.
    pub any_of: Vec<Schema>,
    /// `oneOf`.
    pub one_of: Vec<Schema>,
    /// `not`.
    pub not: Option<Box<Schema>>,
    /// `x-kubernetes-validations` (CEL), kept as they are.
    pub rules: Vec<Value>,
    /// `pattern`, compiled when first used; none where it does not compile.
    pub regex: OnceLock<Option<Regex>>,
}

impl Validation {
    /// The compiled pattern. Compiles once; the first call costs some microseconds.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| self.pattern.as_deref().and_then(|p| re2::compile(p).ok())).as_ref()
    }
}
