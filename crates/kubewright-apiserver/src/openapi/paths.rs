//! The operations of a served resource as OpenAPI paths, in v3 and in Swagger 2.0 words.
//!
//! Clients use them to learn which kind a path serves, which verbs there are, which patch types are taken and that
//! `fieldValidation` is understood; nothing else is put in.

use serde_json::{Map, Value, json};

use crate::resources::{Resource, Verb};

/// Which of the two dialects a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAPI 3.0.
    V3,
    /// Swagger 2.0.
    V2,
}

impl Dialect {
    /// Where references to schemas point.
    pub fn reference(self, name: &str) -> Value {
        match self {
            Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
            Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
        }
    }
}

/// The media types of patches.
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Adds the paths of one resource. `schema` and `list_schema` are names of schemas in the same document.
pub fn add(
    dialect: Dialect,
    resource: &Resource,
    schema: &str,
    list_schema: &str,
    out: &mut Map<String, Value>,
) {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let all = format!("{root}{scope}/{}", resource.plural);
    let one = format!("{all}/{{name}}");
    let writer = Writer { dialect, resource, schema, list_schema };

    let collection = writer.item(
        &[
            ("get", Verb::List, "list"),
            ("post", Verb::Create, "post"),
            ("delete", Verb::DeleteCollection, "deletecollection"),
        ],
        false,
    );
    if !collection.is_empty() {
        out.insert(all, Value::Object(writer.with_scope(collection, false)));
    }
    let single = writer.item(
        &[
            ("get", Verb::Get, "get"),
            ("put", Verb::Update, "put"),
            ("patch", Verb::Patch, "patch"),
            ("delete", Verb::Delete, "delete"),
        ],
        true,
    );
    if !single.is_empty() {
        out.insert(one, Value::Object(writer.with_scope(single, true)));
    }
    if resource.namespaced {
        let everywhere = writer.item(&[("get", Verb::List, "list")], false);
        if !everywhere.is_empty() {
            out.insert(format!("{root}/{}", resource.plural), Value::Object(everywhere));
        }
    }
}

struct Writer<'a> {
    dialect: Dialect,
    resource: &'a Resource,
    schema: &'a str,
    list_schema: &'a str,
}

impl Writer<'_> {
    /// The operations whose verbs the resource has.
    fn item(&self, operations: &[(&str, Verb, &str)], named: bool) -> Map<String, Value> {
        operations
            .iter()
            .filter(|(_, verb, _)| self.resource.verbs.has(*verb))
            .map(|(method, verb, action)| ((*method).to_owned(), self.operation(*verb, action, named)))
            .collect()
    }

    fn operation(&self, verb: Verb, action: &str, named: bool) -> Value {
        let answer = match verb {
            Verb::List => self.list_schema,
            Verb::Delete | Verb::DeleteCollection => "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
            _ => self.schema,
        };
        let what = if named { "" } else { "Collection" };
        let mut operation = json!({
            "operationId": format!("{action}{what}{}{}{}", title(&self.resource.group), title(&self.resource.version), self.resource.kind),
            "responses": {"200": self.response(answer)},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": &self.resource.group, "version": &self.resource.version, "kind": &self.resource.kind,
            },
        });
        let mut parameters = Vec::new();
        if matches!(verb, Verb::Create | Verb::Update | Verb::Patch) {
            for name in ["dryRun", "fieldManager", "fieldValidation"] {
                parameters.push(self.parameter(name, "query", "string"));
            }
        }
        if verb == Verb::Patch {
            parameters.push(self.parameter("force", "query", "boolean"));
        }
        match (verb, self.dialect) {
            (Verb::Create | Verb::Update, Dialect::V3) => {
                operation["requestBody"] = json!({"required": true, "content": {"*/*": {"schema": self.dialect.reference(self.schema)}}});
            }
            (Verb::Create | Verb::Update, Dialect::V2) => {
                parameters.push(json!({"name": "body", "in": "body", "required": true,
                    "schema": self.dialect.reference(self.schema)}));
            }
            (Verb::Patch, Dialect::V3) => {
                let body = self.dialect.reference("io.k8s.apimachinery.pkg.apis.meta.v1.Patch");
                let content: Map<String, Value> =
                    self.patch_types().map(|name| (name.to_owned(), json!({"schema": body}))).collect();
                operation["requestBody"] = json!({"required": true, "content": content});
            }
            (Verb::Patch, Dialect::V2) => {
                operation["consumes"] = self.patch_types().collect();
                parameters.push(json!({"name": "body", "in": "body", "required": true,
                    "schema": self.dialect.reference("io.k8s.apimachinery.pkg.apis.meta.v1.Patch")}));
            }
            _ => {}
        }
        if !parameters.is_empty() {
            operation["parameters"] = Value::Array(parameters);
        }
        operation
    }

    /// Strategic merge needs Kubernetes' own types: custom resources have none.
    fn patch_types(&self) -> impl Iterator<Item = &'static str> {
        let strategic = (!self.resource.custom).then_some(STRATEGIC_PATCH);
        [APPLY_PATCH, JSON_PATCH, MERGE_PATCH].into_iter().chain(strategic)
    }

    fn response(&self, schema: &str) -> Value {
        match self.dialect {
            Dialect::V3 => json!({"description": "OK",
                "content": {"application/json": {"schema": self.dialect.reference(schema)}}}),
            Dialect::V2 => json!({"description": "OK", "schema": self.dialect.reference(schema)}),
        }
    }

    fn parameter(&self, name: &str, place: &str, of: &str) -> Value {
        let mut parameter = json!({"name": name, "in": place});
        if place == "path" {
            parameter["required"] = Value::Bool(true);
        }
        match self.dialect {
            Dialect::V3 => parameter["schema"] = json!({"type": of}),
            Dialect::V2 => parameter["type"] = of.into(),
        }
        parameter
    }

    /// Adds the parameters in the path.
    fn with_scope(&self, mut item: Map<String, Value>, named: bool) -> Map<String, Value> {
        let names =
            named.then_some("name").into_iter().chain(self.resource.namespaced.then_some("namespace"));
        let parameters: Vec<Value> = names.map(|name| self.parameter(name, "path", "string")).collect();
        if !parameters.is_empty() {
            item.insert("parameters".into(), Value::Array(parameters));
        }
        item
    }
}

/// A group or version in the name of an operation: `apps` → `Apps`, `example.com` → `ExampleCom`.
fn title(text: &str) -> String {
    text.split(['.', '-'])
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
                .unwrap_or_default()
        })
        .collect()
}
