//! OpenAPI documents: v3 per group and version (KEP-2896), and Swagger 2.0 of everything, which client-go reads as
//! protobuf.
//!
//! A function of the [`Table`]; a [`Library`] keeps what was rendered until the resources of a group and version change.
//! Nothing here reads a request.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use kubewright_machinery::schema::{Schema, SchemaRef, Type};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::discovery::{Tagged, etag};
use crate::resources::{Resource, Table};

mod definitions;
mod descriptions;
pub mod gnostic;
mod merge;
mod paths;

use definitions::Definitions;
pub use descriptions::Descriptions;
pub use paths::Dialect;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Rendered documents, kept while they hold.
#[derive(Default)]
pub struct Library {
    descriptions: Option<Arc<dyn Descriptions>>,
    v3: Mutex<HashMap<String, Kept>>,
    v2: Mutex<Option<(u64, [Tagged; 2])>>,
}

struct Kept {
    resources: Vec<Arc<Resource>>,
    document: Tagged,
}

/// The form of a v2 document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON.
    Json,
    /// `openapi.v2.Document` of google/gnostic.
    Protobuf,
}

impl Library {
    /// A library whose documents say what types and fields are for, where `descriptions` knows it.
    pub fn new(descriptions: Option<Arc<dyn Descriptions>>) -> Self {
        Self { descriptions, ..Self::default() }
    }

    /// `/openapi/v3`: where the documents are, each with a hash of its content; those of other servers too. Renders
    /// those that changed.
    pub fn index(&self, table: &Table, version: &str) -> Value {
        let mut paths = Map::new();
        for path in paths_of(table) {
            if let Some(tagged) = self.document(table, &path, version) {
                let hash = tagged.etag.trim_matches('"');
                paths.insert(
                    path.clone(),
                    json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}),
                );
            }
        }
        for remote in table.remotes() {
            let own = format!("apis/{}/{}", remote.group, remote.version);
            for (path, url) in remote.facts.iter().flat_map(|facts| &facts.openapi) {
                let entry = json!({"serverRelativeURL": url});
                if **path == *own {
                    paths.insert(own.clone(), entry);
                } else {
                    // This server's own document comes first.
                    paths.entry(path.to_string()).or_insert(entry);
                }
            }
        }
        json!({"paths": paths})
    }

    /// `/openapi/v3/PATH`, such as `api/v1`, `apis/apps` or `version`; `version` is that of the server.
    pub fn document(&self, table: &Table, path: &str, version: &str) -> Option<Tagged> {
        if !is_served(table, path) {
            return None;
        }
        let resources = resources_at(table, path);
        let mut kept = self.v3.lock();
        if let Some(found) = kept.get(path)
            && found.resources.len() == resources.len()
            && found.resources.iter().zip(&resources).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Some(found.document.clone());
        }
        let body = Bytes::from(v3(&resources, self.descriptions.as_deref(), version).to_string());
        let document = Tagged { etag: etag(&body), body };
        kept.insert(path.to_owned(), Kept { resources, document: document.clone() });
        Some(document)
    }

    /// `/openapi/v2`, with what other servers serve. Rendered anew after each publication, when somebody asks.
    pub fn v2(&self, table: &Table, form: Form, version: &str) -> Tagged {
        let mut kept = self.v2.lock();
        let both = match &*kept {
            Some((serial, both)) if *serial == table.serial() => both,
            _ => {
                let mut document = v2(table.resources(), self.descriptions.as_deref(), version);
                for remote in table.remotes() {
                    let Some(facts) = &remote.facts else { continue };
                    if let Ok(other) = serde_json::from_slice(&facts.swagger.content) {
                        let prefix = format!("/apis/{}/{}", remote.group, remote.version);
                        merge::add(&mut document, &other, &prefix);
                    }
                }
                let both = [Bytes::from(document.to_string()), Bytes::from(gnostic::encode(&document))]
                    .map(|body| Tagged { etag: etag(&body), body });
                &kept.insert((table.serial(), both)).1
            }
        };
        both[usize::from(form == Form::Protobuf)].clone()
    }
}

/// The paths below `/openapi/v3/` that have a document.
fn paths_of(table: &Table) -> Vec<String> {
    let mut paths: Vec<String> = vec!["api".into(), "apis".into(), "version".into()];
    for resource in table.resources() {
        paths.push(path_of(resource));
        if !resource.group.is_empty() {
            paths.push(format!("apis/{}", resource.group));
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

fn path_of(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}/{}", resource.group, resource.version)
    }
}

fn is_served(table: &Table, path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["api" | "apis" | "version"] => true,
        ["api", version] => table.has_version("", version),
        ["apis", group] => !group.is_empty() && table.has_group(group),
        ["apis", group, version] => !group.is_empty() && table.has_version(group, version),
        _ => false,
    }
}

