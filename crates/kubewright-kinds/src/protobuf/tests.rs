//! Frames made by hand: what each form of value becomes, and that no bytes make the decoder panic.

use kubewright_machinery::gvk::{GroupVersion, GroupVersionKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{PREFIX, decode};

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that holds a number.
fn int(number: u32, value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number) << 3, &mut out);
    varint(value.cast_unsigned(), &mut out);
    out
}

/// A field that holds text, bytes or a message.
fn field(number: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number) << 3 | 2, &mut out);
    varint(value.as_ref().len() as u64, &mut out);
    out.extend_from_slice(value.as_ref());
    out
}

/// A field that holds a message of fields.
fn message(number: u32, fields: &[Vec<u8>]) -> Vec<u8> {
    field(number, fields.concat())
}

fn frame(api_version: &str, kind: &str, fields: &[Vec<u8>]) -> Vec<u8> {
    let meta = message(1, &[field(1, api_version), field(2, kind)]);
    [PREFIX, &meta, &message(2, fields), &field(3, ""), &field(4, "")].concat()
}

fn object(api_version: &str, kind: &str, fields: &[Vec<u8>]) -> Value {
    decode(&frame(api_version, kind, fields), &GroupVersionKind::default()).unwrap()
}

fn error(body: &[u8]) -> String {
    decode(body, &GroupVersionKind::default()).unwrap_err().to_string()
}

#[test]
fn zeros_of_optional_fields_are_left_out_and_those_of_pointers_kept() {
    let metadata = [
        field(1, "web"),
        field(3, ""),
        int(7, 0),
        field(8, ""),
        int(10, -5),
        message(11, &[field(1, "app"), field(2, "web")]),
        message(11, &[field(2, ""), field(1, "empty")]),
        message(11, &[field(1, "none")]),
        field(14, "a"),
        field(14, ""),
    ];
    let spec = [int(1, 0), int(5, 0), int(7, 0), int(6, 4_294_967_298)];
    assert_eq!(
        object("apps/v1", "Deployment", &[message(1, &metadata), message(2, &spec), field(3, "")]),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "deletionGracePeriodSeconds": -5, "finalizers": ["a", ""],
                "labels": {"app": "web", "empty": "", "none": ""}},
            "spec": {"replicas": 0, "revisionHistoryLimit": 2}, "status": {},
        })
    );
}

