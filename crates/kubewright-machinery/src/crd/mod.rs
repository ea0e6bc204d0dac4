//! CustomResourceDefinition (apiextensions.k8s.io/v1) as data: read, default, prepare, validate, and the conditions of
//! its status. Pure: storage, watches and serving are the API server's.
//!
//! An object is a JSON value throughout; [`Definition`] is what a server needs to serve its custom resources.

use serde_json::{Map, Value, json};

use crate::gvk::compare_versions;
use crate::schema::structural::{self, Node};
use crate::schema::{Schema, SchemaRef};

pub mod columns;
pub mod defaults;
pub mod field_path;
pub mod go_text;
mod hub;
pub mod instance;
pub mod jsonpath;
pub mod openapi_rules;
mod parts;
pub mod status;
mod tidy;
pub mod validate;
pub mod webhook;

/// `spec.names` or `status.acceptedNames`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Plural, the name in URLs.
    pub plural: String,
    /// Singular.
    pub singular: String,
    /// Kind.
    pub kind: String,
    /// Kind of lists.
    pub list_kind: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
}

impl Names {
    /// Reads names; what is missing is empty.
    pub fn parse(json: &Value) -> Self {
        let node = Node::new(json);
        let texts = |key| node.texts(key).map(ToString::to_string).collect();
        Self {
            plural: node.text("plural").into(),
            singular: node.text("singular").into(),
            kind: node.text("kind").into(),
            list_kind: node.text("listKind").into(),
            short_names: texts("shortNames"),
            categories: texts("categories"),
        }
    }

    /// As they are encoded: plural and kind always, others where they are not empty.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("plural".into(), self.plural.as_str().into());
        out.insert("kind".into(), self.kind.as_str().into());
        for (key, value) in [("singular", &self.singular), ("listKind", &self.list_kind)] {
            if !value.is_empty() {
                out.insert(key.into(), value.as_str().into());
            }
        }
        for (key, values) in [("shortNames", &self.short_names), ("categories", &self.categories)] {
            if !values.is_empty() {
                out.insert(key.into(), values.clone().into());
            }
        }
        Value::Object(out)
    }
}

/// One of `additionalPrinterColumns`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Header.
    pub name: String,
    /// `integer`, `number`, `string`, `boolean` or `date`.
    pub ty: String,
    /// Format of the type, or empty.
    pub format: String,
    /// What it shows.
    pub description: String,
    /// 0 is always shown, others in wide tables.
    pub priority: i64,
    /// Where the value is.
    pub json_path: String,
}

/// The scale subresource: simple paths of field names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Wanted replicas, under `.spec`.
    pub spec_replicas: String,
    /// Observed replicas, under `.status`.
    pub status_replicas: String,
    /// The label selector in text form, where there is one.
    pub label_selector: Option<String>,
}

/// One of `spec.versions`.
#[derive(Clone, Debug)]
pub struct Version {
    /// Name, such as `v1beta1`.
    pub name: String,
    /// Whether it is served.
    pub served: bool,
    /// Whether objects are stored as it.
    pub storage: bool,
    /// Whether its use is warned of.
    pub deprecated: bool,
    /// The warning, where it is not the usual one.
    pub deprecation_warning: Option<String>,
    /// The schema; a version without one preserves everything.
    pub schema: SchemaRef,
    /// Whether a schema was stated.
    pub schema_stated: bool,
    /// Whether there is a status subresource.
    pub status: bool,
    /// The scale subresource.
    pub scale: Option<Scale>,
    /// Printer columns.
    pub columns: Vec<Column>,
    /// JSON paths of selectable fields.
    pub selectable: Vec<String>,
}

/// How objects get from one version to another.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// Only apiVersion changes.
    None,
    /// A webhook converts.
    Webhook {
        /// `clientConfig`.
        client: Value,
        /// ConversionReview versions it understands, in its order of preference.
        review_versions: Vec<String>,
    },
}

/// A definition, as a server needs it.
#[derive(Clone, Debug)]
pub struct Definition {
    /// API group.
    pub group: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// The names asked for.
    pub names: Names,
    /// The names granted: these are served.
    pub accepted: Names,
    /// All versions, in their order.
    pub versions: Vec<Version>,
    /// Conversion between versions.
    pub conversion: Conversion,
    /// The old switch that keeps unknown fields everywhere.
    pub preserve_unknown_fields: bool,
}

