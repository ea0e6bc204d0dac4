//! Which objects a list or watch takes, judged on bytes at rest: labels and uids by a scan of the head, names by the
//! key. Only field selectors on other fields make an object be parsed.

use std::borrow::Cow;

use bytes::Bytes;
use kubewright_machinery::scan::Header;
use kubewright_machinery::selector::shard::Key as ShardKey;
use kubewright_machinery::selector::{FieldSelector, LabelSelector, ShardSelector};
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::Call;
use crate::request::ListOptions;
use crate::resources::{Resource, Strategy};

/// What a request selects.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    shard: Option<ShardSelector>,
    /// Fields other than name and namespace are asked for.
    deep: bool,
}

/// What a selection looks at, of one object: cheap to keep with an event.
#[derive(Clone, Debug, Default)]
pub(super) struct Traits {
    /// JSON of the labels.
    labels: Option<Bytes>,
    uid: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
    /// Selectable fields of the kind; only filled when somebody asked for them.
    fields: Option<Fields>,
}

/// Names and values of selectable fields.
type Fields = Box<[(Box<str>, Box<str>)]>;

impl Selection {
    /// The selection of a request. 400 for fields that the kind does not select by.
    pub fn new(resource: &Resource, options: &ListOptions) -> Result<Self, Status> {
        let known = resource.strategy.selectable_fields();
        let mut deep = false;
        for term in options.fields.terms() {
            // Cluster-scoped kinds with fields of their own do not select by a namespace that is never there.
            let by_namespace = resource.namespaced || (!resource.custom && known.is_empty());
            if &*term.field == "metadata.name" || (by_namespace && &*term.field == "metadata.namespace") {
                continue;
            }
            if !known.iter().any(|k| **k == *term.field) {
                return Err(Status::bad_request(if resource.custom {
                    format!("field label not supported: {}", term.field)
                } else {
                    resource.strategy.unknown_field(&resource.kind, &term.field)
                }));
            }
            deep = true;
        }
        Ok(Self {
            labels: options.labels.clone(),
            fields: options.fields.clone(),
            shard: options.shard.clone(),
            deep,
        })
    }

    /// Whether everything is taken.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.shard.is_none()
    }

    /// Whether [`Traits`] need the fields of the kind.
    pub fn is_deep(&self) -> bool {
        self.deep
    }

    /// The one name that can match, if the selection says so.
    pub fn single_name(&self) -> Option<&str> {
        self.fields.exact_value("metadata.name")
    }

    /// The one namespace that can match, if the selection says so.
    pub fn single_namespace(&self) -> Option<&str> {
        self.fields.exact_value("metadata.namespace")
    }

    /// Whether an object with these traits is taken.
    pub fn takes(&self, traits: &Traits) -> bool {
        let field = |name: &str| -> Option<Cow<'_, str>> {
            match name {
                "metadata.name" => Some((&*traits.name).into()),
                "metadata.namespace" => Some((&*traits.namespace).into()),
                other => {
                    let fields = traits.fields.as_deref().unwrap_or_default();
                    fields.iter().find(|(k, _)| **k == *other).map(|(_, v)| Cow::Borrowed(&**v))
                }
            }
        };
        let in_shard = |shard: &ShardSelector| {
            shard.accepts(match shard.key() {
                ShardKey::Uid => &traits.uid,
                ShardKey::Namespace => &traits.namespace,
            })
        };
        self.fields.matches(field)
            && self.shard.as_ref().is_none_or(in_shard)
            && (self.labels.is_empty() || self.labels.matches_json(traits.labels.as_deref()))
    }
}

/// The traits of an object at rest. `fields` are the kind's selectable fields, where they are needed.
pub(super) fn traits(call: &Call, key: &str, at_rest: &Bytes, fields: Option<&Value>) -> Traits {
    let (namespace, name) = call.split_key(key);
    let header = Header::scan(at_rest).ok();
    Traits {
        labels: header.as_ref().and_then(|h| h.labels).map(|raw| at_rest.slice_ref(raw)),
        uid: header.as_ref().map(|h| Box::from(&*h.uid)).unwrap_or_default(),
        namespace: namespace.into(),
        name: name.into(),
        fields: fields.map(|object| selectable(&*call.resource.strategy, object)),
    }
}

fn selectable(strategy: &dyn Strategy, object: &Value) -> Fields {
    let known = strategy.selectable_fields().iter();
    known.filter_map(|name| Some((name.clone(), Box::from(&*strategy.field(object, name)?)))).collect()
}
