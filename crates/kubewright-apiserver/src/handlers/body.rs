//! Bodies → objects: decoding as the kind of the endpoint, strict faults as warnings or refusal, defaults.

use bytes::Bytes;
use kubewright_machinery::decode::{self, Decoded};
use kubewright_machinery::field::{Path, quote};
use kubewright_machinery::gvk::GroupVersion;
use kubewright_machinery::schema::{self, SchemaRef};
use kubewright_machinery::status::Status;
use kubewright_machinery::{meta, schema::embedded};
use serde_json::{Value, json};

use super::Call;
use crate::request::{BodyDecoder, FieldValidation, Input};
use crate::resources::{Resource, Table};

/// The kind that an endpoint takes.
pub(super) struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    /// The type, where it is known.
    pub schema: Option<&'a SchemaRef>,
    /// A custom resource: decoded without a type, then pruned.
    pub custom: bool,
}

impl<'a> Expected<'a> {
    /// The objects of a resource.
    pub fn of(resource: &'a Resource) -> Self {
        Self {
            group: &resource.group,
            version: &resource.version,
            kind: &resource.kind,
            schema: Some(&resource.schema),
            custom: resource.custom,
        }
    }

    /// apiVersion of the kind.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Decodes a body as the kind expected. Kind and apiVersion may be left out where the kind is built in.
pub(super) fn object(
    call: &Call,
    body: &Bytes,
    input: &Input,
    validation: FieldValidation,
    expected: &Expected<'_>,
) -> Result<Value, Status> {
    let yaml = match input {
        Input::Json => false,
        Input::Yaml => true,
        Input::Decoder(decoder) => return foreign(call, body, &**decoder, expected),
    };
    let untyped = || if yaml { decode::yaml(body) } else { decode::json(body) };
    let typed = match expected.schema.filter(|_| !expected.custom) {
        None => untyped(),
        Some(schema) if yaml => decode::yaml_as(body, schema),
        Some(schema) => decode::json_as(body, schema),
    };
    let mut decoded = match typed {
        // What is nothing is an object of no fields.
        Ok(decoded) if decoded.value.is_null() => {
            Decoded { value: Value::Object(Default::default()), ..decoded }
        }
        Ok(decoded) if expected.custom || decoded.value.is_object() => decoded,
        failed => {
            // The kind is looked for before anything else is read: a body of another kind is told apart from one
            // with a wrong type in it.
            let other = untyped()
                .map_err(|error| if yaml { error.to_string() } else { no_kind(error) })
                .and_then(|other| interpret(&other.value).map(|()| other.value))
                .map_err(|error| unrecognized(expected.kind, error, body))?;
            check_kind(call, &other, expected)?;
            let kind = Some(meta::kind(&other)).filter(|kind| !kind.is_empty()).unwrap_or(expected.kind);
            let error = failed.err().map(|error| error.to_string()).unwrap_or_default();
            return Err(cannot_handle(kind, expected, error));
        }
    };
    interpret(&decoded.value).map_err(|error| unrecognized(expected.kind, error, body))?;
    if expected.custom && meta::kind(&decoded.value).is_empty() {
        let text = String::from_utf8_lossy(body);
        let error = format!("Object 'Kind' is missing in '{text}'");
        // A decoder that is not strict takes the kind of the endpoint first.
        return Err(match validation {
            FieldValidation::Ignore => cannot_handle(expected.kind, expected, error),
            _ => unrecognized(expected.kind, error, body),
        });
    }
    check_kind(call, &decoded.value, expected)?;
    settle(&mut decoded, expected).map_err(|error| cannot_handle(expected.kind, expected, error))?;
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => warn(call, &decoded.strict),
        FieldValidation::Strict => {
            if let Some(error) = decoded.strict_error() {
                return Err(cannot_handle(expected.kind, expected, error));
            }
        }
    }
    Ok(decoded.value)
}

/// The error of a body that is no JSON, of which a kind was to be told.
pub(super) fn no_kind(error: impl std::fmt::Display) -> String {
    format!("couldn't get version/kind; json parse error: {error}")
}

