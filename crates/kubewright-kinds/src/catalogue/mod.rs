//! The catalogue: what is known of every built-in kind, as data.
//!
//! The facts live in `catalogue/*.txt`, one file a group and version, in the small form that `parse`
//! reads. They become the [`Schema`](kubewright_machinery::schema::Schema) graph that decoding, defaulting,
//! patches, apply and OpenAPI share, and one [`ResourceFacts`] for each resource that is served. Behaviour
//! (defaults that depend on other fields, validation, strategies) is never here.

pub(crate) mod numbers;
mod parse;

use std::collections::HashMap;
use std::sync::OnceLock;

use kubewright_machinery::schema::SchemaRef;

pub use parse::ParseError;

/// The files, in the order in which groups are listed by discovery.
const FILES: &[(&str, &str)] = &[
    ("meta.v1", include_str!("../../catalogue/meta.v1.txt")),
    ("runtime", include_str!("../../catalogue/runtime.txt")),
    ("version", include_str!("../../catalogue/version.txt")),
    ("core.v1", include_str!("../../catalogue/core.v1.txt")),
    ("apiregistration.v1", include_str!("../../catalogue/apiregistration.v1.txt")),
    ("apps.v1", include_str!("../../catalogue/apps.v1.txt")),
    ("events.v1", include_str!("../../catalogue/events.v1.txt")),
    ("authentication.v1", include_str!("../../catalogue/authentication.v1.txt")),
    ("authorization.v1", include_str!("../../catalogue/authorization.v1.txt")),
    ("autoscaling.v2", include_str!("../../catalogue/autoscaling.v2.txt")),
    ("autoscaling.v1", include_str!("../../catalogue/autoscaling.v1.txt")),
    ("batch.v1", include_str!("../../catalogue/batch.v1.txt")),
    ("certificates.v1", include_str!("../../catalogue/certificates.v1.txt")),
    ("networking.v1", include_str!("../../catalogue/networking.v1.txt")),
    ("policy.v1", include_str!("../../catalogue/policy.v1.txt")),
    ("rbac.v1", include_str!("../../catalogue/rbac.v1.txt")),
    ("storage.v1", include_str!("../../catalogue/storage.v1.txt")),
    ("admissionregistration.v1", include_str!("../../catalogue/admissionregistration.v1.txt")),
    ("apiextensions.v1", include_str!("../../catalogue/apiextensions.v1.txt")),
    ("scheduling.v1", include_str!("../../catalogue/scheduling.v1.txt")),
    ("coordination.v1", include_str!("../../catalogue/coordination.v1.txt")),
    ("node.v1", include_str!("../../catalogue/node.v1.txt")),
    ("discovery.v1", include_str!("../../catalogue/discovery.v1.txt")),
    ("flowcontrol.v1", include_str!("../../catalogue/flowcontrol.v1.txt")),
    ("resource.v1", include_str!("../../catalogue/resource.v1.txt")),
];

/// One type: its schema and whether it is a kind of its group and version.
#[derive(Clone, Debug)]
pub struct TypeFacts {
    /// The schema; its `name` is the full name.
    pub schema: SchemaRef,
    /// Group of the file.
    pub group: &'static str,
    /// Version of the file.
    pub version: &'static str,
    /// Whether the type has a GroupVersionKind of its own (objects, lists, options).
    pub is_kind: bool,
}

/// One resource as discovery lists it.
#[derive(Clone, Debug)]
pub struct ResourceFacts {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural name: the path segment.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Short names.
    pub short_names: Vec<&'static str>,
    /// Categories, such as `all`.
    pub categories: Vec<&'static str>,
    /// Verbs in discovery's order.
    pub verbs: Vec<&'static str>,
    /// `storageVersionHash`; empty for resources that are not stored.
    pub storage_version_hash: &'static str,
    /// Subresources in discovery's order.
    pub subresources: Vec<SubresourceFacts>,
    /// Schema of the kind.
    pub schema: SchemaRef,
}

/// One subresource.
#[derive(Clone, Debug)]
pub struct SubresourceFacts {
    /// Name: the path segment after the object's name.
    pub name: &'static str,
    /// Group and version of the kind where discovery states them (Scale, Eviction, TokenRequest).
    pub group_version: Option<(&'static str, &'static str)>,
    /// Kind that is read and written.
    pub kind: &'static str,
    /// Verbs.
    pub verbs: Vec<&'static str>,
}

