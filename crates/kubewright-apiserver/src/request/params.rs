//! The query of a request: options of each verb, decoded and validated with the real server's words.
//!
//! A query is split once into decoded pairs. Unknown parameters are ignored.

use std::borrow::Cow;

use kubewright_machinery::field::{self, Path};
use kubewright_machinery::meta::validate_field_manager;
use kubewright_machinery::selector::{FieldSelector, LabelSelector, ShardSelector};
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use crate::resources::Propagation;

/// The decoded pairs of a query, in order.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Splits and decodes.
    pub fn parse(text: &str) -> Self {
        let decode = |part: &str| -> String {
            let spaced: Cow<'_, str> =
                if part.contains('+') { part.replace('+', " ").into() } else { part.into() };
            percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| match pair.split_once('=') {
            Some((key, value)) => (decode(key), decode(value)),
            None => (decode(pair), String::new()),
        });
        Self { pairs: pairs.collect() }
    }

    /// The first value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A boolean: absent is false, and any text but `false` and `0` is true.
    pub fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    /// A boolean that may be absent.
    pub fn optional_flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(|text| !matches!(text.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| {
            let (quoted, why) = (field::quote(text), number_fault(&error));
            Status::bad_request(format!("strconv.ParseInt: parsing {quoted}: {why}"))
        })
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// What is wrong with the text of an integer, in the real server's words.
pub(crate) fn number_fault(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// How a list or watch relates to its resourceVersion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// At least as new.
    NotOlderThan,
    /// Exactly that state.
    Exact,
}

/// `ListOptions`, for list, watch and deletecollection.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// Label selector.
    pub labels: LabelSelector,
    /// Field selector.
    pub fields: FieldSelector,
    /// Shard selector (KEP-5866).
    pub shard: Option<ShardSelector>,
    /// Follow changes.
    pub watch: bool,
    /// Send bookmarks.
    pub bookmarks: bool,
    /// resourceVersion as given.
    pub resource_version: String,
    /// resourceVersionMatch.
    pub version_match: Option<VersionMatch>,
    /// timeoutSeconds.
    pub timeout_seconds: Option<i64>,
    /// limit; 0 is none.
    pub limit: usize,
    /// The continue token.
    pub continue_token: String,
    /// sendInitialEvents, after defaulting: a watch without resourceVersion or from 0 begins with the state.
    pub send_initial_events: Option<bool>,
    /// Whether the client itself asked for sendInitialEvents: it gets a bookmark after the state.
    pub wants_initial_bookmark: bool,
}

impl Default for ListOptions {
    /// Everything there is, now.
    fn default() -> Self {
        Self {
            labels: LabelSelector::everything(),
            fields: FieldSelector::everything(),
            shard: None,
            watch: false,
            bookmarks: false,
            resource_version: String::new(),
            version_match: None,
            timeout_seconds: None,
            limit: 0,
            continue_token: String::new(),
            send_initial_events: None,
            wants_initial_bookmark: false,
        }
    }
}

impl ListOptions {
    /// Reads and validates; `watch` when the path or verb already says so.
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let mut options = Self {
            watch: watch || query.flag("watch"),
            bookmarks: query.flag("allowWatchBookmarks"),
            resource_version: query.get("resourceVersion").unwrap_or_default().to_string(),
            timeout_seconds: query.integer("timeoutSeconds")?,
            limit: query.integer("limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            continue_token: query.get("continue").unwrap_or_default().to_string(),
            send_initial_events: query.optional_flag("sendInitialEvents"),
            ..Self::default()
        };
        if let Some(text) = query.get("labelSelector") {
            options.labels = LabelSelector::parse(text).map_err(|e| Status::bad_request(e.to_string()))?;
        }
        if let Some(text) = query.get("fieldSelector") {
            options.fields = FieldSelector::parse(text).map_err(|e| Status::bad_request(e.to_string()))?;
        }
        let matching = query.get("resourceVersionMatch").unwrap_or_default();
        options.version_match = match matching {
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            "Exact" => Some(VersionMatch::Exact),
            _ => None,
        };
        let legacy = matches!(&*options.resource_version, "" | "0");
        if options.resource_version == "0" && !options.watch {
            // Any state will do, and that has always been answered whole.
            options.limit = 0;
        }
        options.wants_initial_bookmark = options.send_initial_events == Some(true) && options.bookmarks;
        let defaulted =
            options.watch && legacy && options.send_initial_events.is_none() && matching.is_empty();
        let errors =
            if options.watch { options.watch_errors(matching) } else { options.list_errors(matching) };
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
        }
        if defaulted {
            options.send_initial_events = Some(true);
        }
        if let Some(text) = query.get("shardSelector").filter(|t| !t.is_empty()) {
            let selector = ShardSelector::parse(text)
                .map_err(|e| Status::bad_request(format!("invalid shard selector: {e}")))?;
            options.shard = Some(selector);
        }
        Ok(options)
    }

    fn list_errors(&self, matching: &str) -> Vec<field::Error> {
        let path = Path::new("resourceVersionMatch");
        let mut errors = Vec::new();
        if !matching.is_empty() {
            if self.resource_version.is_empty() {
                let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(field::Error::forbidden(&path, detail));
            }
            if !self.continue_token.is_empty() {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(field::Error::forbidden(&path, detail));
            }
            if self.version_match.is_none() {
                errors.push(field::Error::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
            }
            if self.version_match == Some(VersionMatch::Exact) && self.resource_version == "0" {
                let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(field::Error::forbidden(&path, detail));
            }
        }
        if self.send_initial_events.is_some() {
            let detail = "sendInitialEvents is forbidden for list";
            errors.push(field::Error::forbidden(&Path::new("sendInitialEvents"), detail));
        }
        errors
    }

    fn watch_errors(&self, matching: &str) -> Vec<field::Error> {
        let path = Path::new("resourceVersionMatch");
        let mut errors = Vec::new();
        let not_older = self.version_match == Some(VersionMatch::NotOlderThan);
        if self.send_initial_events.is_some() && !not_older {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(field::Error::forbidden(&path, detail));
        }
        // A watch from scratch reads as one with sendInitialEvents and NotOlderThan.
        let defaulted = self.send_initial_events.is_none()
            && matching.is_empty()
            && matches!(&*self.resource_version, "" | "0");
        if !matching.is_empty() || defaulted {
            if self.send_initial_events.is_none() && !defaulted {
                let detail =
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(field::Error::forbidden(&path, detail));
            }
            if !not_older && !defaulted {
                errors.push(field::Error::not_supported(&path, matching, &["NotOlderThan"]));
            }
            if !self.continue_token.is_empty() {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(field::Error::forbidden(&path, detail));
            }
        }
        errors
    }

    /// The same without anything about revisions or pages.
    pub fn without_version(&self) -> Self {
        Self {
            resource_version: String::new(),
            version_match: None,
            continue_token: String::new(),
            limit: 0,
            ..self.clone()
        }
    }
}

