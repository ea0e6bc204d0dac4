//! Admission policies and their bindings. That their expressions compile is checked where there is a compiler.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::admission_registration::{
    FAILURE_POLICIES, REINVOCATION, match_conditions, match_resources, needed_one_of,
};
use super::errors::Errors;
use super::read::{Fields, same};
use super::workloads::SPEC;
use super::{checks, metadata};

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const PATCH_TYPES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
/// What mutation can happen on.
const MUTABLE_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const MOST_ANNOTATIONS: usize = 20;
const LONGEST_VALUE_EXPRESSION: usize = 5 * 1024;
const NOTHING: &str = "validations or auditAnnotations must contain at least one item";
const UNSPECIFIED: &str = "expression is not specified";

/// A ValidatingAdmissionPolicy; conditions that are stored already are let through.
pub(super) fn validating(policy: &Value, old: Option<&Value>, e: &mut Errors) {
    metadata::create_generic(policy, false, names::name_is_subdomain, e);
    let spec = policy.sub("spec");
    frame(spec, old, false, e);
    let (validations, annotations) = (spec.items("validations"), spec.items("auditAnnotations"));
    let annotations_path = SPEC.child("auditAnnotations");
    if validations.is_empty() && annotations.is_empty() {
        e.required(&SPEC.child("validations"), NOTHING);
        return e.required(&annotations_path, NOTHING);
    }
    for (i, found) in validations.iter().enumerate() {
        validation(found, &SPEC.child("validations").index(i), e);
    }
    if annotations.len() > MOST_ANNOTATIONS {
        let detail = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        e.invalid(&annotations_path, annotations.to_vec(), detail);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, found) in annotations.iter().enumerate() {
        let path = annotations_path.index(i);
        annotation(found, metadata::name(policy), &path, e);
        let key = found.text("key");
        if seen.contains(&key) {
            e.duplicate(&path.child("key"), key);
        }
        seen.push(key);
    }
}

/// A MutatingAdmissionPolicy.
pub(super) fn mutating(policy: &Value, old: Option<&Value>, e: &mut Errors) {
    metadata::create_generic(policy, false, names::name_is_subdomain, e);
    let spec = policy.sub("spec");
    frame(spec, old, true, e);
    let list = SPEC.child("mutations");
    if spec.items("mutations").is_empty() {
        e.required(&list, "mutations must contain at least one item");
    }
    for (i, found) in spec.items("mutations").iter().enumerate() {
        mutation(found, &list.index(i), e);
    }
    if spec.text("reinvocationPolicy").is_empty() {
        e.required(&SPEC.child("reinvocationPolicy"), "");
    } else {
        needed_one_of(spec, "reinvocationPolicy", &REINVOCATION, &SPEC, e);
    }
}

/// What both kinds of policies have.
fn frame(spec: &Value, old: Option<&Value>, mutating: bool, e: &mut Errors) {
    needed_one_of(spec, "failurePolicy", &FAILURE_POLICIES, &SPEC, e);
    if let Some(kind) = spec.some("paramKind") {
        param_kind(kind, &SPEC.child("paramKind"), e);
    }
    let path = SPEC.child("matchConstraints");
    match spec.some("matchConstraints") {
        None => e.required(&path, ""),
        Some(constraints) => {
            match_resources(constraints, &path, e);
            let rules = path.child("resourceRules");
            if constraints.items("resourceRules").is_empty() {
                e.required(&rules, "");
            }
            if mutating {
                mutable_operations(constraints, &rules.child("operations"), e);
            }
        }
    }
    let kept = old.map(|old| old.sub("spec")).is_some_and(|old| {
        ["paramKind", "matchConditions"].iter().all(|field| same(spec.sub(field), old.sub(field)))
    });
    if !kept {
        match_conditions(spec.items("matchConditions"), &SPEC.child("matchConditions"), e);
    }
    for (i, found) in spec.items("variables").iter().enumerate() {
        variable(found, &SPEC.child("variables").index(i), e);
    }
}

