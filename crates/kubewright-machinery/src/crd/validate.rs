//! Validation of a whole definition, on creation and on update, in the order of a real server.
//!
//! Errors name fields of the old internal form that a real server validates: what is the same in all versions is moved
//! to the top (`spec.validation`, `spec.subresources`, …). Metadata is validated by the caller, with [`name_faults`].

use serde_json::Value;

use super::hub::{Hub, Part};
use super::openapi_rules::{self, Demands};
use super::parts::{
    columns, deprecation, has_status, label, names_faults, one_of, root_with_status, subresources,
};
use super::status::{self, condition_is_true};
use super::{defaults, field_path, go_text, webhook};
use crate::field::{Error, Path};
use crate::names;
use crate::schema::structural::{self, Node};
use crate::schema::{Schema, Type};

const MAX_SELECTABLE_FIELDS: usize = 8;
/// The texts of what is wrong with `metadata.name`: a subdomain that is plural and group.
pub fn name_faults(object: &Value) -> Vec<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let name = text("/metadata/name");
    let mut faults = names::is_dns1123_subdomain(name);
    if name != format!("{}.{}", text("/spec/names/plural"), text("/spec/group")) {
        faults.push("must be spec.names.plural+\".\"+spec.group".into());
    }
    faults
}

/// The faults of a new definition, but for its metadata.
pub fn create(object: &Value) -> Vec<Error> {
    let demands = Held {
        schema: true,
        structural: true,
        pruned_defaults: true,
        review_version: true,
        any_ca_bundle: true,
        nodes: Demands { valid_types: true, atomic_sets: true, keyed_lists: true },
        old: None,
    };
    let mut errors = Validator { hub: Hub::new(object), held: demands }.spec();
    status_faults(object, &mut errors);
    approval(object, None, &mut errors);
    preserve(object, None, &mut errors);
    errors
}

/// The faults of a changed definition, but for its metadata. What `old` already broke is not demanded.
pub fn update(object: &Value, old: &Value) -> Vec<Error> {
    let before = Hub::new(old);
    let none = |bad: fn(&Value) -> bool| !before.schemas().any(bad);
    let established = condition_is_true(old, "Established");
    let client = old.pointer("/spec/conversion/webhook/clientConfig/caBundle").and_then(Value::as_str);
    let held = Held {
        schema: before.all_have_schemas(),
        structural: none(is_not_structural),
        pruned_defaults: none(has_unpruned_defaults),
        review_version: {
            let versions = before.review_versions();
            versions.is_empty() || versions.iter().any(|v| is_known_review(v))
        },
        any_ca_bundle: !established || client.is_some_and(|b| !b.is_empty() && !webhook::is_ca_bundle(b)),
        nodes: Demands {
            valid_types: none(openapi_rules::has_invalid_types),
            atomic_sets: none(openapi_rules::has_non_atomic_set),
            keyed_lists: none(openapi_rules::has_invalid_keyed_list),
        },
        old: Some(Hub::new(old)),
    };
    let mut errors = Validator { hub: Hub::new(object), held }.spec();
    let spec = Path::new("spec");
    let names = spec.child("names");
    let mut immutable = |path: Path<'_>, pointer: &str| {
        let of = |object: &Value| object.pointer(pointer).cloned().unwrap_or_else(|| "".into());
        if of(object) != of(old) {
            errors.push(Error::invalid(&path, of(object), "field is immutable"));
        }
    };
    if established {
        immutable(spec.child("scope"), "/spec/scope");
        immutable(names.child("kind"), "/spec/names/kind");
    }
    immutable(spec.child("group"), "/spec/group");
    immutable(names.child("plural"), "/spec/names/plural");
    status_faults(object, &mut errors);
    approval(object, Some(old), &mut errors);
    preserve(object, Some(old), &mut errors);
    errors
}

/// The faults of a status written through the status subresource.
pub fn status_update(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("status");
    names_faults(Node::new(&object["status"]["acceptedNames"]), &path.child("acceptedNames"), &mut errors);
    errors
}

fn status_faults(object: &Value, errors: &mut Vec<Error>) {
    let null = Value::Null;
    let path = Path::new("status");
    let accepted = object.pointer("/status/acceptedNames").unwrap_or(&null);
    names_faults(Node::new(accepted), &path.child("acceptedNames"), errors);

    let path = path.child("storedVersions");
    let stored = object.pointer("/status/storedVersions").unwrap_or(&null);
    let names: Vec<&str> = stored.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        errors.push(Error::invalid(&path, stored.clone(), "must have at least one stored version"));
        return;
    }
    let versions: Vec<Node<'_>> = object
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(Node::new)
        .collect();
    for version in versions.iter().filter(|v| v.flag("storage") && !names.contains(&v.text("name"))) {
        let detail = format!("must have the storage version {}", version.text("name"));
        errors.push(Error::invalid(&path, stored.clone(), detail));
    }
    for (i, name) in names.iter().enumerate() {
        let repeated = names[i + 1..].contains(name);
        if !repeated && versions.iter().all(|v| v.text("name") != *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                 {name} from status.storedVersions"
            );
            errors.push(Error::invalid(&path.index(i), *name, detail));
        }
    }
}