/// What happens with unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped with a warning.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// `CreateOptions`, `UpdateOptions` and `PatchOptions`.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Nothing is persisted.
    pub dry_run: bool,
    /// Unknown fields.
    pub field_validation: FieldValidation,
    /// The name of the manager, as given.
    pub field_manager: String,
    /// Takes over the fields of others; of an apply.
    pub force: bool,
    field_validation_given: bool,
    force_given: bool,
}

/// Which verb the options are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// `CreateOptions`.
    Create,
    /// `UpdateOptions`.
    Update,
    /// `PatchOptions` of a patch.
    Patch,
    /// `PatchOptions` of an apply.
    Apply,
}

impl WriteKind {
    fn options_kind(self) -> &'static str {
        match self {
            WriteKind::Create => "CreateOptions",
            WriteKind::Update => "UpdateOptions",
            WriteKind::Patch | WriteKind::Apply => "PatchOptions",
        }
    }
}

impl WriteOptions {
    /// Reads and validates.
    pub fn parse(query: &Query, kind: WriteKind) -> Result<Self, Status> {
        if query.is_empty() && kind != WriteKind::Apply {
            return Ok(Self::default());
        }
        let mut errors = Vec::new();
        let manager = query.get("fieldManager").unwrap_or_default();
        let force = query.optional_flag("force");
        match kind {
            WriteKind::Apply if manager.is_empty() => {
                errors
                    .push(field::Error::required(&Path::new("fieldManager"), "is required for apply patch"));
            }
            WriteKind::Patch if force.is_some() => {
                let detail = "may not be specified for non-apply patch";
                errors.push(field::Error::forbidden(&Path::new("force"), detail));
            }
            _ => {}
        }
        validate_field_manager(manager, &Path::new("fieldManager"), &mut errors);
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        dry_run_errors(&dry_run, &mut errors);
        let validation = query.get("fieldValidation").unwrap_or_default();
        let field_validation = match validation {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(field::Error::not_supported(&Path::new("fieldValidation"), other, &supported));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", kind.options_kind(), "", &errors));
        }
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            field_validation,
            field_manager: manager.to_string(),
            force: force.unwrap_or(false),
            field_validation_given: !validation.is_empty(),
            force_given: force.is_some(),
        })
    }

    /// The options as the object that admission sees.
    pub fn to_object(&self, kind: &str) -> Value {
        let mut object = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
        if self.dry_run {
            object["dryRun"] = json!(["All"]);
        }
        if !self.field_manager.is_empty() {
            object["fieldManager"] = json!(self.field_manager);
        }
        if self.field_validation_given {
            object["fieldValidation"] = json!(match self.field_validation {
                FieldValidation::Ignore => "Ignore",
                FieldValidation::Warn => "Warn",
                FieldValidation::Strict => "Strict",
            });
        }
        if self.force_given && kind == "PatchOptions" {
            object["force"] = json!(self.force);
        }
        object
    }

    /// The manager that owns what this request writes: the given one, or the user agent up to its slash.
    pub fn manager(&self, user_agent: &str) -> String {
        if !self.field_manager.is_empty() {
            return self.field_manager.clone();
        }
        let mut out = String::new();
        for c in user_agent.split('/').next().unwrap_or_default().chars() {
            if c.is_control() || (c.is_whitespace() && c != ' ') {
                continue;
            }
            if out.len() + c.len_utf8() > 128 {
                break;
            }
            out.push(c);
        }
        out
    }
}