impl Definition {
    /// Reads a definition. Lenient: a definition that is served was validated before.
    pub fn parse(object: &Value) -> Self {
        let null = Value::Null;
        let at = |pointer: &str| object.pointer(pointer).unwrap_or(&null);
        let spec = Node::new(at("/spec"));
        let conversion = Node::new(at("/spec/conversion"));
        Self {
            group: spec.text("group").into(),
            namespaced: spec.text("scope") == "Namespaced",
            names: Names::parse(at("/spec/names")),
            accepted: Names::parse(at("/status/acceptedNames")),
            versions: spec.list("versions").iter().map(version).collect(),
            conversion: if conversion.text("strategy") == "Webhook" {
                let webhook = Node::new(at("/spec/conversion/webhook"));
                Conversion::Webhook {
                    client: at("/spec/conversion/webhook/clientConfig").clone(),
                    review_versions: webhook.texts("conversionReviewVersions").map(Into::into).collect(),
                }
            } else {
                Conversion::None
            },
            preserve_unknown_fields: spec.flag("preserveUnknownFields"),
        }
    }

    /// The version objects are stored as.
    pub fn storage_version(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.storage)
    }

    /// The warning for clients that use a deprecated version: its own, or one that names the best newer version. None
    /// where it is not deprecated.
    pub fn deprecation_warning(&self, version: &Version) -> Option<String> {
        if !version.deprecated {
            return None;
        }
        if let Some(warning) = &version.deprecation_warning {
            return Some(warning.clone());
        }
        let (group, kind) = (&self.group, &self.names.kind);
        let newer = self
            .versions
            .iter()
            .filter(|v| v.served && !v.deprecated && compare_versions(&version.name, &v.name).is_lt());
        let best = newer.max_by(|a, b| compare_versions(&a.name, &b.name));
        let instead = best.map(|v| format!("; use {group}/{} {kind}", v.name)).unwrap_or_default();
        Some(format!("{group}/{} {kind} is deprecated{instead}", version.name))
    }

    /// A version by its name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }
}

fn version(json: &Value) -> Version {
    let node = Node::new(json);
    let stated = node.node("schema").and_then(|s| s.get("openAPIV3Schema"));
    let subresources = node.node("subresources");
    Version {
        name: node.text("name").into(),
        served: node.flag("served"),
        storage: node.flag("storage"),
        deprecated: node.flag("deprecated"),
        deprecation_warning: node.get("deprecationWarning").and_then(Value::as_str).map(Into::into),
        schema: stated.map_or_else(Schema::any, structural::parse).into(),
        schema_stated: stated.is_some(),
        status: subresources.is_some_and(|s| s.get("status").is_some()),
        scale: subresources.and_then(|s| s.node("scale")).map(|scale| Scale {
            spec_replicas: scale.text("specReplicasPath").into(),
            status_replicas: scale.text("statusReplicasPath").into(),
            label_selector: Some(scale.text("labelSelectorPath")).filter(|p| !p.is_empty()).map(Into::into),
        }),
        columns: node.list("additionalPrinterColumns").iter().map(column).collect(),
        selectable: node
            .list("selectableFields")
            .iter()
            .map(|f| Node::new(f).text("jsonPath").into())
            .collect(),
    }
}

fn column(json: &Value) -> Column {
    let node = Node::new(json);
    Column {
        name: node.text("name").into(),
        ty: node.text("type").into(),
        format: node.text("format").into(),
        description: node.text("description").into(),
        priority: node.get("priority").and_then(Value::as_i64).unwrap_or(0),
        json_path: node.text("jsonPath").into(),
    }
}

/// Sets the defaults of a definition: singular, listKind, conversion, the port of a webhook's service, storedVersions.
/// Schemas come into the form that is stored.
pub fn default(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let names = spec.entry("names").or_insert_with(|| json!({}));
    if let Some(names) = names.as_object_mut() {
        let text = |names: &Map<String, Value>, key: &str| {
            names.get(key).and_then(Value::as_str).unwrap_or_default().to_string()
        };
        let kind = text(names, "kind");
        if !kind.is_empty() {
            if text(names, "singular").is_empty() {
                names.insert("singular".into(), kind.to_lowercase().into());
            }
            if text(names, "listKind").is_empty() {
                names.insert("listKind".into(), format!("{kind}List").into());
            }
        }
    }
    let conversion = spec.entry("conversion").or_insert(Value::Null);
    if conversion.is_null() {
        *conversion = json!({"strategy": "None"});
    }
    if let Some(service) =
        conversion.pointer_mut("/webhook/clientConfig/service").and_then(Value::as_object_mut)
        && service.get("port").is_none_or(Value::is_null)
    {
        service.insert("port".into(), 443.into());
    }
    for version in spec.get_mut("versions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            tidy::schema(schema, false);
        }
    }
    let stored = object.pointer("/status/storedVersions").and_then(Value::as_array);
    if stored.is_none_or(Vec::is_empty)
        && let Some(name) = storage_version_name(object).map(ToString::to_string)
        && let Some(object) = object.as_object_mut()
    {
        let status = object.entry("status").or_insert_with(|| json!({}));
        if let Some(status) = status.as_object_mut() {
            status.insert("storedVersions".into(), json!([name]));
        }
    }
}

