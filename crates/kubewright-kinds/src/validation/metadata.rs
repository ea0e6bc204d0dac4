//! Metadata as the core validators check it: machinery's checks, then that finalizers without a domain are
//! among the known ones. The generic server checks metadata too, before updates and after creations; that is
//! why causes about metadata often appear twice.

use kubewright_machinery::field::Path;
use kubewright_machinery::meta;
use kubewright_machinery::names::NameRule;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;

const METADATA: Path<'static> = Path::new("metadata");

/// Metadata of a new object.
pub(super) fn create(object: &Value, namespaced: bool, rule: NameRule, e: &mut Errors) {
    let metadata = object.sub("metadata");
    e.extend(meta::validate(metadata, namespaced, rule, &METADATA));
    finalizers(metadata, e);
}

/// Metadata of a new object whose validator leaves finalizers without a domain alone.
pub(super) fn create_generic(object: &Value, namespaced: bool, rule: NameRule, e: &mut Errors) {
    e.extend(meta::validate(object.sub("metadata"), namespaced, rule, &METADATA));
}

/// Metadata of an update.
pub(super) fn update(object: &Value, old: &Value, e: &mut Errors) {
    let metadata = object.sub("metadata");
    e.extend(meta::validate_update(metadata, old.sub("metadata"), &METADATA));
    finalizers(metadata, e);
}

/// Metadata of an update whose validator leaves finalizers without a domain alone.
pub(super) fn update_generic(object: &Value, old: &Value, e: &mut Errors) {
    e.extend(meta::validate_update(object.sub("metadata"), old.sub("metadata"), &METADATA));
}

fn finalizers(metadata: &Value, e: &mut Errors) {
    let list = METADATA.child("finalizers");
    for (i, finalizer) in metadata.strings("finalizers").into_iter().enumerate() {
        known_finalizer(finalizer, &list.index(i), e);
    }
}

/// A finalizer has a domain, or is one of the few that never had.
pub(super) fn known_finalizer(name: &str, path: &Path<'_>, e: &mut Errors) {
    if !name.contains('/')
        && !matches!(name, "kubernetes" | meta::ORPHAN_FINALIZER | meta::FOREGROUND_FINALIZER)
    {
        e.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

pub(super) fn name(object: &Value) -> &str {
    object.sub("metadata").text("name")
}

pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.sub("metadata").entry("annotations", key)
}
