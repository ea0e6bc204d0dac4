//! Reads the catalogue's text form.
//!
//! ```text
//! # a comment
//! package io.k8s.api.apps.v1 apps/v1          types below are named io.k8s.api.apps.v1.T
//! use meta io.k8s.apimachinery.pkg.apis.meta.v1   so that meta.T names a type of another package
//! resource deployments deployment Deployment namespaced short=deploy category=all verbs=all hash=8aSe+NMegvE=
//!   scale Scale@autoscaling/v1 get,patch,update    a subresource: name, kind, verbs
//! type DeploymentSpec                          then one line a field:
//!   replicas#1 int32                           #1 is the protobuf field number; #2.1 is field 1 inside of field 2
//!   template!#3 core.PodTemplateSpec ={}       ! means required, =… is the schema's default (JSON)
//!   conditions []Condition map(type) patch(merge:type)
//! ```
//!
//! Words after `type T`: `kind` (has a GroupVersionKind), `whole` (`x-kubernetes-map-type: atomic`), `any`
//! (any JSON), `object` (any object), `everywhere` (a kind of every group). Types of fields: `string`, `bool`,
//! `int32`, `int64`, `int`, `double`, `bytes`, `time`, `Time`, `MicroTime`, `Quantity`, `IntOrString`, `any`,
//! `object`, a type's name, `[]T`, `{}T` (map). Facts of fields: `=default`, `atomic` | `set` | `map(keys)`
//! (list type), `patch(strategy:mergeKey)`, `whole`, `granular`, `enum=a|b` (`-` is the empty string, `_` a space),
//! `drop` (a zero value is left out) and `zero` (a zero value is written).
//!
//! One pass registers every type as a hole, a second fills them, so types may refer to each other in any
//! order. Equal fields of a file share one node. Numbers of protobuf fields are checked and left in the text, for
//! [`numbers`] to read when they are needed.

use std::collections::HashMap;

use kubewright_machinery::schema::{ListType, PatchFacts, Schema, SchemaRef, Type, Validation, Zero};
use serde_json::Value;
use thiserror::Error;

use super::{Catalogue, ResourceFacts, SubresourceFacts, TypeFacts, numbers};

/// A line that is not of the form.
#[derive(Debug, Error)]
#[error("{file} line {line}: {what}")]
pub struct ParseError {
    file: &'static str,
    line: usize,
    what: What,
}

