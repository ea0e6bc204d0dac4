//! Schemas of the model as OpenAPI definitions: named types become references, each rendered once.

use std::collections::BTreeMap;

use kubewright_machinery::schema::{ListType, Schema, SchemaRef, Validation};
use serde_json::{Map, Value, json};

use super::Dialect;

/// The definitions of one document. Adding a type adds what it refers to.
pub struct Definitions {
    dialect: Dialect,
    done: BTreeMap<String, Value>,
}

impl Definitions {
    /// No definitions yet.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, done: BTreeMap::new() }
    }

    /// Adds a type under a name, with fields of its own besides those the schema has.
    pub fn add(&mut self, name: &str, schema: &Schema, extra: impl FnOnce(&mut Map<String, Value>)) {
        if self.done.contains_key(name) {
            return;
        }
        // Taken before it is rendered: a recursive type refers to itself.
        self.done.insert(name.to_owned(), Value::Null);
        let mut rendered = self.body(schema);
        extra(&mut rendered);
        self.done.insert(name.to_owned(), Value::Object(rendered));
    }

    /// Adds a definition as it is.
    pub fn insert(&mut self, name: &str, definition: Value) {
        self.done.insert(name.to_owned(), definition);
    }

    /// The definition of that name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.done.get_mut(name)
    }

    /// All of them.
    pub fn finish(self) -> Map<String, Value> {
        self.done.into_iter().collect()
    }

    /// A schema where it is used: a reference for a named type.
    pub fn usage(&mut self, schema: &SchemaRef) -> Value {
        let Some(name) = &schema.name else { return Value::Object(self.body(schema)) };
        self.add(name, schema, |_| {});
        let reference = self.dialect.reference(name);
        let mut around = Map::new();
        if let Some(text) = &schema.description {
            around.insert("description".into(), json!(text));
        }
        match self.dialect {
            // A default beside a reference needs allOf, as keywords beside $ref are ignored.
            Dialect::V3 if schema.default.is_some() => {
                around
                    .insert("default".into(), (**schema.default.as_ref().expect("it was just seen")).clone());
                around.insert("allOf".into(), json!([reference]));
                Value::Object(around)
            }
            _ => reference,
        }
    }

    fn body(&mut self, schema: &Schema) -> Map<String, Value> {
        let mut out = Map::new();
        if let Some(text) = &schema.description {
            out.insert("description".into(), json!(text));
        }
        if let Some(text) = &schema.title {
            out.insert("title".into(), json!(text));
        }
        self.types(schema, &mut out);
        if let Some(default) = &schema.default {
            // Swagger 2.0 documents have none: clients of theirs would complain of defaults beside references.
            if self.dialect == Dialect::V3 {
                out.insert("default".into(), (**default).clone());
            }
        }
        if !schema.properties.is_empty() && !self.opaque(schema) {
            let properties: Map<String, Value> =
                schema.properties.iter().map(|(name, of)| (name.to_string(), self.usage(of))).collect();
            out.insert("properties".into(), Value::Object(properties));
        }
        if let Some(values) = &schema.additional {
            let values = self.usage(values);
            out.insert("additionalProperties".into(), values);
        }
        if let Some(items) = &schema.items {
            let items = self.usage(items);
            out.insert("items".into(), items);
        }
        if !schema.required.is_empty() && !self.opaque(schema) {
            out.insert("required".into(), json!(schema.required));
        }
        if let Some(validation) = &schema.validation {
            self.validation(validation, &mut out);
        }
        extensions(schema, &mut out);
        out
    }

    /// Swagger 2.0 has no way to say that further fields are welcome: such objects are left open there.
    fn opaque(&self, schema: &Schema) -> bool {
        self.dialect == Dialect::V2 && schema.preserve_unknown_fields
    }

    fn types(&self, schema: &Schema, out: &mut Map<String, Value>) {
        if schema.int_or_string && self.dialect == Dialect::V3 {
            out.insert("x-kubernetes-int-or-string".into(), json!(true));
            out.insert("anyOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
            return;
        }
        // What clients of v2 can't express is left untyped: then they let any value pass.
        let untyped = self.dialect == Dialect::V2
            && (schema.nullable || schema.int_or_string || schema.preserve_unknown_fields);
        if let Some(ty) = schema.ty.filter(|_| !untyped) {
            out.insert("type".into(), json!(ty.name()));
        }
        if let Some(format) = schema.format.as_deref().filter(|format| *format != "quantity") {
            out.insert("format".into(), json!(format));
        }
        if schema.nullable && self.dialect == Dialect::V3 {
            out.insert("nullable".into(), json!(true));
        }
    }

    fn validation(&mut self, of: &Validation, out: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
        if !of.one_of_values.is_empty() {
            put("enum", json!(of.one_of_values));
        }
        for (name, number) in
            [("minimum", of.minimum), ("maximum", of.maximum), ("multipleOf", of.multiple_of)]
        {
            if let Some(number) = number {
                put(name, plain(number));
            }
        }
        for (name, flag) in [
            ("exclusiveMinimum", of.exclusive_minimum),
            ("exclusiveMaximum", of.exclusive_maximum),
            ("uniqueItems", of.unique_items),
        ] {
            if flag {
                put(name, json!(true));
            }
        }
        for (name, count) in [
            ("minLength", of.min_length),
            ("maxLength", of.max_length),
            ("minItems", of.min_items),
            ("maxItems", of.max_items),
            ("minProperties", of.min_properties),
            ("maxProperties", of.max_properties),
        ] {
            if let Some(count) = count {
                put(name, json!(count));
            }
        }
        if let Some(pattern) = &of.pattern {
            put("pattern", json!(pattern));
        }
        if !of.rules.is_empty() {
            put("x-kubernetes-validations", json!(of.rules));
        }
        if self.dialect == Dialect::V2 {
            return;
        }
        for (name, parts) in [("allOf", &of.all_of), ("anyOf", &of.any_of), ("oneOf", &of.one_of)] {
            if !parts.is_empty() && !out.contains_key(name) {
                let parts: Vec<Value> = parts.iter().map(|part| Value::Object(self.body(part))).collect();
                out.insert(name.into(), Value::Array(parts));
            }
        }
        if let Some(not) = &of.not {
            let not = self.body(not);
            out.insert("not".into(), Value::Object(not));
        }
    }
}