fn storage_version_name(object: &Value) -> Option<&str> {
    let versions = object.pointer("/spec/versions")?.as_array()?;
    versions.iter().map(Node::new).find(|v| v.flag("storage")).map(|v| v.text("name"))
}

/// What a server sets before a definition is created: a fresh status that knows the storage version, generation 1.
pub fn prepare_create(object: &mut Value) {
    let stored: Option<Vec<String>> = storage_version_name(object).map(|name| vec![name.into()]);
    let status =
        json!({"conditions": null, "acceptedNames": Names::default().to_json(), "storedVersions": stored});
    set(object, "status", status);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("generation".into(), 1.into());
    }
}

/// What a server sets before a definition is updated: the status stays but for a new storage version; a change of
/// spec raises the generation.
pub fn prepare_update(object: &mut Value, old: &Value) {
    set(object, "status", old.get("status").cloned().unwrap_or_else(|| json!({})));
    let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    let changed = object.get("spec") != old.get("spec");
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("generation".into(), (generation + i64::from(changed)).into());
    }
    let Some(name) = storage_version_name(object).map(ToString::to_string) else { return };
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else { return };
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if stored.is_null() {
        *stored = json!([]);
    }
    if let Some(stored) = stored.as_array_mut()
        && !stored.iter().any(|v| v == name.as_str())
    {
        stored.push(name.into());
    }
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.into(), value);
    }
}

/// The warnings for a definition: formats nobody checks. With `old`, only new ones.
pub fn warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let before = old.map(all_warnings).unwrap_or_default();
    all_warnings(object).into_iter().filter(|warning| !before.contains(warning)).collect()
}

fn all_warnings(object: &Value) -> Vec<String> {
    let hub = hub::Hub::new(object);
    let mut formats = Vec::new();
    for schema in hub.schemas() {
        openapi_rules::walk(schema, &mut |json| {
            let node = Node::new(json);
            let (format, parsed) = (node.text("format"), structural::parse_type(node));
            if !format.is_empty() && !crate::schema::format::applies(parsed, format) {
                formats.push(format!("unrecognized format {format:?}"));
            }
            false
        });
    }
    formats
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widget() -> Value {
        json!({"metadata": {"name": "widgets.example.com"}, "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "deprecated": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "a": {"type": "string", "default": null, "nullable": true, "format": "unheard-of"}}}}}]}})
    }

    #[test]
    fn names_conversion_and_stored_versions_are_defaulted() {
        let mut object = widget();
        default(&mut object);
        assert_eq!(object["spec"]["names"]["singular"], "widget");
        assert_eq!(object["spec"]["names"]["listKind"], "WidgetList");
        assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
        let a = &object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"];
        assert!(a.get("default").is_none());
        let once = object.clone();
        default(&mut object);
        assert_eq!(object, once);
    }

    #[test]
    fn a_definition_tells_what_to_serve() {
        let definition = Definition::parse(&widget());
        let version = definition.storage_version().unwrap();
        assert!(version.status && definition.namespaced);
        assert_eq!(version.scale.as_ref().unwrap().spec_replicas, ".spec.n");
        let warning = definition.deprecation_warning(version);
        assert_eq!(warning.as_deref(), Some("example.com/v1 Widget is deprecated"));
        let mut definition = definition.clone();
        definition.versions.extend(["v2beta1", "v2"].map(|name| Version {
            name: name.into(),
            served: true,
            storage: false,
            deprecated: false,
            ..version.clone()
        }));
        let warning = definition.deprecation_warning(version);
        assert_eq!(
            warning.as_deref(),
            Some("example.com/v1 Widget is deprecated; use example.com/v2 Widget")
        );
    }

    #[test]
    fn the_status_belongs_to_the_server() {
        let mut object = widget();
        object["status"] = json!({"x": 1});
        prepare_create(&mut object);
        let status = json!({"conditions": null, "acceptedNames": {"kind": "", "plural": ""}, "storedVersions": ["v1"]});
        assert_eq!(object["status"], status);
        let mut update = object.clone();
        update["spec"]["versions"][0]["name"] = json!("v2");
        prepare_update(&mut update, &object);
        assert_eq!(update["status"]["storedVersions"], json!(["v1", "v2"]));
        assert_eq!(update["metadata"]["generation"], 2);
    }

    #[test]
    fn unknown_formats_are_warned_of_once() {
        assert_eq!(warnings(&widget(), None), ["unrecognized format \"unheard-of\""]);
        assert_eq!(warnings(&widget(), Some(&widget())), Vec::<String>::new());
    }
}