fn mutable_operations(constraints: &Value, path: &Path<'_>, e: &mut Errors) {
    for rule in constraints.items("resourceRules") {
        let operations = rule.strings("operations");
        for operation in operations.into_iter().filter(|o| !MUTABLE_OPERATIONS.contains(o)) {
            e.not_supported(path, operation, &MUTABLE_OPERATIONS);
        }
    }
}

fn param_kind(kind: &Value, path: &Path<'_>, e: &mut Errors) {
    let (api_version, version_path) = (kind.text("apiVersion"), path.child("apiVersion"));
    let parts: Vec<&str> = api_version.split('/').collect();
    let (group, version) = match parts[..] {
        _ if api_version.is_empty() => {
            e.required(&version_path, "");
            ("", None)
        }
        [version] => ("", Some(version)),
        [group, version] => (group, Some(version)),
        _ => {
            let detail = format!("unexpected GroupVersion string: {api_version}");
            e.invalid(&version_path, api_version, detail);
            ("", None)
        }
    };
    let faults = names::is_dns1123_subdomain(group);
    if !group.is_empty() && !faults.is_empty() {
        e.invalid(&version_path, group, faults.join(","));
    }
    match version {
        None => {}
        Some("") => e.invalid(&version_path, api_version, "version must be specified"),
        Some(version) => {
            let faults = names::is_dns1035_label(version);
            if !faults.is_empty() {
                e.invalid(&version_path, version, faults.join(","));
            }
        }
    }
    let (kind, path) = (kind.text("kind"), path.child("kind"));
    if kind.is_empty() {
        return e.required(&path, "");
    }
    let faults = names::is_dns1035_label(&kind.to_lowercase());
    if !faults.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
        e.invalid(&path, kind, detail);
    }
}

fn variable(variable: &Value, path: &Path<'_>, e: &mut Errors) {
    let name = variable.text("name");
    if name.trim().is_empty() {
        e.required(&path.child("name"), "name is not specified");
    } else if !is_identifier(name) {
        e.invalid(&path.child("name"), name, "must be a valid CEL identifier");
    }
    if variable.text("expression").trim().is_empty() {
        e.required(&path.child("expression"), UNSPECIFIED);
    }
}

fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !RESERVED.contains(&name)
}

fn validation(validation: &Value, path: &Path<'_>, e: &mut Errors) {
    if validation.text("expression").trim().is_empty() {
        e.required(&path.child("expression"), UNSPECIFIED);
    }
    for field in ["messageExpression", "message"] {
        let text = validation.text(field);
        if !text.is_empty() && text.trim().is_empty() {
            e.invalid(&path.child(field), text, "must be non-empty if specified");
        } else if field == "message" && text.trim().contains(['\n', '\r']) {
            e.invalid(&path.child(field), text, "must not contain line breaks");
        }
    }
    if let Some(reason) = validation.opt_text("reason").filter(|r| !REASONS.contains(r)) {
        e.not_supported(&path.child("reason"), reason, &REASONS);
    }
}

fn annotation(annotation: &Value, policy: &str, path: &Path<'_>, e: &mut Errors) {
    let key = annotation.text("key");
    if policy.is_empty() {
        e.invalid(&path.child("key"), key, "requires metadata.name be non-empty");
    } else {
        checks::qualified_name(&format!("{policy}/{key}"), &path.child("key"), e);
    }
    let expression = annotation.text("valueExpression").trim();
    let path = path.child("valueExpression");
    if expression.is_empty() {
        e.required(&path, "valueExpression is not specified");
    } else if expression.len() > LONGEST_VALUE_EXPRESSION {
        e.required(&path, format!("must not exceed {LONGEST_VALUE_EXPRESSION} bytes in length"));
    }
}

