//! How Go prints its internal API types. Messages of the API show bad structs and differences as
//! `encoding/json` writes the internal types: Go's field names in declaration order, absent values as
//! `null`, `""`, `0` or `false`. Here are the shapes of the types that messages show, and the printer.

use kubewright_machinery::gojson::{self, Style};
use serde_json::Value;

/// The Go type of a value.
pub(super) enum Go {
    /// A string or a type of strings; `""` when absent.
    Text,
    /// A number (or IntOrString); `0` when absent.
    Int,
    /// `false` when absent.
    Bool,
    /// A pointer, slice or map of scalars: as it is, `null` when absent.
    Raw,
    /// A struct by value.
    Struct(&'static [GoField]),
    /// A pointer to a struct.
    Ptr(&'static [GoField]),
    /// A slice of structs.
    List(&'static [GoField]),
}

/// Name in Go, name in JSON, type.
pub(super) type GoField = (&'static str, &'static str, Go);

/// The JSON text of `value` as its Go type is written.
pub(super) fn render(go: &Go, value: &Value) -> String {
    let mut out = String::new();
    write(go, value, &mut out);
    out
}

fn write(go: &Go, value: &Value, out: &mut String) {
    match (go, value) {
        (Go::Text, Value::Null) => out.push_str("\"\""),
        (Go::Int, Value::Null) => out.push('0'),
        (Go::Bool, Value::Null) => out.push_str("false"),
        (Go::Ptr(_) | Go::List(_), Value::Null) => out.push_str("null"),
        (Go::Struct(fields) | Go::Ptr(fields), value) => write_struct(fields, value, out),
        (Go::List(fields), Value::Array(items)) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_struct(fields, item, out);
            }
            out.push(']');
        }
        (_, value) => gojson::write(out, value, Style::Standard),
    }
}

fn write_struct(fields: &[GoField], value: &Value, out: &mut String) {
    out.push('{');
    for (i, (go_name, name, go)) in fields.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        out.push_str(go_name);
        out.push_str("\":");
        // A field with an empty JSON name is embedded in another: the object itself.
        let inner = if name.is_empty() { value } else { value.get(name).unwrap_or(&Value::Null) };
        write(go, inner, out);
    }
    out.push('}');
}

/// The JSON text indented by one blank a level, one value a line (`json.MarshalIndent(v, "", " ")`).
pub(super) fn indent(compact: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    let mut chars = compact.chars().peekable();
    let push = |lines: &mut Vec<String>, c: char| {
        if let Some(last) = lines.last_mut() {
            last.push(c);
        }
    };
    while let Some(c) = chars.next() {
        if quoted {
            push(&mut lines, c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                quoted = true;
                push(&mut lines, c);
            }
            '{' | '[' => {
                push(&mut lines, c);
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    push(&mut lines, close);
                } else {
                    depth += 1;
                    lines.push(" ".repeat(depth));
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                lines.push(" ".repeat(depth));
                push(&mut lines, c);
            }
            ',' => {
                push(&mut lines, c);
                lines.push(" ".repeat(depth));
            }
            ':' => {
                push(&mut lines, c);
                push(&mut lines, ' ');
            }
            c => push(&mut lines, c),
        }
    }
    lines
}

/// The unified difference of two values of a Go type, with three lines of context, as messages carry it.
pub(super) fn diff(go: &Go, old: &Value, new: &Value) -> String {
    super::linediff::unified(&indent(&render(go, old)), &indent(&render(go, new)))
}

const CAPABILITIES: &[GoField] = &[("Add", "add", Go::Raw), ("Drop", "drop", Go::Raw)];
const SE_LINUX_OPTIONS: &[GoField] = &[
    ("User", "user", Go::Text),
    ("Role", "role", Go::Text),
    ("Type", "type", Go::Text),
    ("Level", "level", Go::Text),
];
const WINDOWS_OPTIONS: &[GoField] = &[
    ("GMSACredentialSpecName", "gmsaCredentialSpecName", Go::Raw),
    ("GMSACredentialSpec", "gmsaCredentialSpec", Go::Raw),
    ("RunAsUserName", "runAsUserName", Go::Raw),
    ("HostProcess", "hostProcess", Go::Raw),
];
const PROFILE: &[GoField] = &[("Type", "type", Go::Text), ("LocalhostProfile", "localhostProfile", Go::Raw)];

/// `core.SeccompProfile`.
pub(super) const SECCOMP_PROFILE: Go = Go::Ptr(PROFILE);

