//! Validation of the small parts of a definition: names, columns, subresources, deprecation.

use serde_json::Value;

use super::go_text;
use crate::field::{Error, Path, is_print};
use crate::names;
use crate::schema::structural::Node;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

pub(super) fn one_of(value: &str, accepted: &[&str], path: &Path<'_>, errors: &mut Vec<Error>) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !accepted.contains(&value) {
        errors.push(Error::not_supported(path, value, accepted));
    }
}

pub(super) fn label(text: &str, path: &Path<'_>, errors: &mut Vec<Error>) {
    let faults = names::is_dns1035_label(text);
    if !faults.is_empty() {
        errors.push(Error::invalid(path, text, faults.join(",")));
    }
}

pub(super) fn has_status(version: &Value) -> bool {
    Node::new(version).node("subresources").is_some_and(|s| s.get("status").is_some())
}

pub(super) fn names_faults(names: Node<'_>, path: &Path<'_>, errors: &mut Vec<Error>) {
    for key in ["plural", "singular"] {
        if !names.text(key).is_empty() {
            label(names.text(key), &path.child(key), errors);
        }
    }
    for key in ["kind", "listKind"] {
        let name = names.text(key);
        let faults = names::is_dns1035_label(&name.to_lowercase());
        if !name.is_empty() && !faults.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
            errors.push(Error::invalid(&path.child(key), name, detail));
        }
    }
    let labels = |key: &str, errors: &mut Vec<Error>| {
        for (i, name) in names.texts(key).enumerate() {
            label(name, &path.child(key).index(i), errors);
        }
    };
    labels("shortNames", errors);
    let (kind, list_kind) = (names.text("kind"), names.text("listKind"));
    if !kind.is_empty() && kind == list_kind {
        errors.push(Error::invalid(
            &path.child("listKind"),
            list_kind,
            "kind and listKind may not be the same",
        ));
    }
    labels("categories", errors);
}

pub(super) fn deprecation(version: Node<'_>, path: &Path<'_>, errors: &mut Vec<Error>) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let mut add = |detail: String| errors.push(Error::invalid(path, warning, detail));
    if !version.flag("deprecated") {
        add("can only be set for deprecated versions".into());
        return;
    }
    if warning.len() > 256 {
        add("must be <= 256 characters long".into());
    }
    if warning.is_empty() {
        add("must not be an empty string".into());
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| !is_print(*c)) {
        add(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        ));
    }
}

/// With a status subresource, little more than properties may be at the root.
pub(super) fn root_with_status(json: &Value, path: &Path<'_>) -> Option<Error> {
    const ALLOWED: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
        MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
        XPreserveUnknownFields XValidations";
    for (keyword, value) in go_text::stated_keywords(json) {
        if keyword == "Type" && value != "object" {
            let detail = "only \"object\" is allowed as the type at the root of the schema if the status \
                          subresource is enabled";
            return Some(Error::invalid(&path.child("openAPIV3Schema.type"), value.clone(), detail));
        }
        if !ALLOWED.split(' ').any(|allowed| allowed == keyword) {
            let detail = format!(
                "only [{ALLOWED}] fields are allowed at the root of the schema if the status subresource is enabled"
            );
            let error = Error::invalid(&path.child("openAPIV3Schema"), json.clone(), detail);
            return Some(error.showing(go_text::schema(json)));
        }
    }
    None
}

pub(super) fn subresources(stated: Option<&Value>, path: &Path<'_>, errors: &mut Vec<Error>) {
    let Some(scale) = stated.and_then(|s| Node::new(s).node("scale")) else { return };
    let mut replicas = |key: &str, under: &str| {
        let child = format!("scale.{key}");
        let path = path.child(&child);
        let stated = scale.text(key);
        if stated.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if let Some(error) = not_simple(stated, &path) {
            errors.push(error);
        } else if !stated.starts_with(&format!("{under}.")) {
            errors.push(Error::invalid(&path, stated, format!("should be a json path under {under}")));
        }
    };
    replicas("specReplicasPath", ".spec");
    replicas("statusReplicasPath", ".status");
    let path = path.child("scale.labelSelectorPath");
    let stated = scale.text("labelSelectorPath");
    if stated.is_empty() {
        return;
    }
    if let Some(error) = not_simple(stated, &path) {
        errors.push(error);
    } else if !stated.starts_with(".spec.") && !stated.starts_with(".status.") {
        let detail = "should be a json path under either .spec or .status";
        errors.push(Error::invalid(&path, stated, detail));
    }
}

pub(super) fn not_simple(path: &str, at: &Path<'_>) -> Option<Error> {
    (!path.starts_with('.')).then(|| Error::invalid(at, path, "must be a simple json path starting with ."))
}

pub(super) fn columns(stated: Option<&Value>, path: &Path<'_>, errors: &mut Vec<Error>) {
    for (i, column) in stated.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = path.index(i);
        let node = Node::new(column);
        if node.text("name").is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
        match node.text("type") {
            "" => errors.push(Error::required(&path.child("type"), detail)),
            ty if !COLUMN_TYPES.contains(&ty) => errors.push(Error::invalid(&path.child("type"), ty, detail)),
            _ => {}
        }
        let format = node.text("format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(Error::invalid(&path.child("format"), format, detail));
        }
        let path = path.child("JSONPath");
        match node.text("jsonPath") {
            "" => errors.push(Error::required(&path, "")),
            stated => errors.extend(not_simple(stated, &path)),
        }
    }
}