#[derive(Debug, Error)]
enum What {
    #[error("no package line above")]
    NoPackage,
    #[error("a field outside of a type")]
    Stray,
    #[error("too few words")]
    Short,
    #[error("no type {0:?}")]
    UnknownType(String),
    #[error("unknown word {0:?}")]
    UnknownWord(String),
    #[error("a protobuf number that is none: {0:?}")]
    Number(String),
    #[error("a default that is not JSON")]
    Default(#[source] serde_json::Error),
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A node that is another type plus facts of the field: filled when every type is.
struct Variant {
    node: SchemaRef,
    of: SchemaRef,
    facts: FieldFacts,
}

#[derive(Default)]
struct FieldFacts {
    default: Option<Box<Value>>,
    list_type: Option<ListType>,
    keys: Vec<Box<str>>,
    patch: Option<Box<PatchFacts>>,
    whole: bool,
    values: Vec<Value>,
    zero: Zero,
}

impl FieldFacts {
    fn is_empty(&self) -> bool {
        self.default.is_none()
            && self.list_type.is_none()
            && self.patch.is_none()
            && !self.whole
            && self.values.is_empty()
            && self.zero == Zero::Keep
    }

    fn put(self, schema: &mut Schema) {
        schema.default = self.default;
        if let Some(list_type) = self.list_type {
            schema.list_type = list_type;
            schema.list_type_stated = true;
        }
        schema.list_map_keys = self.keys;
        schema.patch = self.patch;
        schema.map_atomic |= self.whole;
        schema.zero = self.zero;
        if !self.values.is_empty() {
            let validation = Validation { one_of_values: self.values, ..Validation::default() };
            schema.validation = Some(Box::new(validation));
        }
    }
}

struct Header {
    package: &'static str,
    group: &'static str,
    version: &'static str,
    uses: Vec<(&'static str, &'static str)>,
}

type Types = HashMap<Box<str>, TypeFacts>;

pub(super) fn catalogue(files: &[(&'static str, &'static str)]) -> Result<Catalogue, ParseError> {
    let mut types = Types::with_capacity(640);
    well_known(&mut types);
    let mut headers = Vec::with_capacity(files.len());
    for &(file, text) in files {
        headers.push(register(file, text, &mut types)?);
    }
    let mut variants = Vec::with_capacity(512);
    let mut resources = Vec::with_capacity(96);
    for (&(file, text), header) in files.iter().zip(&headers) {
        let mut reader =
            FileReader { header, types: &types, variants: &mut variants, nodes: HashMap::with_capacity(256) };
        reader.read(file, text, &mut resources)?;
    }
    for Variant { node, of, facts } in variants {
        let mut schema = (*of).clone();
        facts.put(&mut schema);
        node.fill(schema);
    }
    Ok(Catalogue { types, resources })
}

/// Types whose JSON form is not a struct.
fn well_known(types: &mut Types) {
    let mut add = |name: &str, schema: Schema| {
        let schema = SchemaRef::from(Schema { name: Some(name.into()), ..schema });
        types.insert(name.into(), TypeFacts { schema, group: "", version: "", is_kind: false });
    };
    let time = || Schema { ty: Some(Type::String), format: Some("date-time".into()), ..Schema::default() };
    add("io.k8s.apimachinery.pkg.apis.meta.v1.Time", time());
    add("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", time());
    add(
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Schema { format: Some("quantity".into()), ..Schema::default() },
    );
    add(
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Schema { format: Some("int-or-string".into()), int_or_string: true, ..Schema::default() },
    );
}

/// First pass: the header, and a hole for each type.
fn register(file: &'static str, text: &'static str, types: &mut Types) -> Result<Header, ParseError> {
    let mut header = Header { package: "", group: "", version: "", uses: Vec::new() };
    for (number, line) in text.lines().enumerate() {
        let fail = |what| ParseError { file, line: number + 1, what };
        let mut words = line.split(' ');
        match words.next() {
            Some("package") => {
                header.package = words.next().ok_or(fail(What::Short))?;
                let gv = words.next().unwrap_or("");
                (header.group, header.version) = gv.split_once('/').unwrap_or(("", gv));
            }
            Some("use") => {
                let (alias, package) = words.next().zip(words.next()).ok_or(fail(What::Short))?;
                header.uses.push((alias, package));
            }
            Some("type") => {
                if header.package.is_empty() {
                    return Err(fail(What::NoPackage));
                }
                let name = words.next().ok_or(fail(What::Short))?;
                let facts = TypeFacts {
                    schema: SchemaRef::hole(),
                    group: header.group,
                    version: header.version,
                    is_kind: words.any(|w| w == "kind" || w == "everywhere"),
                };
                types.insert(format!("{}.{name}", header.package).into(), facts);
            }
            _ => {}
        }
    }
    Ok(header)
}

struct FileReader<'a> {
    header: &'a Header,
    types: &'a Types,
    variants: &'a mut Vec<Variant>,
    /// Nodes of this file by the text after the field's name.
    nodes: HashMap<&'static str, SchemaRef>,
}

/// What the lines with two spaces in front belong to.
enum Open {
    Nothing,
    Resource,
    Type(SchemaRef, Box<Schema>),
}

impl FileReader<'_> {
    fn read(
        &mut self,
        file: &'static str,
        text: &'static str,
        resources: &mut Vec<ResourceFacts>,
    ) -> Result<(), ParseError> {
        let mut open = Open::Nothing;
        for (number, line) in text.lines().enumerate() {
            let fail = |what| ParseError { file, line: number + 1, what };
            if let Some(inner) = line.strip_prefix("  ") {
                match &mut open {
                    Open::Nothing => return Err(fail(What::Stray)),
                    Open::Resource => {
                        let sub = subresource(inner).ok_or(fail(What::Short))?;
                        resources.last_mut().ok_or(fail(What::Stray))?.subresources.push(sub);
                    }
                    Open::Type(_, schema) => self.field(inner, schema).map_err(fail)?,
                }
                continue;
            }
            if let Open::Type(node, schema) = std::mem::replace(&mut open, Open::Nothing) {
                node.fill(*schema);
            }
            if let Some(rest) = line.strip_prefix("resource ") {
                resources.push(self.resource(rest).map_err(fail)?);
                open = Open::Resource;
            } else if let Some(rest) = line.strip_prefix("type ") {
                let (node, schema) = self.open_type(rest).map_err(fail)?;
                open = Open::Type(node, Box::new(schema));
            }
        }
        if let Open::Type(node, schema) = open {
            node.fill(*schema);
        }
        Ok(())
    }

