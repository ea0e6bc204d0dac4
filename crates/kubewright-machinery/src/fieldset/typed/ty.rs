//! What apply needs to know of a type: which of map, list and scalar a value may be, what children have which
//! type, and what is replaced as a whole.

use std::sync::LazyLock;

use serde_json::Value;

use crate::field::quote;
use crate::fieldset::path::PathElement;
use crate::schema::{ListType, Schema, SchemaRef, Type};

/// The type of a value.
#[derive(Clone, Copy)]
pub(super) enum Ty<'a> {
    /// What a schema says. `preserve` is inherited below nodes that keep unknown fields; a `resource` has the
    /// fields that every object has.
    Node { schema: &'a Schema, preserve: bool, resource: bool },
    /// Unknown ground: maps key by key, lists as a whole.
    Deduced,
    /// Anything, as a whole.
    Opaque,
}

/// What a value is walked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Map,
    Scalar,
    List,
}

/// The scalars of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Numeric,
    String,
    Boolean,
    Any,
}

/// What holds a list together.
#[derive(Clone, Copy)]
pub(super) enum Relation<'a> {
    Atomic,
    Set,
    Map(&'a [Box<str>]),
}

/// The facts of a list.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    pub relation: Relation<'a>,
    pub item: Ty<'a>,
}

/// The type of a field, and whether the schema names the field.
#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    pub ty: Ty<'a>,
    pub declared: bool,
}

/// The name of the built-in type that holds any JSON as a whole.
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

static STRING: LazyLock<SchemaRef> = LazyLock::new(|| typed(Type::String, None).into());
static OBJECT_META: LazyLock<SchemaRef> = LazyLock::new(|| object_meta().into());

fn typed(ty: Type, format: Option<&str>) -> Schema {
    Schema { ty: Some(ty), format: format.map(Into::into), ..Schema::default() }
}

fn object(properties: Vec<(&str, Schema)>) -> Schema {
    Schema {
        properties: properties.into_iter().map(|(name, schema)| (name.into(), schema.into())).collect(),
        ..typed(Type::Object, None)
    }
}

fn object_meta() -> Schema {
    let string = || typed(Type::String, None);
    let time = || typed(Type::String, Some("date-time"));
    let integer = || typed(Type::Integer, Some("int64"));
    let boolean = || typed(Type::Boolean, None);
    let strings = || Schema { additional: Some(string().into()), ..typed(Type::Object, None) };
    let list = |items: Schema, list_type| Schema {
        items: Some(items.into()),
        list_type,
        list_type_stated: true,
        ..typed(Type::Array, None)
    };
    let owner = Schema {
        map_atomic: true,
        ..object(vec![
            ("apiVersion", string()),
            ("blockOwnerDeletion", boolean()),
            ("controller", boolean()),
            ("kind", string()),
            ("name", string()),
            ("uid", string()),
        ])
    };
    let entry = object(vec![
        ("apiVersion", string()),
        ("fieldsType", string()),
        ("fieldsV1", typed(Type::Object, None)),
        ("manager", string()),
        ("operation", string()),
        ("subresource", string()),
        ("time", time()),
    ]);
    object(vec![
        ("annotations", strings()),
        ("creationTimestamp", time()),
        ("deletionGracePeriodSeconds", integer()),
        ("deletionTimestamp", time()),
        ("finalizers", list(string(), ListType::Set)),
        ("generateName", string()),
        ("generation", integer()),
        ("labels", strings()),
        ("managedFields", list(entry, ListType::Atomic)),
        ("name", string()),
        ("namespace", string()),
        ("ownerReferences", Schema { list_map_keys: vec!["uid".into()], ..list(owner, ListType::Map) }),
        ("resourceVersion", string()),
        ("selfLink", string()),
        ("uid", string()),
    ])
}

impl<'a> Ty<'a> {
    /// The type of whole objects.
    pub fn root(schema: &'a Schema) -> Self {
        Self::Node { schema, preserve: schema.preserve_unknown_fields, resource: true }
    }

    fn of(schema: &'a Schema, inherited: bool) -> Self {
        if schema.name.as_deref() == Some(RAW_EXTENSION) {
            return Self::Opaque;
        }
        // What is kept below a node is kept by its own schema, not by that of a type it names.
        let preserve = schema.preserve_unknown_fields || (inherited && schema.name.is_none());
        Self::Node { schema, preserve, resource: schema.embedded_resource }
    }

    /// The single JSON type; none where several are possible.
    fn single(self) -> Option<Kind> {
        match self {
            Self::Node { resource: true, .. } => Some(Kind::Map),
            Self::Node { schema, .. } if schema.int_or_string => None,
            Self::Node { schema, .. } if schema.format.as_deref() == Some("quantity") => Some(Kind::Scalar),
            Self::Node { schema, .. } => schema.ty.map(|ty| match ty {
                Type::Object => Kind::Map,
                Type::Array => Kind::List,
                Type::String | Type::Integer | Type::Number | Type::Boolean => Kind::Scalar,
            }),
            Self::Deduced | Self::Opaque => None,
        }
    }

    /// What a value is walked as: what it is, where the type allows it, and otherwise what the type is, so that
    /// the walk finds the fault. Null takes any form: the first of map, scalar, list.
    pub fn kind(self, value: &Value) -> Kind {
        self.single().unwrap_or(match value {
            Value::Null | Value::Object(_) => Kind::Map,
            Value::Array(_) => Kind::List,
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Kind::Scalar,
        })
    }

