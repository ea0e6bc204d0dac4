//! The annotation of client-side apply, as far as server-side apply takes notice of it: only for the manager
//! `kubectl`, so that objects move over without conflicts and old clients still see what was applied.

use serde_json::{Map, Value};

use crate::gojson::{self, Style};

/// The manager that kubectl applies as.
pub(super) const KUBECTL: &str = "kubectl";

/// The annotation that holds what a client-side apply last applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How large all annotations of an object may be together, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    let text = object.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

/// What was last applied by a client; none where nothing was, or nothing that can be read.
pub(super) fn of(object: &Value) -> Option<Value> {
    let config: Value = serde_json::from_str(annotation(object)?).ok()?;
    config.is_object().then_some(config)
}

/// Keeps an annotation that is there in step with what the server applied.
pub(super) fn follow(object: &mut Value, patch: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut text = String::new();
    match patch.pointer("/metadata/annotations").and_then(Value::as_object) {
        Some(annotations) if annotations.contains_key(LAST_APPLIED) => {
            let mut config = patch.clone();
            if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
                annotations.remove(LAST_APPLIED);
            }
            gojson::write(&mut text, &config, Style::Standard);
        }
        _ => gojson::write(&mut text, patch, Style::Standard),
    }
    text.push('\n');
    let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") else { return };
    annotations.insert(LAST_APPLIED.into(), text.into());
    if size(annotations) > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}

fn size(annotations: &Map<String, Value>) -> usize {
    annotations.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum()
}
