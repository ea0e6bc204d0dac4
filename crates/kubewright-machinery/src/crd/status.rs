//! The status of a definition: which of its names are granted, whether it is established, whether its group is approved.
//!
//! State machines without a clock: each function takes `now` and changes the object only where something changes.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Names, webhook};
use crate::schema::format;
use crate::time;

/// The annotation that a definition in a group of the Kubernetes community needs.
pub const APPROVAL_ANNOTATION: &str = "api-approved.kubernetes.io";

/// The names that other definitions of a group hold.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Plurals, singulars and short names.
    pub resources: BTreeSet<String>,
    /// Kinds and list kinds.
    pub kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds what a definition was granted.
    pub fn add(&mut self, accepted: &Names) {
        let resources = [&accepted.plural, &accepted.singular].into_iter().chain(&accepted.short_names);
        self.resources.extend(resources.filter(|name| !name.is_empty()).cloned());
        let kinds = [&accepted.kind, &accepted.list_kind];
        self.kinds.extend(kinds.into_iter().filter(|name| !name.is_empty()).cloned());
    }
}

/// One condition, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Type.
    pub ty: &'static str,
    /// `True` or `False`.
    pub status: bool,
    /// Reason in CamelCase.
    pub reason: &'static str,
    /// Words.
    pub message: String,
}

/// A condition of the object by its type.
pub fn condition<'a>(object: &'a Value, ty: &str) -> Option<&'a Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|c| c["type"] == ty)
}

/// Whether a condition is there and True.
pub fn condition_is_true(object: &Value, ty: &str) -> bool {
    condition(object, ty).is_some_and(|c| c["status"] == "True")
}

/// Sets a condition; its time changes only with its status. Returns whether anything changed.
pub fn set_condition(object: &mut Value, condition: &Condition, now: jiff::Timestamp) -> bool {
    let Some(status) = status_of(object) else { return false };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return false };
    let stated = if condition.status { "True" } else { "False" };
    let mut new = json!({
        "type": condition.ty, "status": stated, "reason": condition.reason, "message": condition.message,
        "lastTransitionTime": time::format(now),
    });
    let Some(old) = conditions.iter_mut().find(|c| c["type"] == condition.ty) else {
        conditions.push(new);
        return true;
    };
    if old["status"] == stated && !old["lastTransitionTime"].is_null() {
        new["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
    if let Some(generation) = old.get("observedGeneration") {
        new["observedGeneration"] = generation.clone();
    }
    let changed = *old != new;
    *old = new;
    changed
}

fn status_of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.as_object_mut()?.entry("status").or_insert_with(|| json!({})).as_object_mut()
}