fn approval(object: &Value, old: Option<&Value>, errors: &mut Vec<Error>) {
    let group = object.pointer("/spec/group").and_then(Value::as_str).unwrap_or("");
    if !status::is_protected_group(group) {
        return;
    }
    let approval = status::approval(object);
    if old.is_some_and(|old| {
        std::mem::discriminant(&status::approval(old)) == std::mem::discriminant(&approval)
    }) {
        return;
    }
    let metadata = Path::new("metadata");
    let annotations = metadata.child("annotations");
    let path = annotations.key(status::APPROVAL_ANNOTATION);
    match approval {
        status::Approval::Missing => errors.push(Error::required(&path, approval.reason())),
        status::Approval::Invalid(ref value) => {
            errors.push(Error::invalid(&path, value.as_str(), approval.reason()));
        }
        status::Approval::Approved(_) | status::Approval::Bypassed(_) => {}
    }
}

fn preserve(object: &Value, old: Option<&Value>, errors: &mut Vec<Error>) {
    let set = |object: &Value| object.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true));
    if set(object) && !old.is_some_and(set) {
        let spec = Path::new("spec");
        errors.push(Error::invalid(
            &spec.child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
}

fn is_not_structural(schema: &Value) -> bool {
    structural::unsupported(schema).is_some() || !structural::check(&Path::ROOT, schema).is_empty()
}

fn has_unpruned_defaults(schema: &Value) -> bool {
    if is_not_structural(schema) {
        return false;
    }
    let parsed = structural::parse(schema);
    let all = defaults::check(&parsed, &Path::ROOT, true);
    all.len() > defaults::check(&parsed, &Path::ROOT, false).len()
}

fn is_known_review(version: &str) -> bool {
    matches!(version, "v1" | "v1beta1")
}

/// Checks that an update of an old definition is held to.
struct Held<'a> {
    schema: bool,
    structural: bool,
    pruned_defaults: bool,
    review_version: bool,
    any_ca_bundle: bool,
    nodes: Demands,
    old: Option<Hub<'a>>,
}

struct Validator<'a> {
    hub: Hub<'a>,
    held: Held<'a>,
}

impl<'a> Validator<'a> {
    fn spec(&self) -> Vec<Error> {
        let mut errors = Vec::new();
        let path = Path::new("spec");
        let spec = self.hub.spec;
        let group = spec.text("group");
        let faults = names::is_dns1123_subdomain(group);
        if group.is_empty() {
            errors.push(Error::required(&path.child("group"), ""));
        } else if !faults.is_empty() {
            errors.push(Error::invalid(&path.child("group"), group, faults.join(",")));
        } else if !group.contains('.') {
            errors.push(Error::invalid(
                &path.child("group"),
                group,
                "should be a domain with at least one dot",
            ));
        }
        one_of(spec.text("scope"), &["Cluster", "Namespaced"], &path.child("scope"), &mut errors);
        self.schemas_stated(&path, &mut errors);
        let preserve = self.hub.preserve();
        let has_default =
            |json: &Value| openapi_rules::walk(json, &mut |s| Node::new(s).get("default").is_some());
        if preserve && self.hub.schemas().any(has_default) {
            let detail = "must be false in order to use defaults in the schema";
            errors.push(Error::invalid(&path.child("preserveUnknownFields"), true, detail));
        }
        self.versions(&path, &mut errors);

        let required = path.child("names");
        let names = spec.node("names").unwrap_or(Node::new(&Value::Null));
        for key in ["plural", "singular", "kind", "listKind"] {
            if names.text(key).is_empty() {
                errors.push(Error::required(&required.child(key), ""));
            }
        }
        names_faults(names, &required, &mut errors);

        let status = self.hub.versions.iter().any(has_status);
        self.schema(self.hub.top(Part::Schema), status, &path.child("validation"), &mut errors);
        subresources(self.hub.top(Part::Subresources), &path.child("subresources"), &mut errors);
        columns(self.hub.top(Part::Columns), &path.child("additionalPrinterColumns"), &mut errors);
        if let Some(fields) = self.hub.top(Part::Selectable) {
            let path = path.child("selectableFields");
            match self.hub.top(Part::Schema) {
                Some(schema) => self.selectable(fields, Some(schema), None, &path, &mut errors),
                None => {
                    let detail = "may only be set when validations.schema is included";
                    errors.push(Error::invalid(&path, "", detail));
                }
            }
        }
        if let Some(conversion) = self.hub.conversion() {
            let path = path.child("conversion");
            if preserve && conversion.text("strategy") != "None" {
                let detail = "must be None if spec.preserveUnknownFields is true";
                errors.push(Error::invalid(&path.child("strategy"), conversion.text("strategy"), detail));
            }
            self.conversion(conversion, &path, &mut errors);
        }
        errors
    }

