//! The review kinds: questions to the server about who somebody is and what they may do.
//!
//! A review is computed when it is created and never stored ([`answers`]). What flows in is the decoded object; what comes
//! out is the same object with the server's status. Nothing here decides: it asks the authenticators and authorizers.

mod access;
mod attributes;
mod identity;
mod rules;

use std::sync::Arc;

use crate::resources::Virtual;

use access::{Access, Subject};
use identity::{SelfReview, TokenReview};
use rules::RulesReview;

/// What answers a review, by its group and plural name; `None` for any other resource.
pub fn answers(group: &str, plural: &str) -> Option<Arc<dyn Virtual>> {
    Some(match (group, plural) {
        ("authentication.k8s.io", "tokenreviews") => Arc::new(TokenReview),
        ("authentication.k8s.io", "selfsubjectreviews") => Arc::new(SelfReview),
        ("authorization.k8s.io", "subjectaccessreviews") => Arc::new(Access(Subject::Other)),
        ("authorization.k8s.io", "localsubjectaccessreviews") => Arc::new(Access(Subject::Local)),
        ("authorization.k8s.io", "selfsubjectaccessreviews") => Arc::new(Access(Subject::Oneself)),
        ("authorization.k8s.io", "selfsubjectrulesreviews") => Arc::new(RulesReview),
        _ => return None,
    })
}