    fn open_type(&self, rest: &'static str) -> Result<(SchemaRef, Schema), What> {
        let mut words = rest.split(' ');
        let name = words.next().ok_or(What::Short)?;
        let full: Box<str> = format!("{}.{name}", self.header.package).into();
        let node = self.types.get(&full).ok_or_else(|| What::UnknownType(name.into()))?.schema.clone();
        let mut schema = Schema { ty: Some(Type::Object), name: Some(full), ..Schema::default() };
        for word in words {
            match word {
                "kind" | "everywhere" => {}
                "whole" => schema.map_atomic = true,
                "any" => {
                    schema.ty = None;
                    schema.preserve_unknown_fields = true;
                }
                "object" => schema.preserve_unknown_fields = true,
                other => return Err(What::UnknownWord(other.into())),
            }
        }
        Ok((node, schema))
    }

    fn field(&mut self, line: &'static str, owner: &mut Schema) -> Result<(), What> {
        let (name, rest) = line.split_once(' ').ok_or(What::Short)?;
        let (name, number) = name.split_once('#').map_or((name, None), |(n, number)| (n, Some(number)));
        if let Some(number) = number {
            numbers::path(number).ok_or_else(|| What::Number(number.into()))?;
        }
        let (name, required) = name.strip_suffix('!').map_or((name, false), |n| (n, true));
        if required {
            owner.required.push(name.into());
        }
        let node = match self.nodes.get(rest) {
            Some(node) => node.clone(),
            None => {
                let node = self.node(rest)?;
                self.nodes.insert(rest, node.clone());
                node
            }
        };
        owner.properties.insert(name.into(), node);
        Ok(())
    }

    fn node(&mut self, text: &'static str) -> Result<SchemaRef, What> {
        let (ty, words) = text.split_once(' ').unwrap_or((text, ""));
        let mut facts = field_facts(words)?;
        match self.inline(ty, &mut facts)? {
            Ok(mut schema) => {
                facts.put(&mut schema);
                Ok(schema.into())
            }
            Err(named) if facts.is_empty() => Ok(named),
            Err(of) => {
                let node = SchemaRef::hole();
                self.variants.push(Variant { node: node.clone(), of, facts });
                Ok(node)
            }
        }
    }

    /// The schema of a type expression, or the node of a named type.
    fn inline(
        &mut self,
        ty: &'static str,
        facts: &mut FieldFacts,
    ) -> Result<Result<Schema, SchemaRef>, What> {
        let scalar = |ty, format: &str| Schema {
            ty: Some(ty),
            format: (!format.is_empty()).then(|| format.into()),
            ..Schema::default()
        };
        Ok(Ok(match ty {
            "string" => scalar(Type::String, ""),
            "bytes" => scalar(Type::String, "byte"),
            "time" => scalar(Type::String, "date-time"),
            "bool" => scalar(Type::Boolean, ""),
            "int32" => scalar(Type::Integer, "int32"),
            "int64" => scalar(Type::Integer, "int64"),
            "int" => scalar(Type::Integer, ""),
            "double" => scalar(Type::Number, "double"),
            "any" => Schema::any(),
            "object" => Schema { ty: Some(Type::Object), ..Schema::any() },
            _ => {
                if let Some(item) = ty.strip_prefix("[]") {
                    let items = Some(self.child(item, values_of(facts))?);
                    Schema { ty: Some(Type::Array), items, ..Schema::default() }
                } else if let Some(value) = ty.strip_prefix("{}") {
                    let additional = Some(self.child(value, values_of(facts))?);
                    Schema { ty: Some(Type::Object), additional, ..Schema::default() }
                } else {
                    return self.named(ty).map(Err);
                }
            }
        }))
    }

    fn child(&mut self, ty: &'static str, mut facts: FieldFacts) -> Result<SchemaRef, What> {
        if facts.is_empty()
            && let Some(node) = self.nodes.get(ty)
        {
            return Ok(node.clone());
        }
        let shared = facts.is_empty();
        let node = match self.inline(ty, &mut facts)? {
            Ok(mut schema) => {
                facts.put(&mut schema);
                schema.into()
            }
            Err(named) => named,
        };
        if shared {
            self.nodes.insert(ty, node.clone());
        }
        Ok(node)
    }