/// `core.SecurityContext`.
pub(super) const SECURITY_CONTEXT: Go = Go::Ptr(&[
    ("Capabilities", "capabilities", Go::Ptr(CAPABILITIES)),
    ("Privileged", "privileged", Go::Raw),
    ("SELinuxOptions", "seLinuxOptions", Go::Ptr(SE_LINUX_OPTIONS)),
    ("WindowsOptions", "windowsOptions", Go::Ptr(WINDOWS_OPTIONS)),
    ("RunAsUser", "runAsUser", Go::Raw),
    ("RunAsGroup", "runAsGroup", Go::Raw),
    ("RunAsNonRoot", "runAsNonRoot", Go::Raw),
    ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem", Go::Raw),
    ("AllowPrivilegeEscalation", "allowPrivilegeEscalation", Go::Raw),
    ("ProcMount", "procMount", Go::Raw),
    ("SeccompProfile", "seccompProfile", Go::Ptr(PROFILE)),
    ("AppArmorProfile", "appArmorProfile", Go::Ptr(PROFILE)),
]);

/// `core.PodResourceClaim`.
pub(super) const POD_RESOURCE_CLAIM: Go = Go::Struct(&[
    ("Name", "name", Go::Text),
    ("ResourceClaimName", "resourceClaimName", Go::Raw),
    ("ResourceClaimTemplateName", "resourceClaimTemplateName", Go::Raw),
]);

/// `core.ServicePort`.
pub(super) const SERVICE_PORT: Go = Go::Struct(&[
    ("Name", "name", Go::Text),
    ("Protocol", "protocol", Go::Text),
    ("AppProtocol", "appProtocol", Go::Raw),
    ("Port", "port", Go::Int),
    ("TargetPort", "targetPort", Go::Int),
    ("NodePort", "nodePort", Go::Int),
]);

/// `core.Taint`.
pub(super) const TAINT: Go = Go::Struct(&[
    ("Key", "key", Go::Text),
    ("Value", "value", Go::Text),
    ("Effect", "effect", Go::Text),
    ("TimeAdded", "timeAdded", Go::Raw),
]);

/// `core.NodeAddress`.
pub(super) const NODE_ADDRESS: Go =
    Go::Struct(&[("Type", "type", Go::Text), ("Address", "address", Go::Text)]);

/// A struct with an `IP` alone (`core.PodIP`, `core.HostIP`).
pub(super) const IP: Go = Go::Struct(&[("IP", "ip", Go::Text)]);
/// A list of such structs.
pub(super) const IPS: Go = Go::List(&[("IP", "ip", Go::Text)]);

const SELECTOR_REQUIREMENT: &[GoField] =
    &[("Key", "key", Go::Text), ("Operator", "operator", Go::Text), ("Values", "values", Go::Raw)];
const NODE_SELECTOR_TERM_FIELDS: &[GoField] = &[
    ("MatchExpressions", "matchExpressions", Go::List(SELECTOR_REQUIREMENT)),
    ("MatchFields", "matchFields", Go::List(SELECTOR_REQUIREMENT)),
];

/// `core.NodeSelectorTerm`.
pub(super) const NODE_SELECTOR_TERM: Go = Go::Struct(NODE_SELECTOR_TERM_FIELDS);
/// `[]core.NodeSelectorTerm`.
pub(super) const NODE_SELECTOR_TERMS: Go = Go::List(NODE_SELECTOR_TERM_FIELDS);
/// `core.VolumeNodeAffinity`.
pub(super) const VOLUME_NODE_AFFINITY: Go = Go::Ptr(&[(
    "Required",
    "required",
    Go::Ptr(&[("NodeSelectorTerms", "nodeSelectorTerms", Go::List(NODE_SELECTOR_TERM_FIELDS))]),
)]);

const SCOPE_REQUIREMENT: &[GoField] = &[
    ("ScopeName", "scopeName", Go::Text),
    ("Operator", "operator", Go::Text),
    ("Values", "values", Go::Raw),
];
/// `core.ScopeSelector`.
pub(super) const SCOPE_SELECTOR: Go =
    Go::Ptr(&[("MatchExpressions", "matchExpressions", Go::List(SCOPE_REQUIREMENT))]);

/// `core.PersistentVolumeClaimSpec`.
pub(super) const CLAIM_SPEC: Go = Go::Struct(&[
    ("AccessModes", "accessModes", Go::Raw),
    ("Selector", "selector", Go::Raw),
    (
        "Resources",
        "resources",
        Go::Struct(&[("Limits", "limits", Go::Raw), ("Requests", "requests", Go::Raw)]),
    ),
    ("VolumeName", "volumeName", Go::Text),
    ("StorageClassName", "storageClassName", Go::Raw),
    ("VolumeMode", "volumeMode", Go::Raw),
    (
        "DataSource",
        "dataSource",
        Go::Ptr(&[("APIGroup", "apiGroup", Go::Raw), ("Kind", "kind", Go::Text), ("Name", "name", Go::Text)]),
    ),
    (
        "DataSourceRef",
        "dataSourceRef",
        Go::Ptr(&[
            ("APIGroup", "apiGroup", Go::Raw),
            ("Kind", "kind", Go::Text),
            ("Name", "name", Go::Text),
            ("Namespace", "namespace", Go::Raw),
        ]),
    ),
    ("VolumeAttributesClassName", "volumeAttributesClassName", Go::Raw),
]);