/// The `x-kubernetes-…` facts.
fn extensions(schema: &Schema, out: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| out.insert(format!("x-kubernetes-{name}"), value);
    if schema.preserve_unknown_fields && schema.ty.is_some() {
        put("preserve-unknown-fields", json!(true));
    }
    if schema.embedded_resource {
        put("embedded-resource", json!(true));
    }
    if schema.list_type_stated {
        let name = match schema.list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        put("list-type", json!(name));
    }
    if !schema.list_map_keys.is_empty() {
        put("list-map-keys", json!(schema.list_map_keys));
    }
    if schema.map_atomic {
        put("map-type", json!("atomic"));
    }
    if let Some(patch) = &schema.patch {
        let strategies: Vec<&str> =
            [(patch.merge, "merge"), (patch.replace, "replace"), (patch.retain_keys, "retainKeys")]
                .into_iter()
                .filter_map(|(on, name)| on.then_some(name))
                .collect();
        if !strategies.is_empty() {
            put("patch-strategy", json!(strategies.join(",")));
        }
        if let Some(key) = &patch.merge_key {
            put("patch-merge-key", json!(key));
        }
    }
}

/// A number without a fraction as an integer, as Go prints it.
fn plain(number: f64) -> Value {
    let whole = number as i64;
    if (whole as f64 - number).abs() < f64::EPSILON { json!(whole) } else { json!(number) }
}

#[cfg(test)]
mod tests {
    use kubewright_machinery::schema::Type;

    use super::*;

    fn named(name: &str, properties: &[(&str, SchemaRef)]) -> SchemaRef {
        SchemaRef::from(Schema {
            ty: Some(Type::Object),
            name: Some(name.into()),
            properties: properties.iter().map(|(key, of)| ((*key).into(), of.clone())).collect(),
            ..Schema::default()
        })
    }

    #[test]
    fn a_named_type_is_defined_once_and_referred_to() {
        let inner = named("inner", &[]);
        let outer = named("outer", &[("a", inner.clone()), ("b", inner)]);
        let mut definitions = Definitions::new(Dialect::V3);
        assert_eq!(definitions.usage(&outer), json!({"$ref": "#/components/schemas/outer"}));
        let all = definitions.finish();
        assert_eq!(all["outer"]["properties"]["b"], json!({"$ref": "#/components/schemas/inner"}));
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_recursive_type_ends() {
        let hole = SchemaRef::hole();
        hole.fill(Schema {
            ty: Some(Type::Object),
            name: Some("tree".into()),
            properties: [("not".into(), hole.clone())].into(),
            ..Schema::default()
        });
        let mut definitions = Definitions::new(Dialect::V2);
        definitions.usage(&hole);
        assert_eq!(definitions.finish()["tree"]["properties"]["not"], json!({"$ref": "#/definitions/tree"}));
    }

    #[test]
    fn swagger_leaves_out_what_it_cannot_say() {
        let schema = Schema { ty: Some(Type::String), nullable: true, ..Schema::default() };
        let v3 = Definitions::new(Dialect::V3).body(&schema);
        let v2 = Definitions::new(Dialect::V2).body(&schema);
        assert_eq!(Value::Object(v3), json!({"type": "string", "nullable": true}));
        assert_eq!(Value::Object(v2), json!({}));
    }
}