fn resources_at(table: &Table, path: &str) -> Vec<Arc<Resource>> {
    table.resources().iter().filter(|resource| path_of(resource) == path).cloned().collect()
}

fn v3(resources: &[Arc<Resource>], descriptions: Option<&dyn Descriptions>, version: &str) -> Value {
    let (paths, schemas) = render(Dialect::V3, resources, descriptions);
    // Documents of custom resources come from a server of their own in Kubernetes, and say so.
    let custom = !resources.is_empty() && resources.iter().all(|r| r.custom);
    let (title, version) =
        if custom { ("Kubernetes CRD Swagger", "v0.1.0") } else { ("Kubernetes", version) };
    json!({
        "openapi": "3.0.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn v2(resources: &[Arc<Resource>], descriptions: Option<&dyn Descriptions>, version: &str) -> Value {
    let (paths, definitions) = render(Dialect::V2, resources, descriptions);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "definitions": definitions,
    })
}

fn render(
    dialect: Dialect,
    resources: &[Arc<Resource>],
    descriptions: Option<&dyn Descriptions>,
) -> (Value, Value) {
    let mut paths = Map::new();
    let mut definitions = Definitions::new(dialect);
    for resource in resources {
        let name = schema_name(resource);
        let list = list_name(resource, &name);
        definitions.add(&name, &resource.schema, |body| complete(dialect, resource, body));
        let gvk = json!([{"group": &resource.group, "version": &resource.version, "kind": &resource.kind}]);
        if let Some(definition) = definitions.get_mut(&name)
            && definition.get("x-kubernetes-group-version-kind").is_none()
        {
            definition["x-kubernetes-group-version-kind"] = gvk;
        }
        definitions.insert(&list, list_definition(dialect, resource, &name));
        paths::add(dialect, resource, &name, &list, &mut paths);
    }
    if !resources.is_empty() {
        shared(dialect, &mut definitions);
    }
    let mut definitions = definitions.finish();
    if let Some(descriptions) = descriptions {
        let built_in = resources.iter().filter(|resource| !resource.custom);
        let versions: BTreeSet<(&str, &str)> = built_in.map(|r| (&*r.group, &*r.version)).collect();
        for (group, version) in versions {
            descriptions::describe(dialect, &mut definitions, &descriptions.schemas(group, version));
        }
    }
    (Value::Object(paths), Value::Object(definitions))
}

/// The name of a kind's schema: that of the built-in type, or the group backwards for custom resources.
fn schema_name(resource: &Resource) -> String {
    match &resource.schema.name {
        Some(name) => name.to_string(),
        None => {
            let mut parts: Vec<&str> = resource.group.split('.').collect();
            parts.reverse();
            format!("{}.{}.{}", parts.join("."), resource.version, resource.kind)
        }
    }
}

fn list_name(resource: &Resource, name: &str) -> String {
    let stem = name.strip_suffix(&*resource.kind).unwrap_or(name);
    format!("{stem}{}", resource.list_kind)
}

/// Adds the fields that every object has to the schema of a custom resource.
fn complete(dialect: Dialect, resource: &Resource, body: &mut Map<String, Value>) {
    if !resource.custom {
        return;
    }
    let properties = body.entry("properties").or_insert_with(|| json!({}));
    let metadata = dialect.reference(&format!("{META}.ObjectMeta"));
    for (name, schema) in [
        ("apiVersion", json!({"type": "string"})),
        ("kind", json!({"type": "string"})),
        ("metadata", metadata),
    ] {
        properties[name] = schema;
    }
    if resource.schema.ty.is_some() {
        body.insert("type".into(), json!("object"));
    }
}

fn list_definition(dialect: Dialect, resource: &Resource, item: &str) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": dialect.reference(&format!("{META}.ListMeta")),
            "items": {"type": "array", "items": dialect.reference(item)},
        },
        "x-kubernetes-group-version-kind":
            [{"group": &resource.group, "version": &resource.version, "kind": &resource.list_kind}],
    })
}