    fn schemas_stated(&self, path: &Path<'_>, errors: &mut Vec<Error>) {
        let stated =
            |schema: Option<&Value>| schema.is_some_and(|s| Node::new(s).get("openAPIV3Schema").is_some());
        if stated(self.hub.top(Part::Schema)) {
            return;
        }
        let versions = path.child("versions");
        for (i, version) in self.hub.versions.iter().enumerate() {
            if stated(self.hub.in_version(version, Part::Schema)) {
                continue;
            }
            let path = versions.index(i);
            let path = path.child("schema");
            let path = path.child("openAPIV3Schema");
            if self.held.schema {
                errors.push(Error::required(&path, ""));
            } else if !self.hub.preserve() && Node::new(version).flag("served") {
                errors.push(Error::required(&path, "because otherwise all fields are pruned"));
            }
        }
    }

    fn versions(&self, path: &Path<'_>, errors: &mut Vec<Error>) {
        let versions_path = path.child("versions");
        let all = |detail: &str| {
            let value = self.hub.spec.get("versions").cloned().unwrap_or_default();
            Error::invalid(&versions_path, value, detail).showing(go_text::versions(&self.hub))
        };
        let mut seen: Vec<&str> = Vec::new();
        let mut unique = true;
        for (i, version) in self.hub.versions.iter().enumerate() {
            let name = Node::new(version).text("name");
            unique &= !seen.contains(&name);
            seen.push(name);
            let path = versions_path.index(i);
            label(name, &path.child("name"), errors);
            self.version(version, &path, errors);
        }
        if !unique {
            errors.push(all("must contain unique version names"));
        }
        if self.hub.versions.iter().filter(|v| Node::new(v).flag("storage")).count() != 1 {
            let detail = "must have exactly one version marked as storage version";
            errors.push(all(detail));
        }
        // The old `spec.version` is the name of the first version.
        if let Some(first) = seen.first().filter(|name| !name.is_empty()) {
            label(first, &path.child("version"), errors);
        }
    }

    fn version(&self, version: &'a Value, path: &Path<'_>, errors: &mut Vec<Error>) {
        let node = Node::new(version);
        deprecation(node, &path.child("deprecationWarning"), errors);
        let in_version = |part| self.hub.in_version(version, part);
        let schema = in_version(Part::Schema);
        self.schema(schema, has_status(version), &path.child("schema"), errors);
        subresources(in_version(Part::Subresources), &path.child("subresources"), errors);
        columns(in_version(Part::Columns), &path.child("additionalPrinterColumns"), errors);
        let Some(fields) = in_version(Part::Selectable) else { return };
        let path = path.child("selectableFields");
        if schema.is_some_and(|s| Node::new(s).get("openAPIV3Schema").is_some()) {
            self.selectable(fields, schema, Some(node.text("name")), &path, errors);
        } else if !fields.as_array().is_none_or(Vec::is_empty) {
            let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(Error::invalid(&path, "", detail));
        }
    }

    fn schema(&self, stated: Option<&Value>, status: bool, path: &Path<'_>, errors: &mut Vec<Error>) {
        let Some(json) = stated.and_then(|s| Node::new(s).get("openAPIV3Schema")) else { return };
        let before = errors.len();
        let root = path.child("openAPIV3Schema");
        if status {
            errors.extend(root_with_status(json, path));
        }
        if Node::new(json).flag("nullable") {
            let path = path.child("openAPIV3Schema.nullable");
            errors.push(Error::forbidden(&path, "nullable cannot be true at the root"));
        }
        let mut unsupported = None;
        let extended = || {
            openapi_rules::walk(json, &mut |json| {
                let node = Node::new(json);
                let extensions = [
                    "x-kubernetes-preserve-unknown-fields",
                    "x-kubernetes-list-type",
                    "x-kubernetes-list-map-keys",
                    "x-kubernetes-validations",
                    "x-kubernetes-embedded-resource",
                    "x-kubernetes-int-or-string",
                    "default",
                ];
                extensions.iter().any(|key| node.get(key).is_some())
            })
        };
        if self.held.structural || !self.hub.preserve() || extended() {
            unsupported = structural::unsupported(json);
            if unsupported.is_none() {
                let faults = structural::check(&root, json);
                if faults.is_empty() {
                    errors.extend(defaults::check(
                        &structural::parse(json),
                        &root,
                        self.held.pruned_defaults,
                    ));
                } else {
                    errors.extend(faults);
                }
            }
        }
        errors.extend(openapi_rules::check(json, &root, self.held.nodes));
        if let Some(text) = unsupported.filter(|_| errors.len() == before) {
            errors.push(Error::invalid(&root, "", text));
        }
    }