fn dry_run_errors(values: &[&str], errors: &mut Vec<field::Error>) {
    if values.iter().any(|v| *v != "All") {
        errors.push(field::Error::not_supported(&Path::new("dryRun"), json!(values), &["All"]));
    }
}

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// gracePeriodSeconds; negative ones count as 1.
    pub grace_period: Option<i64>,
    /// preconditions.uid.
    pub uid: Option<String>,
    /// preconditions.resourceVersion.
    pub resource_version: Option<String>,
    /// propagationPolicy.
    pub propagation: Option<Propagation>,
    /// The deprecated orphanDependents.
    pub orphan_dependents: Option<bool>,
    /// Nothing is persisted.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads the query.
    pub fn from_query(query: &Query) -> Result<Self, Status> {
        if query.is_empty() {
            return Ok(Self::default());
        }
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        Self::build(
            query.integer("gracePeriodSeconds")?,
            query.optional_flag("orphanDependents"),
            query.get("propagationPolicy"),
            &dry_run,
            None,
            None,
        )
    }

    /// Reads the decoded body.
    pub fn from_body(body: &Value) -> Result<Self, Status> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_string);
        let preconditions = body.get("preconditions");
        let dry_run: Vec<&str> = match body.get("dryRun") {
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        Self::build(
            body.get("gracePeriodSeconds").and_then(Value::as_i64),
            body.get("orphanDependents").and_then(Value::as_bool),
            body.get("propagationPolicy").and_then(Value::as_str),
            &dry_run,
            text(preconditions.and_then(|p| p.get("uid"))),
            text(preconditions.and_then(|p| p.get("resourceVersion"))),
        )
    }

    fn build(
        grace_period: Option<i64>,
        orphan_dependents: Option<bool>,
        policy: Option<&str>,
        dry_run: &[&str],
        uid: Option<String>,
        resource_version: Option<String>,
    ) -> Result<Self, Status> {
        let path = Path::new("propagationPolicy");
        let mut errors = Vec::new();
        if let (Some(_), Some(policy)) = (orphan_dependents, policy) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(field::Error::invalid(&path, policy, detail));
        }
        let propagation = match policy {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(field::Error::not_supported(&path, other, &supported));
                None
            }
        };
        dry_run_errors(dry_run, &mut errors);
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
        Ok(Self {
            grace_period: grace_period.map(|g| if g < 0 { 1 } else { g }),
            uid,
            resource_version,
            propagation,
            orphan_dependents,
            dry_run: !dry_run.is_empty(),
        })
    }

    /// The options as the object that admission sees.
    pub fn to_object(&self) -> Value {
        let mut object = json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
        if let Some(grace) = self.grace_period {
            object["gracePeriodSeconds"] = json!(grace);
        }
        if let Some(uid) = &self.uid {
            object["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &self.resource_version {
            object["preconditions"]["resourceVersion"] = json!(version);
        }
        if let Some(orphan) = self.orphan_dependents {
            object["orphanDependents"] = json!(orphan);
        }
        if let Some(policy) = self.propagation {
            object["propagationPolicy"] = json!(match policy {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            });
        }
        if self.dry_run {
            object["dryRun"] = json!(["All"]);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_word_but_false_and_zero_is_true() {
        let query = Query::parse("a=yes&b=&c=False&d=0&e");
        assert!(query.flag("a") && query.flag("b") && query.flag("e"));
        assert!(!query.flag("c") && !query.flag("d") && !query.flag("absent"));
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse("labelSelector=a%20in+%28b%29&x=1&x=2");
        assert_eq!(query.get("labelSelector"), Some("a in (b)"));
        assert_eq!(query.all("x").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn exact_at_zero_is_forbidden() {
        let query = Query::parse("resourceVersion=0&resourceVersionMatch=Exact");
        let status = ListOptions::parse(&query, false).unwrap_err();
        assert_eq!(status.code, 422);
        assert!(status.message.contains("resourceVersionMatch \"exact\" is forbidden"), "{}", status.message);
    }

    #[test]
    fn a_watch_from_scratch_sends_initial_events_without_a_bookmark_at_their_end() {
        let options = ListOptions::parse(&Query::parse("watch=1"), false).unwrap();
        assert_eq!(options.send_initial_events, Some(true));
        assert!(!options.wants_initial_bookmark);
        assert!(ListOptions::parse(&Query::parse("watch=1&continue=abc"), false).is_err());
    }

    #[test]
    fn an_unknown_dry_run_is_refused() {
        let status = WriteOptions::parse(&Query::parse("dryRun=Server"), WriteKind::Create).unwrap_err();
        assert!(status.message.contains("dryRun: Unsupported value: [\"Server\"]"), "{}", status.message);
    }

    #[test]
    fn the_manager_is_the_user_agent_up_to_its_slash() {
        assert_eq!(WriteOptions::default().manager("oracle/1 (linux)"), "oracle");
    }
}