    /// What the type is walked as without a value.
    pub fn first_kind(self) -> Kind {
        self.single().unwrap_or(Kind::Map)
    }

    /// Which scalars the type takes.
    pub fn scalar(self) -> Scalar {
        let Self::Node { schema, .. } = self else { return Scalar::Any };
        if schema.int_or_string || schema.format.as_deref() == Some("quantity") {
            return Scalar::Any;
        }
        match schema.ty {
            Some(Type::Integer | Type::Number) => Scalar::Numeric,
            Some(Type::Boolean) => Scalar::Boolean,
            // A format can stand for something else than text, so that only plain strings must be strings.
            Some(Type::String) if matches!(schema.format.as_deref(), None | Some("" | "byte")) => {
                Scalar::String
            }
            _ => Scalar::Any,
        }
    }

    /// The facts of the type as a list.
    pub fn list(self) -> List<'a> {
        let Self::Node { schema, preserve, .. } = self else {
            return List { relation: Relation::Atomic, item: Self::Opaque };
        };
        let relation = if schema.list_type_stated || schema.list_type != ListType::Atomic {
            match schema.list_type {
                ListType::Atomic => Relation::Atomic,
                ListType::Set => Relation::Set,
                ListType::Map => Relation::Map(&schema.list_map_keys),
            }
        } else {
            match schema.patch.as_deref() {
                Some(facts) if facts.merge => match &facts.merge_key {
                    Some(key) => Relation::Map(std::slice::from_ref(key)),
                    None => Relation::Set,
                },
                _ => Relation::Atomic,
            }
        };
        let item = schema.items.as_ref().map_or(Self::Opaque, |items| Self::of(items, preserve));
        List { relation, item }
    }

    /// Whether the type as a map is replaced as a whole.
    pub fn map_atomic(self) -> bool {
        match self {
            Self::Node { schema, .. } => schema.map_atomic,
            Self::Deduced => false,
            Self::Opaque => true,
        }
    }

    /// Whether nothing at all is known of the type as a map.
    pub fn map_unknown(self) -> bool {
        match self {
            Self::Deduced => true,
            Self::Opaque => false,
            Self::Node { schema, resource, .. } => {
                !resource && schema.properties.is_empty() && matches!(self.element(), Some(Self::Deduced))
            }
        }
    }

    /// The type of fields that the schema does not name; none where it allows no others.
    fn element(self) -> Option<Self> {
        match self {
            Self::Deduced => Some(Self::Deduced),
            Self::Opaque => Some(Self::Opaque),
            Self::Node { schema, preserve, resource } => match &schema.additional {
                Some(values) => Some(Self::of(values, preserve)),
                None if preserve || (schema.properties.is_empty() && !resource) => Some(Self::Deduced),
                None => None,
            },
        }
    }

    /// The type of a field of the type as a map; none where the schema does not allow the field.
    pub fn child(self, name: &str) -> Option<Child<'a>> {
        if let Self::Node { schema, preserve, resource } = self {
            if resource {
                let native: Option<&'static Schema> = match name {
                    "apiVersion" | "kind" => Some(&STRING),
                    "metadata" => Some(&OBJECT_META),
                    _ => None,
                };
                if let Some(native) = native {
                    return Some(Child { ty: Self::of(native, false), declared: true });
                }
            }
            if let Some(field) = schema.properties.get(name) {
                return Some(Child { ty: Self::of(field, preserve), declared: true });
            }
        }
        self.element().map(|ty| Child { ty, declared: false })
    }

    /// The default of a field of the type as a map; an error where the type is no map.
    fn default_of(self, name: &str) -> Result<Option<&'a Value>, ()> {
        if !matches!(self.single(), None | Some(Kind::Map)) {
            return Err(());
        }
        let Self::Node { schema, .. } = self else { return Ok(None) };
        Ok(schema.properties.get(name).and_then(|field| field.default.as_deref()))
    }
}

impl List<'_> {
    /// The element that names an item of a set or of a keyed list.
    ///
    /// # Errors
    /// The message that says why the item has no name.
    pub fn element(&self, item: &Value) -> Result<PathElement, String> {
        match self.relation {
            Relation::Atomic => Err("invalid indexing of non-associative list".into()),
            Relation::Set => match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".into())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".into())
                }
                Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(PathElement::value(item.clone())),
            },
            Relation::Map(names) => self.keyed(names, item),
        }
    }

    fn keyed(&self, names: &[Box<str>], item: &Value) -> Result<PathElement, String> {
        let Value::Object(fields) = item else {
            return Err(match item {
                Value::Null => "associative list with keys may not have a null element".into(),
                _ => "associative list with keys may not have non-map elements".into(),
            });
        };
        let mut keys = Vec::with_capacity(names.len());
        for name in names {
            let value = match fields.get(&**name) {
                Some(value) => Some(value),
                None => self.item.default_of(name).map_err(|()| {
                    format!(
                        "couldn't find default value for {name}: associative list may not have non-map types"
                    )
                })?,
            };
            if let Some(value) = value {
                keys.push((name.clone(), value.clone()));
            }
        }
        if keys.is_empty() && !names.is_empty() {
            let names: Vec<_> = names.iter().map(|name| quote(name)).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                names.join(" ")
            ));
        }
        Ok(PathElement::key(keys))
    }
}