    fn selectable(
        &self,
        fields: &Value,
        schema: Option<&Value>,
        version: Option<&str>,
        path: &Path<'_>,
        errors: &mut Vec<Error>,
    ) {
        let json = schema.and_then(|s| Node::new(s).get("openAPIV3Schema"));
        let parsed = json.map_or_else(Schema::default, structural::parse);
        let mut seen: Vec<String> = Vec::new();
        for (i, entry) in fields.as_array().into_iter().flatten().enumerate() {
            let path = path.index(i);
            let path = path.child("jsonPath");
            let stated = Node::new(entry).text("jsonPath");
            if stated.is_empty() {
                errors.push(Error::required(&path, ""));
                continue;
            }
            let found = match field_path::find(stated, &parsed, false) {
                Ok(found) => found,
                Err(error) => {
                    errors.push(Error::invalid(&path, stated, format!("is an invalid path: {error}")));
                    continue;
                }
            };
            if found.path.split(['.', '[']).next() == Some("metadata") {
                errors.push(Error::invalid(&path, stated, "must not point to fields in metadata"));
            }
            let ty = found.schema.and_then(|s| s.ty);
            if !matches!(ty, Some(Type::String | Type::Boolean | Type::Integer)) {
                let detail = "must point to a field of type string, boolean or integer. Enum string fields and \
                              strings with formats are allowed.";
                errors.push(Error::invalid(&path, stated, detail));
            }
            if seen.contains(&found.path) {
                errors.push(Error::duplicate(&path, stated));
            } else {
                seen.push(found.path);
            }
        }
        if seen.len() > MAX_SELECTABLE_FIELDS && !self.had_as_many(fields, version) {
            errors.push(Error::too_many(path, seen.len(), MAX_SELECTABLE_FIELDS));
        }
    }

    /// Whether the old definition had the same fields, too many already.
    fn had_as_many(&self, fields: &Value, version: Option<&str>) -> bool {
        let Some(old) = &self.held.old else { return false };
        match version {
            None => old.top(Part::Selectable) == Some(fields),
            Some(name) => old
                .versions
                .iter()
                .filter(|v| Node::new(v).text("name") == name)
                .any(|v| old.in_version(v, Part::Selectable) == Some(fields)),
        }
    }

    fn conversion(&self, conversion: Node<'_>, path: &Path<'_>, errors: &mut Vec<Error>) {
        let strategy = conversion.text("strategy");
        one_of(strategy, &["None", "Webhook"], &path.child("strategy"), errors);
        let webhook = conversion.node("webhook");
        let client = webhook.and_then(|w| w.node("clientConfig"));
        let reviews = self.hub.review_versions();
        let (client_path, reviews_path) =
            (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
        if strategy != "Webhook" {
            let detail = "should not be set when strategy is not set to Webhook";
            if client.is_some() {
                errors.push(Error::forbidden(&client_path, detail));
            }
            if !reviews.is_empty() {
                errors.push(Error::forbidden(&reviews_path, detail));
            }
            return;
        }
        match client {
            None => errors.push(Error::required(&client_path, "required when strategy is set to Webhook")),
            Some(client) => {
                let url = client.get("url").and_then(Value::as_str);
                match (url, client.get("service")) {
                    (Some(url), None) => errors.extend(webhook::url(&client_path.child("url"), url)),
                    (None, Some(service)) => {
                        errors.extend(webhook::service(&client_path.child("service"), service, true));
                    }
                    _ => errors
                        .push(Error::required(&client_path, "exactly one of url or service is required")),
                }
                let bundle = client.text("caBundle");
                if !bundle.is_empty() && !self.held.any_ca_bundle {
                    errors.extend(webhook::ca_bundle(&client_path.child("caBundle"), bundle));
                }
            }
        }
        if reviews.is_empty() {
            errors.push(Error::required(&reviews_path, ""));
            return;
        }
        for (i, version) in reviews.iter().enumerate() {
            let path = reviews_path.index(i);
            if reviews[..i].contains(version) {
                errors.push(Error::invalid(&path, *version, "duplicate version"));
                continue;
            }
            let faults = names::is_dns1035_label(version);
            errors.extend(faults.into_iter().map(|fault| Error::invalid(&path, *version, fault)));
        }
        if self.held.review_version && !reviews.iter().any(|v| is_known_review(v)) {
            let detail = "must include at least one of v1, v1beta1";
            errors.push(Error::invalid(&reviews_path, reviews, detail));
        }
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
