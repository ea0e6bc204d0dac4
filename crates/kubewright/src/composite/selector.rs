//! Which objects a decorator is for, by their labels and annotations. Pure.

use kubewright_machinery::selector::LabelSelector;

use crate::cache::{Cached, Delta};
use crate::{Error, Result};

/// Selects objects by labels and annotations; both must fit. Everything fits unless something is said.
///
/// ```
/// use kubewright::composite::Selector;
///
/// let selector = Selector::everything().labels("app=web").annotations("example.com/expose");
/// ```
#[derive(Clone, Debug)]
pub struct Selector {
    labels: LabelSelector,
    annotations: LabelSelector,
    mistake: Option<String>,
}

impl Selector {
    /// Everything.
    pub fn everything() -> Selector {
        let everything = LabelSelector::everything;
        Selector { labels: everything(), annotations: everything(), mistake: None }
    }

    /// What has labels that a selector such as `app=web,!canary` selects.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Selector {
        self.labels = self.parse("label", selector);
        self
    }

    /// What has annotations that a selector, written as one of labels, selects.
    #[must_use]
    pub fn annotations(mut self, selector: &str) -> Selector {
        self.annotations = self.parse("annotation", selector);
        self
    }

    fn parse(&mut self, what: &str, selector: &str) -> LabelSelector {
        LabelSelector::parse(selector).unwrap_or_else(|error| {
            self.mistake = Some(format!("{what} selector \"{selector}\": {error}"));
            LabelSelector::everything()
        })
    }

    /// Says so if one of the selectors is none.
    pub(super) fn check(&self) -> Result {
        self.mistake.as_ref().map_or(Ok(()), |mistake| Err(Error::Usage(mistake.clone())))
    }

    pub(super) fn selects(&self, object: &Cached) -> bool {
        let fits = |selector: &LabelSelector, bytes: &[u8]| {
            selector.matches_json(Some(bytes).filter(|bytes| !bytes.is_empty()))
        };
        fits(&self.labels, object.label_bytes()) && fits(&self.annotations, object.annotation_bytes())
    }

    /// Whether a change is one of an object that it selects or selected, or that holds a finalizer.
    pub(super) fn passes(&self, delta: &Delta, finalizer: Option<&str>) -> bool {
        let held = |object: &Cached| {
            let names = object.at(&["metadata", "finalizers"]);
            let names: Vec<String> =
                names.and_then(|names| serde_json::from_slice(names).ok()).unwrap_or_default();
            finalizer.is_some_and(|finalizer| names.iter().any(|name| name == finalizer))
        };
        let concerns = |object: &Cached| self.selects(object) || held(object);
        concerns(&delta.object) || delta.before.as_ref().is_some_and(|before| concerns(before))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::cache::What;
    use crate::kind::Kind;

    fn pod(metadata: &str) -> Arc<Cached> {
        let text = format!(r#"{{"metadata":{{"name":"p"{metadata}}}}}"#);
        Arc::new(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
    }

    const WEB: &str = r#","labels":{"app":"web"}"#;

    #[test]
    fn labels_and_annotations_must_both_fit() {
        let selector = Selector::everything().labels("app=web").annotations("example.com/expose");
        assert!(!selector.selects(&pod(WEB)));
        let exposed = r#","annotations":{"example.com/expose":"80: any text"}"#;
        assert!(!selector.selects(&pod(exposed)));
        assert!(selector.selects(&pod(&format!("{WEB}{exposed}"))));
        assert!(Selector::everything().selects(&pod("")));
    }

    #[test]
    fn what_was_selected_or_holds_the_finalizer_still_concerns() {
        let selector = Selector::everything().labels("app=web");
        let change = |before: &str, now: &str| Delta {
            what: What::Updated,
            object: pod(now),
            before: Some(pod(before)),
            initial: false,
        };
        let held = r#","finalizers":["other","mine"]"#;
        assert!(selector.passes(&change(WEB, ""), None));
        assert!(selector.passes(&change(held, held), Some("mine")));
        assert!(!selector.passes(&change(held, held), None));
        assert!(!selector.passes(&change("", ""), Some("mine")));
    }

    #[test]
    fn a_selector_that_is_none_is_told() {
        let error = Selector::everything().annotations("a b").check().unwrap_err();
        assert!(error.to_string().starts_with("annotation selector \"a b\": "), "{error}");
    }
}
