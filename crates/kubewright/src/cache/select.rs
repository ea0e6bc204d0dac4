//! Which objects of a kind a cache follows, and what it keeps of them. Selection happens on the server; here it is only
//! asked whether an object of this process's own writes will ever show up.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kubewright_machinery::scan;
use kubewright_machinery::selector::LabelSelector;
use kubewright_machinery::selector::fields::FieldSelector;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::namespaces::Namespaces;
use super::object::{Cached, DecodeError};
use crate::controller::panic_message;
use crate::kind::Kind;

type Keep = dyn Fn(&mut Value) + Send + Sync;

/// Which objects of a kind a cache follows, and what it keeps of them: everything, unless said otherwise.
///
/// ```
/// use kubewright::cache::Select;
///
/// let mine = Select::all().labels("app.kubernetes.io/managed-by=me")?.fields("spec.nodeName=node-1")?;
/// let lean = Select::all().keeping(|secret| {
///     secret["data"].take();
/// });
/// # Ok::<(), kubewright::cache::SelectError>(())
/// ```
#[derive(Clone, Default)]
pub struct Select {
    labels: Option<(String, LabelSelector)>,
    fields: Option<(String, FieldSelector)>,
    keep: Option<Arc<Keep>>,
    metadata: bool,
    pub(crate) namespaces: Option<Namespaces>,
}