/// All facts, parsed.
#[derive(Debug)]
pub struct Catalogue {
    types: HashMap<Box<str>, TypeFacts>,
    resources: Vec<ResourceFacts>,
}

impl Catalogue {
    /// The built-in kinds of Kubernetes 1.36. Parsed once (about two milliseconds), then shared.
    pub fn builtin() -> &'static Catalogue {
        static BUILTIN: OnceLock<Catalogue> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            Self::parse(FILES).expect("the catalogue in the binary is well-formed: a test parses it")
        })
    }

    /// Parses catalogue files, each with its name.
    ///
    /// # Errors
    /// The first line that is not of the form.
    pub fn parse(files: &[(&'static str, &'static str)]) -> Result<Self, ParseError> {
        parse::catalogue(files)
    }

    /// The schema of a type by its full name, such as `io.k8s.api.core.v1.Pod`.
    pub fn schema(&self, name: &str) -> Option<&SchemaRef> {
        self.types.get(name).map(|t| &t.schema)
    }

    /// All types, in no particular order.
    pub fn types(&self) -> impl Iterator<Item = (&str, &TypeFacts)> {
        self.types.iter().map(|(name, facts)| (&**name, facts))
    }

    /// The schema of a kind by group, version and kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&SchemaRef> {
        self.types
            .iter()
            .find(|(name, t)| {
                t.is_kind && t.group == group && t.version == version && name.rsplit('.').next() == Some(kind)
            })
            .map(|(_, t)| &t.schema)
    }

    /// All resources, group by group.
    pub fn resources(&self) -> &[ResourceFacts] {
        &self.resources
    }

    /// One resource.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&ResourceFacts> {
        self.resources.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubewright_machinery::schema::{ListType, Schema};
    use serde_json::{Map, Value, json};

    fn reference(file: &str) -> Option<Value> {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference").join(file);
        match std::fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).expect("reference is JSON")),
            Err(_) => {
                println!("skipped: no {}", path.display());
                None
            }
        }
    }

    /// The schema in the words of OpenAPI v3, as far as the catalogue knows them.
    fn openapi(schema: &Schema, inline: bool) -> Value {
        let mut out = Map::new();
        let mut facts = Map::new();
        if let Some(default) = &schema.default {
            facts.insert("default".into(), (**default).clone());
        }
        if let Some(patch) = &schema.patch {
            let mut words = Vec::new();
            if patch.merge {
                words.push("merge");
            }
            if patch.replace {
                words.push("replace");
            }
            if patch.retain_keys {
                words.push("retainKeys");
            }
            facts.insert("x-kubernetes-patch-strategy".into(), words.join(",").into());
            if let Some(key) = &patch.merge_key {
                facts.insert("x-kubernetes-patch-merge-key".into(), (**key).into());
            }
        }
        if schema.list_type_stated {
            let name = match schema.list_type {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            facts.insert("x-kubernetes-list-type".into(), name.into());
        }
        if !schema.list_map_keys.is_empty() {
            facts.insert("x-kubernetes-list-map-keys".into(), json!(schema.list_map_keys));
        }
        if !inline && let Some(name) = &schema.name {
            let target = json!({"$ref": format!("#/components/schemas/{name}")});
            if schema.map_atomic && Catalogue::builtin().schema(name).is_some_and(|s| !s.map_atomic) {
                facts.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
            facts.insert("allOf".into(), json!([target]));
            return Value::Object(facts);
        }
        if schema.map_atomic {
            facts.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if schema.int_or_string {
            return json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]});
        }
        if schema.format.as_deref() == Some("quantity") {
            return json!({"oneOf": [{"type": "string"}, {"type": "number"}]});
        }
        out.append(&mut facts);
        if let Some(ty) = schema.ty {
            out.insert("type".into(), ty.name().into());
        }
        if let Some(format) = &schema.format {
            out.insert("format".into(), (**format).into());
        }
        if let Some(v) = &schema.validation {
            out.insert("enum".into(), Value::Array(v.one_of_values.clone()));
        }
        if !schema.properties.is_empty() {
            let fields = schema.properties.iter().map(|(k, s)| (k.to_string(), openapi(s, false))).collect();
            out.insert("properties".into(), Value::Object(fields));
        }
        if !schema.required.is_empty() {
            let mut required = schema.required.clone();
            required.sort();
            out.insert("required".into(), json!(required));
        }
        for (word, child) in [("items", &schema.items), ("additionalProperties", &schema.additional)] {
            if let Some(child) = child {
                out.insert(word.into(), openapi(child, false));
            }
        }
        Value::Object(out)
    }

    /// What the catalogue leaves out, and spellings that mean the same.
    fn normal(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut out: Map<String, Value> = map
                    .iter()
                    .filter(|(k, v)| {
                        let left_out =
                            matches!(k.as_str(), "x-kubernetes-group-version-kind" | "x-kubernetes-unions");
                        let implied = k.as_str() == "x-kubernetes-map-type" && v.as_str() == Some("granular");
                        !(left_out || implied)
                    })
                    .map(|(k, v)| (k.clone(), normal(v)))
                    .collect();
                if let Some(Value::Array(all)) = out.remove("allOf") {
                    out.extend(all.into_iter().filter_map(|v| v.as_object().cloned()).flatten());
                }
                if let Some(Value::Array(required)) = out.get_mut("required") {
                    required.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                }
                Value::Object(out)
            }
            Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
            other => other.clone(),
        }
    }

    #[test]
    fn schemas_equal_the_reference() {
        let Some(Value::Object(reference)) = reference("schemas-v3.json") else { return };
        let catalogue = Catalogue::builtin();
        for (name, want) in &reference {
            let schema = catalogue.schema(name).unwrap_or_else(|| panic!("no type {name}"));
            let got = normal(&openapi(schema, true));
            let want = normal(want);
            for (field, want) in want["properties"].as_object().into_iter().flatten() {
                assert_eq!(&got["properties"][field], want, "{name}.{field}");
            }
            assert_eq!(got, want, "{name}");
        }
        assert_eq!(reference.len(), catalogue.types.len());
    }

    #[test]
    fn resources_equal_discovery() {
        let Some(Value::Object(reference)) = reference("discovery.json") else { return };
        let catalogue = Catalogue::builtin();
        let mut served = 0;
        for (gv, list) in &reference {
            let (group, version) = gv.split_once('/').unwrap_or(("", gv));
            for want in list["resources"].as_array().expect("resources") {
                let name = want["name"].as_str().expect("name");
                let (plural, sub) = name.split_once('/').map_or((name, None), |(p, s)| (p, Some(s)));
                let got =
                    catalogue.resource(group, version, plural).unwrap_or_else(|| panic!("no {gv} {name}"));
                let mut entry = match sub {
                    None => {
                        served += 1;
                        json!({
                            "name": got.plural, "singularName": got.singular, "kind": got.kind,
                            "shortNames": got.short_names, "categories": got.categories, "verbs": got.verbs,
                            "storageVersionHash": got.storage_version_hash,
                        })
                    }
                    Some(sub) => {
                        let found = got.subresources.iter().find(|s| s.name == sub);
                        let found = found.unwrap_or_else(|| panic!("no {gv} {name}"));
                        let (group, version) = found.group_version.unwrap_or_default();
                        json!({
                            "name": format!("{plural}/{}", found.name), "singularName": "", "kind": found.kind,
                            "group": group, "version": version, "verbs": found.verbs,
                        })
                    }
                };
                entry["namespaced"] = got.namespaced.into();
                if let Value::Object(map) = &mut entry {
                    map.retain(|k, v| {
                        k == "singularName" || !(v == "" || v.as_array().is_some_and(Vec::is_empty))
                    });
                }
                assert_eq!(&entry, want);
            }
        }
        assert_eq!(served, catalogue.resources.len());
    }

    #[test]
    fn types_that_contain_themselves_are_closed_graphs() {
        let props = Catalogue::builtin()
            .schema("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
            .expect("is there");
        let not = &props.properties["not"];
        assert!(not.properties["not"].properties.contains_key("allOf"));
    }

    #[test]
    fn a_malformed_line_is_named() {
        let error =
            Catalogue::parse(&[("x", "package p g/v1\n\ntype T\n  field []Missing\n")]).expect_err("unknown");
        assert_eq!(error.to_string(), "x line 4: no type \"Missing\"");
        let error = Catalogue::parse(&[("x", "package p g/v1\n\n  field string\n")]).expect_err("outside");
        assert_eq!(error.to_string(), "x line 3: a field outside of a type");
    }
}