/// `apps.DeploymentStrategy` and `apps.DaemonSetUpdateStrategy`.
pub(super) const ROLLING_STRATEGY: Go = Go::Struct(&[
    ("Type", "type", Go::Text),
    (
        "RollingUpdate",
        "rollingUpdate",
        Go::Ptr(&[("MaxUnavailable", "maxUnavailable", Go::Int), ("MaxSurge", "maxSurge", Go::Int)]),
    ),
]);

const ROLLING_UPDATE_STATEFUL_SET: &[GoField] =
    &[("Partition", "partition", Go::Int), ("MaxUnavailable", "maxUnavailable", Go::Raw)];
/// `apps.RollingUpdateStatefulSetStrategy`.
pub(super) const STATEFUL_SET_ROLLING_UPDATE: Go = Go::Ptr(ROLLING_UPDATE_STATEFUL_SET);
/// `apps.StatefulSetUpdateStrategy`.
pub(super) const STATEFUL_SET_UPDATE_STRATEGY: Go = Go::Struct(&[
    ("Type", "type", Go::Text),
    ("RollingUpdate", "rollingUpdate", Go::Ptr(ROLLING_UPDATE_STATEFUL_SET)),
]);

/// `batch.SuccessPolicy`.
pub(super) const SUCCESS_POLICY: Go = Go::Struct(&[(
    "Rules",
    "rules",
    Go::List(&[
        ("SucceededIndexes", "succeededIndexes", Go::Raw),
        ("SucceededCount", "succeededCount", Go::Raw),
    ]),
)]);

/// `batch.UncountedTerminatedPods`.
pub(super) const UNCOUNTED_PODS: Go =
    Go::Ptr(&[("Succeeded", "succeeded", Go::Raw), ("Failed", "failed", Go::Raw)]);

/// `policy.PodDisruptionBudgetSpec`.
pub(super) const DISRUPTION_BUDGET: Go = Go::Struct(&[
    ("MinAvailable", "minAvailable", Go::Raw),
    ("Selector", "selector", Go::Raw),
    ("MaxUnavailable", "maxUnavailable", Go::Raw),
    ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy", Go::Raw),
]);

/// `core.ObjectReference`.
pub(super) const OBJECT_REFERENCE: Go = Go::Ptr(&[
    ("Kind", "kind", Go::Text),
    ("Namespace", "namespace", Go::Text),
    ("Name", "name", Go::Text),
    ("UID", "uid", Go::Text),
    ("APIVersion", "apiVersion", Go::Text),
    ("ResourceVersion", "resourceVersion", Go::Text),
    ("FieldPath", "fieldPath", Go::Text),
]);

/// `core.EventSource`.
pub(super) const EVENT_SOURCE: Go =
    Go::Struct(&[("Component", "component", Go::Text), ("Host", "host", Go::Text)]);

/// `flowcontrol.FlowDistinguisherMethod`.
pub(super) const FLOW_DISTINGUISHER: Go = Go::Ptr(&[("Type", "type", Go::Text)]);

/// `networking.ParentReference`.
pub(super) const PARENT_REFERENCE: Go = Go::Ptr(&[
    ("Group", "group", Go::Text),
    ("Resource", "resource", Go::Text),
    ("Namespace", "namespace", Go::Text),
    ("Name", "name", Go::Text),
]);

/// `rbac.RoleRef`.
pub(super) const ROLE_REF: Go =
    Go::Struct(&[("APIGroup", "apiGroup", Go::Text), ("Kind", "kind", Go::Text), ("Name", "name", Go::Text)]);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_fields_print_as_zero_values_in_go_order() {
        let port = json!({"port": 80, "protocol": "TCP"});
        assert_eq!(
            render(&SERVICE_PORT, &port),
            r#"{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#
        );
        assert_eq!(
            render(&STATEFUL_SET_UPDATE_STRATEGY, &json!({"type": "Wrong"})),
            r#"{"Type":"Wrong","RollingUpdate":null}"#
        );
    }

    #[test]
    fn the_difference_of_two_claims_shows_the_line_that_changed() {
        let claim = |size: &str| json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}});
        assert_eq!(
            diff(&CLAIM_SPEC, &claim("1Gi"), &claim("2Gi")),
            "@@ -6,7 +6,7 @@\n  \"Resources\": {\n   \"Limits\": null,\n   \"Requests\": {\n-   \"storage\": \"1Gi\"\n+   \"storage\": \"2Gi\"\n   }\n  },\n  \"VolumeName\": \"\",\n"
        );
    }
}
