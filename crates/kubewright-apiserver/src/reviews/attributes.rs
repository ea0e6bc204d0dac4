//! `resourceAttributes` and `nonResourceAttributes`: what is wrong with them, and the question that they are.

use kubewright_machinery::field::{Error, Path};
use kubewright_machinery::user::strings;
use serde_json::{Value, json};

use crate::authn::UserInfo;
use crate::authz::Attributes;

/// What a spec asks about: one of the two.
pub(super) struct Asked<'v> {
    resource: Option<&'v Value>,
    path: Option<&'v Value>,
}

impl<'v> Asked<'v> {
    pub fn of(spec: &'v Value) -> Self {
        let given = |name: &str| spec.get(name).filter(|v| v.is_object());
        Self { resource: given("resourceAttributes"), path: given("nonResourceAttributes") }
    }

    /// The namespace asked about, where it is about a resource.
    pub fn namespace(&self) -> Option<&'v str> {
        self.resource.map(|r| r["namespace"].as_str().unwrap_or_default())
    }

    /// The path asked about, as errors show it.
    pub fn shown_path(&self) -> Option<Value> {
        self.path.map(|p| json!({"Path": text(p, "path"), "Verb": text(p, "verb")}))
    }

    /// Exactly one has to be there.
    pub fn validate(&self, spec: &Path<'_>) -> Vec<Error> {
        let path = spec.child("nonResourceAttributes");
        match (self.resource, self.shown_path()) {
            (Some(_), Some(shown)) => {
                vec![Error::invalid(
                    &path,
                    shown,
                    "cannot be specified in combination with resourceAttributes",
                )]
            }
            (None, None) => vec![Error::invalid(
                &spec.child("resourceAttributes"),
                Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )],
            _ => Vec::new(),
        }
    }

    /// Selectors have to be well-formed.
    pub fn validate_selectors(&self, spec: &Path<'_>) -> Vec<Error> {
        let mut errors = Vec::new();
        let Some(resource) = self.resource else { return errors };
        let at = spec.child("resourceAttributes");
        for name in ["fieldSelector", "labelSelector"] {
            if let Some(selector) = resource.get(name).filter(|v| v.is_object()) {
                validate_selector(selector, &at.child(name), &mut errors);
            }
        }
        errors
    }

    /// The question to the authorizers.
    pub fn question(&self, user: &'v UserInfo) -> Attributes<'v> {
        let (of, path) = (self.resource.unwrap_or(&Value::Null), self.path.unwrap_or(&Value::Null));
        let selector =
            |name: &str| of[name]["rawSelector"].as_str().filter(|s| !s.is_empty()).map(Into::into);
        Attributes {
            user,
            verb: if self.resource.is_some() { text(of, "verb") } else { text(path, "verb") }.into(),
            group: text(of, "group").into(),
            version: text(of, "version").into(),
            resource: text(of, "resource").into(),
            subresource: text(of, "subresource").into(),
            namespace: text(of, "namespace").into(),
            name: text(of, "name").into(),
            path: text(path, "path").into(),
            resource_request: self.resource.is_some(),
            label_selector: selector("labelSelector"),
            field_selector: selector("fieldSelector"),
        }
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn validate_selector(selector: &Value, path: &Path<'_>, errors: &mut Vec<Error>) {
    let raw = text(selector, "rawSelector");
    let requirements = selector["requirements"].as_array().map_or(&[][..], Vec::as_slice);
    if !raw.is_empty() && !requirements.is_empty() {
        let at = path.child("rawSelector");
        errors.push(Error::invalid(&at, raw, "may not specified at the same time as requirements"));
    }
    let at = path.child("requirements");
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(Error::required(&at, why));
    }
    for (i, requirement) in requirements.iter().enumerate() {
        let at = at.index(i);
        if text(requirement, "key").is_empty() {
            errors.push(Error::required(&at.child("key"), "must be specified"));
        }
        let values = strings(&requirement["values"]);
        let at = at.child("values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(Error::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"))
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(Error::forbidden(
                &at,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            // Operators of newer clients are let through: a policy that does not know them ignores the selector.
            _ => {}
        }
    }
}