#[test]
fn what_go_embeds_is_flattened() {
    let config = message(2, &[message(19, &[message(1, &[field(1, "settings")]), int(3, 420)])]);
    let scratch = message(2, &[message(2, &[field(1, "Memory"), message(2, &[field(1, "64Mi")])])]);
    let port = message(2, &[int(1, 1), int(2, 0), field(3, "http")]);
    let probe =
        [message(1, &[message(2, &[field(1, "/healthz"), port, field(3, "")])]), int(2, 5), int(3, 0)];
    let secret = message(4, &[message(1, &[field(1, "keys")]), field(2, "token")]);
    let env = [field(1, "TOKEN"), field(2, ""), message(3, &[secret])];
    let limits = message(1, &[field(1, "cpu"), message(2, &[field(1, "500m")])]);
    let container = [
        field(1, "app"),
        message(7, &env),
        message(8, &[limits, message(2, &[field(1, "memory")])]),
        message(10, &probe),
    ];
    let debugger = [message(1, &[field(1, "debug"), field(2, "busybox")]), field(2, "app")];
    let spec = [
        message(1, &[field(1, "config"), config]),
        message(1, &[field(1, "scratch"), scratch]),
        message(2, &container),
        message(34, &debugger),
    ];
    assert_eq!(
        object("v1", "Pod", &[message(2, &spec)])["spec"],
        json!({
            "volumes": [
                {"name": "config", "configMap": {"name": "settings", "defaultMode": 420}},
                {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            ],
            "containers": [{
                "name": "app",
                "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}],
                "resources": {"limits": {"cpu": "500m"}, "requests": {"memory": "0"}},
                "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "initialDelaySeconds": 5},
            }],
            "ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "app"}],
        })
    );
}

#[test]
fn numbers_of_a_list_may_be_packed() {
    let security = |groups: &[Vec<u8>]| {
        let spec = message(2, &[message(14, groups)]);
        object("v1", "Pod", &[spec])["spec"]["securityContext"]["supplementalGroups"].clone()
    };
    assert_eq!(security(&[int(4, 1), int(4, -2)]), json!([1, -2]));
    assert_eq!(security(&[field(4, [1, 0xac, 0x02]), int(4, 7)]), json!([1, 300, 7]));
}

#[test]
fn bytes_become_base64_and_bad_text_is_replaced() {
    let data = message(2, &[field(1, "key"), field(2, [0, 255, 16])]);
    let secret = object("v1", "Secret", &[data, message(2, &[field(1, "none")]), field(3, [b'a', 0xff])]);
    assert_eq!(secret["data"], json!({"key": "AP8Q", "none": ""}));
    assert_eq!(secret["type"], "a\u{fffd}");
}

#[test]
fn times_have_seconds_or_microseconds() {
    let time =
        |fields: &[Vec<u8>]| object("v1", "Pod", &[message(3, &[message(7, fields)])])["status"].clone();
    assert_eq!(time(&[int(1, 1_767_225_600), int(2, 999)]), json!({"startTime": "2026-01-01T00:00:00Z"}));
    assert_eq!(time(&[int(1, -1)]), json!({"startTime": "1969-12-31T23:59:59Z"}));
    assert_eq!(time(&[]), json!({}));
    let renew = message(4, &[int(1, 1_767_225_600), int(2, 1_500_000_999)]);
    let lease = object("coordination.k8s.io/v1", "Lease", &[message(2, &[renew])]);
    assert_eq!(lease["spec"]["renewTime"], "2026-01-01T00:00:01.500000Z");
    let far = frame("v1", "Pod", &[message(3, &[message(7, &[int(1, i64::MAX)])])]);
    assert_eq!(error(&far), "proto: time of startTime is out of range");
}

#[test]
fn lists_inside_of_maps_are_messages() {
    let extra = message(5, &[field(1, "scopes"), message(2, &[field(1, "read"), field(1, "write")])]);
    let review = message(2, &[field(3, "jane"), extra]);
    assert_eq!(
        object("authorization.k8s.io/v1", "SubjectAccessReview", &[review])["spec"],
        json!({"user": "jane", "extra": {"scopes": ["read", "write"]}})
    );
}

fn crd(schema: &[Vec<u8>]) -> Vec<u8> {
    let version = [field(1, "v1"), message(4, &[message(1, schema)])];
    frame("apiextensions.k8s.io/v1", "CustomResourceDefinition", &[message(2, &[message(7, &version)])])
}

#[test]
fn embedded_json_and_unions_of_schemas_take_their_json_form() {
    let mut maximum = vec![9 << 3 | 1];
    maximum.extend_from_slice(&2.5_f64.to_le_bytes());
    let text = || message(1, &[field(5, "string")]);
    let named = |name: &str, schema: Vec<u8>| [field(1, name), field(2, schema)];
    let schema = [
        maximum,
        field(3, "#/other"),
        message(8, &[field(1, "{\"a\": [1, null]}")]),
        message(20, &[field(1, "1")]),
        message(20, &[field(1, "\"x\"")]),
        message(24, &[text()]),
        message(28, &[message(24, &[message(2, &[field(5, "integer")])])]),
        message(29, &named("open", message(30, &[int(1, 1)]))),
        message(29, &named("shut", message(30, &[int(1, 0)]))),
        message(29, &named("map", message(30, &[int(1, 1), message(2, &[field(5, "string")])]))),
        message(32, &named("a", field(2, "b"))),
        int(40, 1),
    ];
    let object = decode(&crd(&schema), &GroupVersionKind::default()).unwrap();
    assert_eq!(
        object["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        json!({
            "maximum": 2.5, "$ref": "#/other", "default": {"a": [1, null]}, "enum": [1, "x"],
            "items": {"type": "string"}, "not": {"items": [{"type": "integer"}]},
            "properties": {"open": {"additionalProperties": true}, "shut": {"additionalProperties": false},
                "map": {"additionalProperties": {"type": "string"}}},
            "dependencies": {"a": ["b"]}, "x-kubernetes-int-or-string": true,
        })
    );
    let bad = crd(&[message(8, &[field(1, "{")])]);
    assert_eq!(error(&bad), "unexpected end of JSON input");
}