/// Grants the names that nobody else of the group holds, and says so in the conditions NamesAccepted and (not yet)
/// Established. `taken` are the names of the others. Returns whether anything changed.
pub fn accept_names(object: &mut Value, taken: &Taken, now: jiff::Timestamp) -> bool {
    let null = Value::Null;
    let wanted = Names::parse(object.pointer("/spec/names").unwrap_or(&null));
    let held = Names::parse(object.pointer("/status/acceptedNames").unwrap_or(&null));
    if wanted == held {
        return false;
    }
    let mut granted = Names { categories: wanted.categories.clone(), ..held.clone() };
    let mut conflict: Option<(&'static str, String)> = None;
    let (resources, kinds) = (&taken.resources, &taken.kinds);
    let mut note = |reason, refused: Option<String>| {
        if let Some(message) = refused {
            conflict = Some((reason, message));
        }
    };
    note("PluralConflict", grant(&wanted.plural, resources, &mut granted.plural));
    note("SingularConflict", grant(&wanted.singular, resources, &mut granted.singular));
    if wanted.short_names != held.short_names {
        let in_use: Vec<String> = wanted
            .short_names
            .iter()
            .filter(|name| !held.short_names.contains(name) && resources.contains(*name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match in_use.as_slice() {
            [] => granted.short_names = wanted.short_names.clone(),
            [one] => note("ShortNamesConflict", Some(one.clone())),
            many => note("ShortNamesConflict", Some(format!("[{}]", many.join(", ")))),
        }
    }
    note("KindConflict", grant(&wanted.kind, kinds, &mut granted.kind));
    note("ListKindConflict", grant(&wanted.list_kind, kinds, &mut granted.list_kind));

    let accepted = conflict.is_none();
    let (reason, message) = conflict.unwrap_or(("NoConflicts", "no conflicts found".into()));
    let mut changed = granted != held;
    if let Some(status) = status_of(object) {
        status.insert("acceptedNames".into(), granted.to_json());
    }
    let named = Condition { ty: "NamesAccepted", status: accepted, reason, message };
    changed |= set_condition(object, &named, now);
    if condition_is_true(object, "Established") {
        return changed;
    }
    let established = if accepted {
        Some(("Installing", "the initial names have been accepted"))
    } else if condition(object, "Established").is_none() {
        Some(("NotAccepted", "not all names are accepted"))
    } else {
        None
    };
    if let Some((reason, message)) = established {
        let condition = Condition { ty: "Established", status: false, reason, message: message.into() };
        changed |= set_condition(object, &condition, now);
    }
    changed
}

/// Takes a name unless somebody else holds it; the words of the refusal.
fn grant(wanted: &str, names: &BTreeSet<String>, held: &mut String) -> Option<String> {
    if wanted != held && names.contains(wanted) {
        return Some(format!("{wanted:?} is already in use"));
    }
    *held = wanted.into();
    None
}

/// Establishes a definition whose names are accepted: from now on it is served. One whose conversion webhook has a CA
/// bundle without certificates is not. Returns whether anything changed.
pub fn establish(object: &mut Value, now: jiff::Timestamp) -> bool {
    if !condition_is_true(object, "NamesAccepted") || condition_is_true(object, "Established") {
        return false;
    }
    let bundle = object.pointer("/spec/conversion/webhook/clientConfig/caBundle").and_then(Value::as_str);
    let condition = if bundle.is_none_or(webhook::is_ca_bundle) {
        let message = "the initial names have been accepted".into();
        Condition { ty: "Established", status: true, reason: "InitialNamesAccepted", message }
    } else {
        let message = "The conversion webhook CABundle is invalid".into();
        Condition { ty: "Established", status: false, reason: "InvalidCABundle", message }
    };
    set_condition(object, &condition, now)
}

/// Says in the condition KubernetesAPIApprovalPolicyConformant whether a definition in a community group is approved.
/// Returns whether anything changed.
pub fn judge_approval(object: &mut Value, now: jiff::Timestamp) -> bool {
    let group = object.pointer("/spec/group").and_then(Value::as_str).unwrap_or("");
    if !is_protected_group(group) {
        return false;
    }
    let approval = approval(object);
    let (status, reason) = match approval {
        Approval::Invalid(_) => (false, "InvalidAnnotation"),
        Approval::Missing => (false, "MissingAnnotation"),
        Approval::Approved(_) => (true, "ApprovedAnnotation"),
        Approval::Bypassed(_) => (false, "UnapprovedAnnotation"),
    };
    let message = approval.reason();
    let condition = Condition { ty: "KubernetesAPIApprovalPolicyConformant", status, reason, message };
    set_condition(object, &condition, now)
}

/// Says in the condition Terminating that the objects of a definition that is being deleted go. Returns whether
/// anything changed.
pub fn terminating(object: &mut Value, in_progress: bool, now: jiff::Timestamp) -> bool {
    let (reason, message) = if in_progress {
        ("InstanceDeletionInProgress", "CustomResource deletion is in progress")
    } else {
        ("InstanceDeletionCompleted", "removed all instances")
    };
    let condition = Condition { ty: "Terminating", status: in_progress, reason, message: message.into() };
    set_condition(object, &condition, now)
}

/// Whether a group belongs to the Kubernetes community.
pub fn is_protected_group(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|owner| group.strip_suffix(owner).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// What the approval annotation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Neither a URL nor a reason to go without.
    Invalid(String),
    /// A URL of the approval.
    Approved(String),
    /// A reason that begins with `unapproved`.
    Bypassed(String),
    /// Nothing.
    Missing,
}

impl Approval {
    /// The words for errors and conditions.
    pub fn reason(&self) -> String {
        const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
        match self {
            Approval::Invalid(_) => format!(
                "protected groups must have approval annotation {APPROVAL_ANNOTATION:?} with either a URL or a reason \
                 starting with \"unapproved\", {SEE}"
            ),
            Approval::Approved(url) => format!("approved in {url}"),
            Approval::Bypassed(reason) => format!("not approved: {reason:?}"),
            Approval::Missing => {
                format!("protected groups must have approval annotation {APPROVAL_ANNOTATION:?}, {SEE}")
            }
        }
    }
}

/// What the approval annotation of a definition says.
pub fn approval(object: &Value) -> Approval {
    let annotations = object.pointer("/metadata/annotations");
    let text = annotations.and_then(|a| a.get(APPROVAL_ANNOTATION)).and_then(Value::as_str).unwrap_or("");
    let has_host =
        || text.split_once("://").is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/'));
    if text.is_empty() {
        Approval::Missing
    } else if text.starts_with("unapproved") {
        Approval::Bypassed(text.into())
    } else if format::is_request_uri(text) && has_host() {
        Approval::Approved(text.into())
    } else {
        Approval::Invalid(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2024-01-01T00:00:00Z".parse().unwrap()
    }

    fn widget() -> Value {
        json!({"spec": {"group": "example.com", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget",
            "listKind": "WidgetList", "shortNames": ["wd"]}}, "status": {"conditions": null}})
    }

    #[test]
    fn free_names_are_accepted_and_then_the_definition_is_established() {
        let mut object = widget();
        assert!(accept_names(&mut object, &Taken::default(), now()));
        assert_eq!(object["status"]["acceptedNames"], object["spec"]["names"]);
        assert_eq!(object["status"]["conditions"][1]["reason"], "Installing");
        assert!(establish(&mut object, now()));
        let conditions = &object["status"]["conditions"];
        assert_eq!(
            conditions[0],
            json!({"type": "NamesAccepted", "status": "True", "reason": "NoConflicts",
            "message": "no conflicts found", "lastTransitionTime": "2024-01-01T00:00:00Z"})
        );
        assert_eq!(
            conditions[1],
            json!({"type": "Established", "status": "True", "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted", "lastTransitionTime": "2024-01-01T00:00:00Z"})
        );
        assert!(!accept_names(&mut object, &Taken::default(), now()) && !establish(&mut object, now()));
    }

    #[test]
    fn names_of_others_are_refused_and_free_ones_granted() {
        let mut taken = Taken::default();
        taken.add(&Names {
            plural: "others".into(),
            kind: "Widget".into(),
            short_names: vec!["wd".into()],
            ..Names::default()
        });
        let mut object = widget();
        accept_names(&mut object, &taken, now());
        let accepted = Names::parse(&object["status"]["acceptedNames"]);
        assert_eq!((accepted.plural.as_str(), accepted.kind.as_str()), ("widgets", ""));
        assert!(accepted.short_names.is_empty());
        let conditions = &object["status"]["conditions"];
        assert_eq!(conditions[0]["reason"], "KindConflict");
        assert_eq!(conditions[0]["message"], "\"Widget\" is already in use");
        assert_eq!(conditions[1]["reason"], "NotAccepted");
        assert!(!establish(&mut object, now()));
    }

    #[test]
    fn community_groups_need_approval() {
        assert!(
            is_protected_group("x.k8s.io") && is_protected_group("k8s.io") && !is_protected_group("xk8s.io")
        );
        let with = |text: &str| approval(&json!({"metadata": {"annotations": {APPROVAL_ANNOTATION: text}}}));
        assert!(matches!(with("https://example.com/pr"), Approval::Approved(_)));
        assert!(matches!(with("unapproved, test"), Approval::Bypassed(_)));
        assert!(matches!(with("yes"), Approval::Invalid(_)));
        assert_eq!(approval(&json!({})), Approval::Missing);
    }
}