/// Looks for kind and apiVersion as a decoder does before it knows what it decodes.
///
/// # Errors
/// In the words of a decoder, where the value is no object or they are not what they have to be.
pub(super) fn interpret(value: &Value) -> Result<(), String> {
    const GO_TYPE: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let Value::Object(fields) = value else {
        if value.is_null() {
            return Ok(());
        }
        let what = decode::json_type(value);
        return Err(no_kind(format!("json: cannot unmarshal {what} into Go value of type {GO_TYPE}")));
    };
    for field in ["apiVersion", "kind"] {
        if let Some(found) = fields.get(field).filter(|found| !found.is_string() && !found.is_null()) {
            let what = decode::json_type(found);
            return Err(no_kind(format!(
                "json: cannot unmarshal {what} into Go struct field .{field} of type string"
            )));
        }
    }
    let api_version = meta::api_version(value);
    match api_version.matches('/').count() {
        0 | 1 => Ok(()),
        _ => Err(format!("unexpected GroupVersion string: {api_version}")),
    }
}

/// Decodes a body that somebody else reads: no custom resources, and nothing a strict check could find.
fn foreign(
    call: &Call,
    body: &Bytes,
    decoder: &dyn BodyDecoder,
    expected: &Expected<'_>,
) -> Result<Value, Status> {
    if expected.custom {
        let error = "object *unstructured.Unstructured does not implement the protobuf marshalling interface and \
                     cannot be encoded to a protobuf message";
        return Err(cannot_handle(expected.kind, expected, error));
    }
    let default = GroupVersion::new(expected.group, expected.version).with_kind(expected.kind);
    let object = decoder.decode(body, &default).map_err(|fault| match fault.kind {
        Some(kind) => cannot_handle(&kind, expected, fault.error),
        None => unrecognized(expected.kind, fault.error, body),
    })?;
    check_kind(call, &object, expected)?;
    let mut decoded = match expected.schema {
        Some(schema) => {
            decode::value_as(object, schema).map_err(|e| cannot_handle(expected.kind, expected, e))?
        }
        None => Decoded { value: object, ..Decoded::default() },
    };
    settle(&mut decoded, expected).map_err(|error| cannot_handle(expected.kind, expected, error))?;
    Ok(decoded.value)
}

/// Gives a decoded object the shape of its kind: metadata as it is encoded again, custom resources pruned.
pub(super) fn settle(decoded: &mut Decoded, expected: &Expected<'_>) -> Result<(), String> {
    if let Value::Object(fields) = &mut decoded.value
        && !expected.custom
    {
        fields.insert("kind".into(), expected.kind.into());
        fields.insert("apiVersion".into(), expected.api_version().into());
    }
    if expected.custom {
        let any = SchemaRef::default();
        let schema = expected.schema.unwrap_or(&any);
        let of_metadata =
            embedded::coerce(&mut decoded.value, schema, true, false, &Path::ROOT).map_err(|error| {
                match &*error.field {
                    // The metadata of the object itself are read before those in it.
                    "metadata" => error.detail,
                    _ => error.to_string(),
                }
            })?;
        let mut unknown = schema::prune::prune(&mut decoded.value, schema, true);
        unknown.extend(of_metadata);
        decoded.strict.extend(unknown.iter().map(|path| format!("unknown field {}", quote(path))));
    } else if let Some(metadata) = decoded.value.get_mut("metadata") {
        // An empty list asks for owners to be forgotten, no list does not: said in the other way, it is not lost where
        // empty lists are left out.
        let forgets = metadata.get("managedFields") == Some(&json!([]));
        let settled = schema::object_meta::decode(metadata, false).map_err(|error| error.to_string())?;
        *metadata = settled.metadata;
        if let Value::Object(metadata) = metadata
            && forgets
        {
            metadata.insert("managedFields".into(), json!([{}]));
        }
    }
    Ok(())
}

/// Warns of each strict fault.
pub(super) fn warn(call: &Call, faults: &[String]) {
    const YAML: [&str; 2] =
        ["yaml: unmarshal errors:\n", "error converting YAML to JSON: yaml: unmarshal errors:\n"];
    for fault in faults {
        match YAML.iter().find_map(|prefix| fault.strip_prefix(prefix)) {
            Some(lines) => lines.split('\n').for_each(|line| call.warn(line.trim().to_string())),
            None => call.warn(fault.clone()),
        }
    }
}

fn cannot_handle(kind: &str, expected: &Expected<'_>, error: impl std::fmt::Display) -> Status {
    let (version, expected) = (expected.version, expected.kind);
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {expected}: {error}"))
}