#[test]
fn delete_options_are_a_kind_of_every_version() {
    let options = [int(1, 0), message(2, &[field(1, "u-1")]), field(4, "Orphan"), field(5, "All")];
    assert_eq!(
        object("apps/v1", "DeleteOptions", &options),
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": "u-1"}, "propagationPolicy": "Orphan", "dryRun": ["All"]})
    );
}

#[test]
fn a_body_without_a_kind_is_of_the_kind_expected() {
    let body = frame("", "", &[message(2, &[field(1, "k"), field(2, "v")])]);
    let expected = GroupVersion::new("", "v1").with_kind("ConfigMap");
    assert_eq!(
        decode(&body, &expected).unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}})
    );
    assert!(error(&body).starts_with("Object 'Kind' is missing"));
}

#[test]
fn a_message_given_twice_is_merged() {
    let parts = [message(1, &[field(1, "a"), field(3, "ns")]), message(1, &[field(1, "b")])];
    assert_eq!(object("v1", "ConfigMap", &parts)["metadata"], json!({"name": "b", "namespace": "ns"}));
}

#[test]
fn malformed_bodies_are_refused_in_the_words_of_the_go_decoder() {
    assert_eq!(error(b""), "empty data");
    assert_eq!(error(b"k8s\0"), "empty body");
    assert_eq!(
        error(b"{\"kind\":\"Pod\"}"),
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
    assert_eq!(error(b"k8s\0\x0a\x7f"), "unexpected EOF");
    assert_eq!(
        error(&frame("apps/v7", "Deployment", &[])),
        "no kind \"Deployment\" is registered for version \"apps/v7\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    );
    let text_as_number = frame("apps/v1", "Deployment", &[message(2, &[field(1, "3")])]);
    assert_eq!(error(&text_as_number), "proto: wrong wireType = 2 for field Replicas");
    assert_eq!(
        error(&frame("v1", "ConfigMap", &[int(1, 3)])),
        "proto: wrong wireType = 0 for field Metadata"
    );
    assert_eq!(error(&frame("v1", "ConfigMap", &[vec![0x7c]])), "proto: unexpected end of group");
}

#[test]
fn nesting_is_bounded() {
    let mut schema = field(5, "string");
    for _ in 0..5_000 {
        schema = field(28, &schema);
    }
    assert_eq!(error(&crd(&[schema])), "exceeded max depth");
}

/// Bytes that look like messages more often than chance would have it.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        Just(b"{\"a\":1}".to_vec()),
        Just(b"Pod".to_vec()),
        Just(b"v1".to_vec())
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        let part = prop_oneof![
            (1_u32..46, inner).prop_map(|(number, value)| field(number, value)),
            (1_u32..46, any::<i64>()).prop_map(|(number, value)| int(number, value)),
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(raw in messages(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for (api_version, kind) in [
            ("v1", "Pod"),
            ("v1", "PersistentVolume"),
            ("apps/v1", "StatefulSet"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            ("authorization.k8s.io/v1", "SubjectAccessReview"),
            ("resource.k8s.io/v1", "ResourceSlice"),
            ("coordination.k8s.io/v1", "Lease"),
        ] {
            let _ = decode(&frame(api_version, kind, std::slice::from_ref(&raw)), &GroupVersionKind::default());
            let _ = decode(&frame(api_version, kind, std::slice::from_ref(&bytes)), &GroupVersionKind::default());
        }
        let _ = decode(&[PREFIX, &raw].concat(), &GroupVersionKind::default());
        let _ = decode(&[PREFIX, &bytes].concat(), &GroupVersionKind::default());
        let _ = decode(&bytes, &GroupVersionKind::default());
    }
}