/// A selector that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The label selector is none.
    #[error("label selector \"{selector}\": {message}")]
    Labels {
        /// As it was given.
        selector: String,
        /// What is wrong with it.
        message: String,
    },
    /// The field selector is none.
    #[error("field selector \"{selector}\": {message}")]
    Fields {
        /// As it was given.
        selector: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Select {
    /// All objects, whole (but for managedFields).
    pub fn all() -> Select {
        Select::default()
    }

    /// Only objects that a label selector such as `app=web,tier in (a, b)` selects.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn labels(self, selector: &str) -> Result<Select, SelectError> {
        let parsed = LabelSelector::parse(selector)
            .map_err(|error| SelectError::Labels { selector: selector.into(), message: error.to_string() })?;
        Ok(Select { labels: Some((selector.into(), parsed)), ..self })
    }

    /// Only objects that a field selector such as `spec.nodeName=node-1` selects. Which fields can be selected is for
    /// the server to say.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn fields(self, selector: &str) -> Result<Select, SelectError> {
        let parsed = FieldSelector::parse(selector)
            .map_err(|error| SelectError::Fields { selector: selector.into(), message: error.to_string() })?;
        Ok(Select { fields: Some((selector.into(), parsed)), ..self })
    }

    /// Only objects in these namespaces, whichever are followed otherwise: Secrets of the operator's own namespace, say, in
    /// one that looks at all. The printed roles grant reads of the kind in these alone. For kinds of the cluster it says
    /// nothing.
    ///
    /// ```
    /// use kubewright::cache::{Namespaces, Select};
    ///
    /// let ours = Select::all().namespaces(&Namespaces::of(["my-operator-system"]));
    /// ```
    #[must_use]
    pub fn namespaces(mut self, namespaces: &Namespaces) -> Select {
        self.namespaces = Some(namespaces.clone());
        self
    }

    /// Only the metadata of objects: the server sends nothing else, which spares it, the network and the cache the rest. They
    /// are read raw, or as `PartialObjectMeta<K>`; to read one as its type is an error. As with
    /// [`keeping`](Self::keeping), children of such a kind are applied again each time they are wanted.
    ///
    /// ```
    /// use k8s_openapi::api::core::v1::Secret;
    /// use kubewright::cache::Select;
    /// use kubewright::Manager;
    ///
    /// # fn example(manager: Manager) -> Manager {
    /// // Who has Secrets is of interest here; what is in them is not.
    /// manager.select::<Secret>(Select::all().metadata())
    /// # }
    /// ```
    #[must_use]
    pub fn metadata(self) -> Select {
        Select { metadata: true, ..self }
    }

    /// Changes each object before it is kept, to leave out what nobody reads. It costs the decoding of each event.
    /// Name, namespace, uid and resourceVersion must stay. What is left out can't be compared: children of such a kind
    /// are applied again each time they are wanted.
    #[must_use]
    pub fn keeping(self, keep: impl Fn(&mut Value) + Send + Sync + 'static) -> Select {
        Select { keep: Some(Arc::new(keep)), ..self }
    }

    /// Whether all objects are followed.
    pub(super) fn is_all(&self) -> bool {
        self.labels.is_none() && self.fields.is_none()
    }

    /// What a request asks to be sent: a list, or objects one by one.
    pub(super) fn accept(&self, list: bool) -> &'static str {
        match (self.metadata, list) {
            (false, _) => "application/json",
            (true, true) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            (true, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        }
    }

    /// The parameters of a request; empty when all objects are followed.
    pub(super) fn query(&self) -> String {
        let mut query = String::new();
        let selectors = [
            ("labelSelector", self.labels.as_ref().map(|(text, _)| text)),
            ("fieldSelector", self.fields.as_ref().map(|(text, _)| text)),
        ];
        for (name, selector) in selectors {
            if let Some(selector) = selector {
                query.push_str(&format!("&{name}={}", utf8_percent_encode(selector, NON_ALPHANUMERIC)));
            }
        }
        query
    }

    /// Whether an object will be followed. A field that the object does not have counts as empty, as on the server.
    pub(super) fn takes(&self, object: &Cached) -> bool {
        let labels = Some(object.label_bytes()).filter(|bytes| !bytes.is_empty());
        let fields = |(_, selector): &(String, FieldSelector)| {
            selector.matches(|field| {
                let path: Vec<&str> = field.split('.').collect();
                Some(object.at(&path).and_then(scan::string).unwrap_or_default())
            })
        };
        self.labels.as_ref().is_none_or(|(_, selector)| selector.matches_json(labels))
            && self.fields.as_ref().is_none_or(fields)
    }

    /// Whether objects are kept as they come.
    pub(super) fn keeps_whole(&self) -> bool {
        self.keep.is_none()
    }

    /// The object as it is kept.
    pub(super) fn keep(&self, object: Cached, kind: &Kind) -> Result<Cached, DecodeError> {
        let Some(keep) = &self.keep else { return Ok(object) };
        let fail =
            |message: String| DecodeError { kind: kind.to_string(), key: object.key().clone(), message };
        let mut value: Value = object.decode()?;
        catch_unwind(AssertUnwindSafe(|| keep(&mut value))).map_err(|panic| {
            fail(format!("what changes it before it is kept panicked: {}", panic_message(&*panic)))
        })?;
        let kept = serde_json::to_vec(&value).map_err(|error| fail(error.to_string()))?;
        let kept = Cached::read(&kept, kind)?;
        let same = kept.key() == object.key()
            && kept.uid() == object.uid()
            && kept.resource_version() == object.resource_version();
        if same { Ok(kept) } else { Err(fail("its identity was changed before it was kept".into())) }
    }
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select")
            .field("labels", &self.labels.as_ref().map(|(text, _)| text))
            .field("fields", &self.fields.as_ref().map(|(text, _)| text))
            .field("keeping", &self.keep.is_some())
            .field("metadata", &self.metadata)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(text: &str) -> Cached {
        Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap()
    }

    #[test]
    fn the_server_is_asked_for_what_is_selected() {
        let select = Select::all().labels("app in (a,b)").unwrap().fields("spec.nodeName=n1").unwrap();
        assert_eq!(
            select.query(),
            "&labelSelector=app%20in%20%28a%2Cb%29&fieldSelector=spec%2EnodeName%3Dn1"
        );
        assert_eq!(Select::all().query(), "");
        assert_eq!([Select::all().accept(true), Select::all().accept(false)], ["application/json"; 2]);
        assert!(Select::all().metadata().accept(true).contains("as=PartialObjectMetadataList;"));
        assert!(Select::all().metadata().accept(false).contains("as=PartialObjectMetadata;"));
        assert!(matches!(Select::all().labels("a=(b"), Err(SelectError::Labels { .. })));
    }

    #[test]
    fn objects_are_judged_as_the_server_does() {
        let select = Select::all().labels("app=a").unwrap().fields("spec.nodeName=").unwrap();
        assert!(select.takes(&pod(r#"{"metadata":{"name":"p","labels":{"app":"a"}},"spec":{}}"#)));
        assert!(!select.takes(&pod(r#"{"metadata":{"name":"p","labels":{"app":"b"}},"spec":{}}"#)));
        let bound = r#"{"metadata":{"name":"p","labels":{"app":"a"}},"spec":{"nodeName":"n"}}"#;
        assert!(!select.takes(&pod(bound)));
    }

    #[test]
    fn what_is_kept_is_what_a_function_leaves_and_its_faults_are_errors() {
        let text = r#"{"metadata":{"name":"p","uid":"u","resourceVersion":"3"},"spec":{"nodeName":"n"}}"#;
        let kept = |select: Select| select.keep(pod(text), &Kind::of::<Pod>());
        let lean = kept(Select::all().keeping(|pod| drop(pod["spec"].take()))).unwrap();
        assert_eq!(lean.at(&["spec"]), Some(&b"null"[..]));
        assert!(kept(Select::all().keeping(|_| panic!("a bug"))).is_err());
        assert!(kept(Select::all().keeping(|pod| pod["metadata"]["name"] = "q".into())).is_err());
    }
}
