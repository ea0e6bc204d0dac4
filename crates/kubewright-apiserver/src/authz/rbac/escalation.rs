//! Nobody gives away more rights than they have: the check on every write of a role or binding.
//!
//! What is written and who writes flow in; a 403 that lists the missing rights comes out. Members of `system:masters`,
//! and those with the verb `escalate` (on the role written) or `bind` (on the role referred to), pass.

use kubewright_machinery::status::Status;
use serde_json::{Map, Value};

use super::cover::{missing, quoted};
use super::{GROUP, Rule};
use crate::authn::MASTERS;
use crate::authz::{self, Attributes};
use crate::resources::WriteContext;

/// Checks a write of one of the four kinds, after mutating admission and before validation; `old` is `None` on create.
///
/// # Errors
/// 403 with the missing rights; 404 where a binding refers to a role that does not exist.
pub async fn guard(cx: &WriteContext<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if cx.user.in_group(MASTERS) || old.is_some_and(|old| only_collectable_fields_differ(object, old)) {
        return Ok(());
    }
    match &*cx.resource.plural {
        "roles" | "clusterroles" => guard_role(cx, object, old).await,
        "rolebindings" | "clusterrolebindings" => guard_binding(cx, object).await,
        _ => Ok(()),
    }
}

async fn guard_role(cx: &WriteContext<'_>, role: &Value, old: Option<&Value>) -> Result<(), Status> {
    let plural = &cx.resource.plural;
    if allowed(cx, "escalate", plural, cx.namespace, cx.name).await {
        return Ok(());
    }
    confirm(cx, role, &Rule::all_of(role)).await?;
    let aggregates = |role: &Value| {
        role["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|s| !s.is_empty())
    };
    if (aggregates(role) || old.is_some_and(aggregates))
        && confirm(cx, role, &Rule::everything()).await.is_err()
    {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        return Err(Status::forbidden(GROUP, plural, name_of(role), why));
    }
    Ok(())
}

async fn guard_binding(cx: &WriteContext<'_>, binding: &Value) -> Result<(), Status> {
    let text = |field: &str| binding["roleRef"][field].as_str().unwrap_or_default();
    let (kind, role) = (text("kind"), text("name"));
    let (plural, namespace) = match kind {
        "ClusterRole" => ("clusterroles", ""),
        "Role" => ("roles", cx.namespace),
        // Validation says what is wrong with it.
        _ => return Ok(()),
    };
    if allowed(cx, "bind", plural, cx.namespace, role).await {
        return Ok(());
    }
    let found = cx.core.reader().get(GROUP, plural, namespace, role).await.map_err(Status::internal)?;
    // The real server names the resource of the request here, not the role's.
    let found = found.ok_or_else(|| Status::not_found(GROUP, &cx.resource.plural, role))?;
    confirm(cx, binding, &Rule::all_of(&found)).await
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Whether an authorizer lets the user do that to a role.
async fn allowed(cx: &WriteContext<'_>, verb: &str, plural: &str, namespace: &str, name: &str) -> bool {
    let attributes = Attributes {
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::of_resource(cx.user, verb, GROUP, "*", plural)
    };
    authz::exercise_if_granted(cx.core, &attributes).await
}

/// Refuses with what the user lacks of these rules.
async fn confirm(cx: &WriteContext<'_>, object: &Value, wanted: &[Rule]) -> Result<(), Status> {
    let held = authz::rules(cx.core, cx.user, cx.namespace).await;
    let lines = missing(&held.rules, wanted);
    if lines.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        kubewright_machinery::field::quote(&cx.user.name),
        quoted(cx.user.groups.iter().map(String::as_str)),
        lines.join("\n")
    );
    if !held.errors.is_empty() {
        why = format!("{why}; resolution errors: [{}]", held.errors.join(", "));
    }
    Err(Status::forbidden(GROUP, &cx.resource.plural, name_of(object), why))
}

/// Whether a change is none but for what the garbage collector writes: finalizers and owners.
fn only_collectable_fields_differ(object: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut fields: Map<String, Value> = object.as_object().cloned().unwrap_or_default();
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            for name in ["finalizers", "ownerReferences", "managedFields", "resourceVersion"] {
                metadata.remove(name);
            }
        }
        fields
    };
    rest(object) == rest(old)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finalizers_and_owners_are_the_collectors_and_rules_are_not() {
        let old = json!({"metadata": {"name": "r", "resourceVersion": "1"}, "rules": []});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["x"]);
        assert!(only_collectable_fields_differ(&new, &old));
        new["metadata"]["labels"] = json!({"a": "b"});
        assert!(!only_collectable_fields_differ(&new, &old));
    }
}