/// 400 for a body of which not even the kind can be told.
fn unrecognized(kind: &str, error: impl std::fmt::Display, body: &[u8]) -> Status {
    const SHOWN: usize = 30;
    let shown = &body[..body.len().min(SHOWN)];
    let mut summary = match body.first() {
        None => "<empty>".to_string(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|b| format!("{b:02x}")).collect(),
    };
    if body.len() > SHOWN {
        summary.push_str(" ...");
    }
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {error} ({summary})"
    ))
}

/// Refuses a body that says to be of another kind or version.
fn check_kind(call: &Call, object: &Value, expected: &Expected<'_>) -> Result<(), Status> {
    let (kind, api_version) = (meta::kind(object), meta::api_version(object));
    let wanted = expected.api_version();
    let same_version = api_version == wanted || (api_version.is_empty() && !expected.custom);
    if expected.custom {
        // Validation says what is wrong with the kind.
        return if same_version { Ok(()) } else { Err(other_version(api_version, &wanted)) };
    }
    let same_kind = kind.is_empty() || kind == expected.kind;
    if same_kind && same_version {
        return Ok(());
    }
    let api_version = if api_version.is_empty() { &wanted } else { api_version };
    let kind = if kind.is_empty() { expected.kind } else { kind };
    let version = api_version.split_once('/').map_or(api_version, |(_, version)| version);
    Err(match inconvertible(call, kind, api_version, expected) {
        Some(error) => Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: {error}",
            expected.kind
        )),
        None => other_version(api_version, &wanted),
    })
}

/// Why an object that says to be of this kind and version cannot be taken for the kind expected; none where only the
/// version is another one.
pub(super) fn inconvertible(
    call: &Call,
    kind: &str,
    api_version: &str,
    expected: &Expected<'_>,
) -> Option<String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let table = call.core.table();
    let is_known = is_older(&table, group, version, kind)
        || table.by_kind(group, version, kind).is_some()
        || kind.strip_suffix("List").is_some_and(|item| table.by_kind(group, version, item).is_some());
    if !is_known {
        return Some(format!(
            "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \
             \"pkg/api/legacyscheme/scheme.go:30\""
        ));
    }
    let package = match expected.group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    (kind != expected.kind).then(|| {
        format!("converting ({version}.{kind}) to ({package}.{}): unknown conversion", expected.kind)
    })
}

/// Whether a kind of a group was served in that version by releases before, which clients may still send.
fn is_older(table: &Table, group: &str, version: &str, kind: &str) -> bool {
    const OLDER: [(&str, &[&str]); 18] = [
        ("admissionregistration.k8s.io", &["v1alpha1", "v1beta1"]),
        ("apiextensions.k8s.io", &["v1beta1"]),
        ("apiregistration.k8s.io", &["v1beta1"]),
        ("apps", &["v1beta1", "v1beta2"]),
        ("authentication.k8s.io", &["v1alpha1", "v1beta1"]),
        ("authorization.k8s.io", &["v1beta1"]),
        ("batch", &["v1beta1"]),
        ("certificates.k8s.io", &["v1beta1"]),
        ("coordination.k8s.io", &["v1beta1"]),
        ("discovery.k8s.io", &["v1beta1"]),
        ("events.k8s.io", &["v1beta1"]),
        ("flowcontrol.apiserver.k8s.io", &["v1beta1", "v1beta2", "v1beta3"]),
        ("networking.k8s.io", &["v1beta1"]),
        ("node.k8s.io", &["v1alpha1", "v1beta1"]),
        ("policy", &["v1beta1"]),
        ("rbac.authorization.k8s.io", &["v1alpha1", "v1beta1"]),
        ("scheduling.k8s.io", &["v1alpha1", "v1beta1"]),
        ("storage.k8s.io", &["v1alpha1", "v1beta1"]),
    ];
    let known = OLDER.iter().any(|(name, versions)| *name == group && versions.contains(&version));
    known && table.resources().iter().any(|r| *r.group == *group && *r.kind == *kind)
}

fn other_version(found: &str, wanted: &str) -> Status {
    Status::bad_request(format!(
        "the API version in the data ({found}) does not match the expected API version ({wanted})"
    ))
}