/// Types that operations refer to whatever the kind.
fn shared(dialect: Dialect, definitions: &mut Definitions) {
    let object = |properties: &[(&str, Value)]| {
        let properties: Map<String, Value> =
            properties.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
        json!({"type": "object", "properties": properties})
    };
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer", "format": "int64"}));
    let time = json!({"type": "string", "format": "date-time"});
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let list_of_text = json!({"type": "array", "items": {"type": "string"}});
    let owner = object(&[
        ("apiVersion", text.clone()),
        ("blockOwnerDeletion", json!({"type": "boolean"})),
        ("controller", json!({"type": "boolean"})),
        ("kind", text.clone()),
        ("name", text.clone()),
        ("uid", text.clone()),
    ]);
    let fields = object(&[
        ("apiVersion", text.clone()),
        ("fieldsType", text.clone()),
        ("fieldsV1", json!({"type": "object"})),
        ("manager", text.clone()),
        ("operation", text.clone()),
        ("subresource", text.clone()),
        ("time", time.clone()),
    ]);
    let meta = object(&[
        ("annotations", texts.clone()),
        ("creationTimestamp", time.clone()),
        ("deletionGracePeriodSeconds", number.clone()),
        ("deletionTimestamp", time),
        ("finalizers", list_of_text),
        ("generateName", text.clone()),
        ("generation", number.clone()),
        ("labels", texts),
        ("managedFields", json!({"type": "array", "items": fields})),
        ("name", text.clone()),
        ("namespace", text.clone()),
        ("ownerReferences", json!({"type": "array", "items": owner})),
        ("resourceVersion", text.clone()),
        ("selfLink", text.clone()),
        ("uid", text.clone()),
    ]);
    let list_meta = object(&[
        ("continue", text.clone()),
        ("remainingItemCount", number),
        ("resourceVersion", text.clone()),
        ("selfLink", text.clone()),
    ]);
    let status = object(&[
        ("apiVersion", text.clone()),
        ("code", json!({"type": "integer", "format": "int32"})),
        ("details", json!({"type": "object"})),
        ("kind", text.clone()),
        ("message", text.clone()),
        ("metadata", dialect.reference(&format!("{META}.ListMeta"))),
        ("reason", text.clone()),
        ("status", text),
    ]);
    let any_object = SchemaRef::from(Schema { ty: Some(Type::Object), ..Schema::default() });
    definitions.add(&format!("{META}.Patch"), &any_object, |_| {});
    for (name, definition) in [("ObjectMeta", meta), ("ListMeta", list_meta), ("Status", status)] {
        let name = format!("{META}.{name}");
        if definitions.get_mut(&name).is_none() {
            definitions.insert(&name, definition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom() -> Resource {
        let spec =
            Schema { ty: Some(Type::Object), description: Some("What to make.".into()), ..Schema::default() };
        let schema = Schema {
            ty: Some(Type::Object),
            properties: [("spec".into(), SchemaRef::from(spec))].into(),
            ..Schema::default()
        };
        Resource {
            custom: true,
            schema: schema.into(),
            ..Resource::stored("example.com", "v1", "Widget", "widgets", true)
        }
    }

    fn table(serial: u64, resources: Vec<Arc<Resource>>) -> Table {
        Table::new(resources, serial)
    }

    #[test]
    fn a_custom_resource_has_its_schema_its_paths_and_its_kind() {
        let table = table(1, vec![Arc::new(custom())]);
        let tagged = Library::default().document(&table, "apis/example.com/v1", "v1.36.0").unwrap();
        let document: Value = serde_json::from_slice(&tagged.body).unwrap();
        let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
        assert_eq!(schema["properties"]["spec"]["description"], "What to make.");
        assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
        let patch = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Widget");
        assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
        assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
    }

    #[test]
    fn the_hash_of_a_document_changes_only_when_its_resources_do() {
        let (library, widget) = (Library::default(), Arc::new(custom()));
        let first = library.document(&table(1, vec![widget.clone()]), "apis/example.com/v1", "v1").unwrap();
        let other = Arc::new(Resource::stored("", "v1", "Pod", "pods", true));
        let second = library.document(&table(2, vec![widget, other]), "apis/example.com/v1", "v1").unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn only_what_is_served_has_a_document() {
        let (library, table) = (Library::default(), table(1, vec![Arc::new(custom())]));
        for path in ["apis/example.com/v2", "apis/nobody.io/v1", "api/v1", "api/v1/pods", ""] {
            assert!(library.document(&table, path, "v1").is_none(), "{path}");
        }
        assert!(library.document(&table, "apis", "v1").is_some());
        assert!(library.index(&table, "v1")["paths"].get("apis/example.com/v1").is_some());
    }

    #[test]
    fn the_swagger_document_is_served_as_protobuf_too() {
        let (library, table) = (Library::default(), table(1, vec![Arc::new(custom())]));
        let bytes = library.v2(&table, Form::Protobuf, "v1").body;
        assert!(String::from_utf8_lossy(&bytes).contains("com.example.v1.Widget"));
        assert_eq!(library.v2(&table, Form::Json, "v1").body[0], b'{');
    }
}