fn mutation(mutation: &Value, path: &Path<'_>, e: &mut Errors) {
    let kind = mutation.text("patchType");
    let (field, other) = match kind {
        "" => return e.required(&path.child("patchType"), ""),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => return e.not_supported(&path.child("patchType"), kind, &PATCH_TYPES),
    };
    match mutation.some(field) {
        None => e.required(&path.child(field), format!("must be specified when patchType is {kind}")),
        Some(patch) if patch.text("expression").trim().is_empty() => {
            e.required(&path.child(field).child("expression"), "");
        }
        Some(_) => {}
    }
    if mutation.has(other) {
        let detail = format!("must not be specified when patchType is {kind}");
        e.invalid(&path.child(other), format!("{{{other}}}"), detail);
    }
}

/// A binding of either kind of policy.
pub(super) fn binding(binding: &Value, mutating: bool, e: &mut Errors) {
    metadata::create_generic(binding, false, names::name_is_subdomain, e);
    let spec = binding.sub("spec");
    match spec.text("policyName") {
        "" => e.required(&SPEC.child("policyName"), ""),
        name => checks::subdomain(name, &SPEC.child("policyName"), e),
    }
    if let Some(reference) = spec.some("paramRef") {
        param_ref(reference, &SPEC.child("paramRef"), e);
    }
    // The misspelt path is what the real server says.
    let path = SPEC.child("matchResouces");
    if let Some(found) = spec.some("matchResources") {
        match_resources(found, &path, e);
        if mutating {
            mutable_operations(found, &path.child("resourceRules").child("operations"), e);
        }
    }
    if !mutating {
        actions(&spec.strings("validationActions"), &SPEC.child("validationActions"), e);
    }
}

fn param_ref(reference: &Value, path: &Path<'_>, e: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.text("name"), reference.some("selector"));
    if !name.is_empty() {
        e.each(&path.child("name"), name, names::is_path_segment_name(name));
        if selector.is_some() {
            e.forbidden(&path.child("name"), EXCLUSIVE);
        }
    }
    checks::label_selector(selector, false, &path.child("selector"), e);
    if selector.is_some() && !name.is_empty() {
        e.forbidden(&path.child("selector"), EXCLUSIVE);
    }
    if name.is_empty() && selector.is_none() {
        e.required(path, "one of name or selector must be specified");
    }
    match reference.text("parameterNotFoundAction") {
        "" => e.required(&path.child("parameterNotFoundAction"), ""),
        "Deny" | "Allow" => {}
        action => e.not_supported(&path.child("parameterNotFoundAction"), action, &["Deny", "Allow"]),
    }
}

fn actions(actions: &[&str], path: &Path<'_>, e: &mut Errors) {
    for (i, action) in actions.iter().enumerate() {
        if !ACTIONS.contains(action) {
            e.not_supported(&path.index(i), *action, &ACTIONS);
        }
        if actions[..i].contains(action) {
            e.duplicate(&path.index(i), *action);
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        e.invalid(path, actions.to_vec(), detail);
    }
    if actions.is_empty() {
        e.required(path, "at least one validation action is required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;
    use serde_json::json;

    #[test]
    fn a_policy_matches_and_validates() {
        let policy = json!({"metadata": {"name": "p"}, "spec": {"failurePolicy": "Maybe", "variables": [{"name": "1a", "expression": "1"}]}});
        assert_eq!(
            texts(|e| validating(&policy, None, e)),
            [
                r#"spec.failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore""#,
                "spec.matchConstraints: Required value",
                r#"spec.variables[0].name: Invalid value: "1a": must be a valid CEL identifier"#,
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ]
        );
    }

    #[test]
    fn nothing_is_mutated_on_deletion() {
        let rule = json!({"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
        let constraints = json!({"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [rule]});
        let policy = json!({"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": constraints, "mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}}]}});
        assert_eq!(
            texts(|e| mutating(&policy, None, e)),
            [
                r#"spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE""#,
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                r#"spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch"#,
            ]
        );
    }

    #[test]
    fn a_binding_acts() {
        let object =
            json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "paramRef": {"name": "x"}}});
        assert_eq!(
            texts(|e| binding(&object, false, e)),
            [
                "spec.paramRef.parameterNotFoundAction: Required value",
                "spec.validationActions: Required value: at least one validation action is required",
            ]
        );
    }
}