    fn named(&self, ty: &str) -> Result<SchemaRef, What> {
        let full = match ty.split_once('.') {
            Some((alias, name)) => {
                let package = self.header.uses.iter().find(|(a, _)| *a == alias).map(|(_, package)| *package);
                format!("{}.{name}", package.ok_or_else(|| What::UnknownType(ty.into()))?)
            }
            None => match ty {
                "Quantity" => "io.k8s.apimachinery.pkg.api.resource.Quantity".to_string(),
                "IntOrString" => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_string(),
                "Time" | "MicroTime" => format!("{META}.{ty}"),
                _ => format!("{}.{ty}", self.header.package),
            },
        };
        self.types.get(full.as_str()).map(|t| t.schema.clone()).ok_or_else(|| What::UnknownType(ty.into()))
    }

    fn resource(&self, rest: &'static str) -> Result<ResourceFacts, What> {
        let mut words = rest.split(' ');
        let mut next = || words.next().ok_or(What::Short);
        let (plural, singular, kind, scope) = (next()?, next()?, next()?, next()?);
        let mut facts = ResourceFacts {
            group: self.header.group,
            version: self.header.version,
            plural,
            singular,
            kind,
            namespaced: scope == "namespaced",
            short_names: Vec::new(),
            categories: Vec::new(),
            verbs: Vec::new(),
            storage_version_hash: "",
            subresources: Vec::new(),
            schema: self.named(kind)?,
        };
        for word in words {
            match word.split_once('=') {
                Some(("short", names)) => facts.short_names = names.split(',').collect(),
                Some(("category", names)) => facts.categories = names.split(',').collect(),
                Some(("verbs", "all")) => facts.verbs = ALL_VERBS.to_vec(),
                Some(("verbs", names)) => facts.verbs = names.split(',').collect(),
                Some(("hash", hash)) => facts.storage_version_hash = hash,
                _ => return Err(What::UnknownWord(word.into())),
            }
        }
        Ok(facts)
    }
}

/// An enum stated on a list or map is its items': takes it away.
fn values_of(facts: &mut FieldFacts) -> FieldFacts {
    FieldFacts { values: std::mem::take(&mut facts.values), ..FieldFacts::default() }
}

fn subresource(line: &'static str) -> Option<SubresourceFacts> {
    let mut words = line.split(' ');
    let (name, kind, verbs) = (words.next()?, words.next()?, words.next()?);
    let (kind, gv) = kind.split_once('@').map_or((kind, None), |(kind, gv)| (kind, Some(gv)));
    Some(SubresourceFacts {
        name,
        group_version: gv.map(|gv| gv.split_once('/').unwrap_or(("", gv))),
        kind,
        verbs: verbs.split(',').collect(),
    })
}

fn field_facts(words: &str) -> Result<FieldFacts, What> {
    let mut facts = FieldFacts::default();
    for word in words.split(' ').filter(|w| !w.is_empty()) {
        match word {
            "atomic" => facts.list_type = Some(ListType::Atomic),
            "set" => facts.list_type = Some(ListType::Set),
            "whole" => facts.whole = true,
            "granular" => {}
            "drop" => facts.zero = Zero::Drop,
            "zero" => facts.zero = Zero::Write,
            _ => {
                if let Some(default) = word.strip_prefix('=') {
                    let value = serde_json::from_str(default).map_err(What::Default)?;
                    facts.default = Some(Box::new(value));
                } else if let Some(keys) = argument(word, "map(") {
                    facts.list_type = Some(ListType::Map);
                    facts.keys = keys.split(',').map(Into::into).collect();
                } else if let Some(patch) = argument(word, "patch(") {
                    facts.patch = Some(Box::new(patch_facts(patch)?));
                } else if let Some(values) = word.strip_prefix("enum=") {
                    let value = |v: &str| if v == "-" { Value::from("") } else { v.replace('_', " ").into() };
                    facts.values = values.split('|').map(value).collect();
                } else {
                    return Err(What::UnknownWord(word.into()));
                }
            }
        }
    }
    Ok(facts)
}

fn argument<'a>(word: &'a str, open: &str) -> Option<&'a str> {
    word.strip_prefix(open)?.strip_suffix(')')
}

fn patch_facts(text: &str) -> Result<PatchFacts, What> {
    let (strategies, key) = text.split_once(':').map_or((text, None), |(s, k)| (s, Some(k)));
    let mut facts = PatchFacts { merge_key: key.map(Into::into), ..PatchFacts::default() };
    for strategy in strategies.split(',') {
        match strategy {
            "merge" => facts.merge = true,
            "replace" => facts.replace = true,
            "retainKeys" => facts.retain_keys = true,
            other => return Err(What::UnknownWord(other.into())),
        }
    }
    Ok(facts)
}
