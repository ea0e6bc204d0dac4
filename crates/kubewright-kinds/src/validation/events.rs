//! Events, of the core group and of `events.k8s.io`: one kind in two forms. Messages name the fields as the core
//! group does, whichever form was sent.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::gotypes::{self, Go};
use super::read::{Fields, same};
use super::{checks, metadata};

/// The API group through which an event comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Core,
    Events,
}

/// An event in either form.
struct Event<'a> {
    object: &'a Value,
    via: Via,
}

impl<'a> Event<'a> {
    /// A field by its name in the core group.
    fn field(&self, core: &'a str) -> &'a Value {
        let name = match (self.via, core) {
            (Via::Events, "involvedObject") => "regarding",
            (Via::Events, "message") => "note",
            (Via::Events, "source") => "deprecatedSource",
            (Via::Events, "firstTimestamp") => "deprecatedFirstTimestamp",
            (Via::Events, "lastTimestamp") => "deprecatedLastTimestamp",
            (Via::Events, "count") => "deprecatedCount",
            (Via::Core, "reportingController") => "reportingComponent",
            (_, other) => other,
        };
        self.object.sub(name)
    }

    fn text(&self, core: &'a str) -> &'a str {
        self.field(core).as_str().unwrap_or_default()
    }
}

fn too_long(value: &str, max: usize, path: &Path<'_>, e: &mut Errors) {
    if value.len() > max {
        e.invalid(path, "", format!("can have at most {max} characters"));
    }
}

/// What has always been checked.
fn legacy(event: &Event<'_>, e: &mut Errors) {
    let namespace = event.object.sub("metadata").text("namespace");
    let involved = event.field("involvedObject").text("namespace");
    let path = Path::new("involvedObject");
    let mismatch = if event.field("eventTime").is_null() {
        if involved.is_empty() { !matches!(namespace, "" | "default") } else { namespace != involved }
    } else {
        involved.is_empty() && !matches!(namespace, "default" | "kube-system")
    };
    if mismatch {
        e.invalid(&path.child("namespace"), involved, "does not match event.namespace");
    }
    if !event.field("eventTime").is_null() {
        let shown = if event.via == Via::Core { "reportingComponent" } else { "reportingController" };
        let (controller, path) = (event.text("reportingController"), Path::new(shown));
        if controller.is_empty() {
            e.required(&path, "");
        }
        checks::qualified_name(controller, &path, e);
        for (field, max) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
            let value = event.text(field);
            if value.is_empty() {
                e.required(&Path::new(field), "");
            }
            too_long(value, max, &Path::new(field), e);
        }
        too_long(event.text("message"), 1024, &Path::new("message"), e);
    }
    checks::subdomain(namespace, &Path::new("namespace"), e);
}

fn series(event: &Event<'_>, e: &mut Errors) {
    let Some(series) = Some(event.field("series")).filter(|s| !s.is_null()) else { return };
    if series.int("count") < 2 {
        e.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        e.required(&Path::new("series.lastObservedTime"), "");
    }
}

pub(super) fn create(object: &Value, via: Via, e: &mut Errors) {
    let event = Event { object, via };
    legacy(&event, e);
    if via == Via::Core {
        return;
    }
    metadata::create(object, true, names::name_is_subdomain, e);
    series(&event, e);
    if event.field("eventTime").is_null() {
        e.required(&Path::new("eventTime"), "");
    }
    let kind = event.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        e.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
    }
    let source = event.field("source");
    for (field, set) in [
        ("firstTimestamp", !event.field("firstTimestamp").is_null()),
        ("lastTimestamp", !event.field("lastTimestamp").is_null()),
        ("count", event.field("count").as_i64().unwrap_or_default() != 0),
        ("source", !source.text("component").is_empty() || !source.text("host").is_empty()),
    ] {
        if set {
            e.invalid(&Path::new(field), "", "needs to be unset");
        }
    }
}

pub(super) fn update(object: &Value, old: &Value, via: Via, e: &mut Errors) {
    let (event, old_event) = (Event { object, via }, Event { object: old, via });
    legacy(&event, e);
    if via == Via::Core {
        return;
    }
    metadata::update(object, old, e);
    if !same(event.field("series"), old_event.field("series")) {
        series(&event, e);
    }
    const FIXED: [(&str, Go); 14] = [
        ("involvedObject", gotypes::OBJECT_REFERENCE),
        ("reason", Go::Text),
        ("message", Go::Text),
        ("source", gotypes::EVENT_SOURCE),
        ("firstTimestamp", Go::Raw),
        ("lastTimestamp", Go::Raw),
        ("count", Go::Int),
        ("reason", Go::Text),
        ("type", Go::Text),
        ("eventTime", Go::Raw),
        ("action", Go::Text),
        ("related", gotypes::OBJECT_REFERENCE),
        ("reportingController", Go::Text),
        ("reportingInstance", Go::Text),
    ];
    for (field, go) in FIXED {
        let value = event.field(field);
        if !same(value, old_event.field(field)) {
            e.invalid_go(&Path::new(field), &go, value, checks::IMMUTABLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;
    use serde_json::json;

    #[test]
    fn an_event_is_where_its_object_is() {
        let event =
            json!({"metadata": {"name": "x", "namespace": "n"}, "involvedObject": {"namespace": "other"}});
        assert_eq!(
            texts(|e| create(&event, Via::Core, e)),
            [r#"involvedObject.namespace: Invalid value: "other": does not match event.namespace"#]
        );
    }

    #[test]
    fn the_reason_of_a_new_event_is_fixed_and_told_twice() {
        let event = |reason: &str| {
            json!({"metadata": {"name": "x", "namespace": "n", "resourceVersion": "1"}, "eventTime": "2026-01-01T00:00:00.000000Z",
                "regarding": {"namespace": "n"}, "reason": reason, "action": "a", "reportingController": "c", "reportingInstance": "i", "type": "Normal"})
        };
        assert_eq!(
            texts(|e| update(&event("Other"), &event("One"), Via::Events, e)),
            [
                r#"reason: Invalid value: "Other": field is immutable"#,
                r#"reason: Invalid value: "Other": field is immutable"#
            ]
        );
    }
}
