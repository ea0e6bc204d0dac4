//! CertificateSigningRequests. Whether a request is well signed is checked where certificates are parsed;
//! here its PEM is.

use base64::Engine as _;
use kubewright_machinery::field::{self, Path};
use serde_json::Value;

use super::errors::Errors;
use super::read::{Fields, same};
use super::workloads::SPEC;
use super::{metadata, names_of};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const SHORTEST_SECONDS: i64 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const STATUS: Path<'static> = Path::new("status");

/// What a write may change, by the endpoint it goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Main,
    Status,
    Approval,
}

pub(super) fn create(request: &Value, e: &mut Errors) {
    check(request, None, e);
}

fn check(request: &Value, old: Option<&Value>, e: &mut Errors) {
    metadata::create(request, false, |_, _| Vec::new(), e);
    let spec = request.sub("spec");
    let path = SPEC.child("request");
    if pem_blocks(&decode(spec.text("request"))).first().map(|b| b.kind.as_str())
        != Some("CERTIFICATE REQUEST")
    {
        e.invalid(&path, spec.sub("request").clone(), "PEM block type must be CERTIFICATE REQUEST");
    }
    let list = SPEC.child("usages");
    let usages = spec.strings("usages");
    if usages.is_empty() {
        e.required(&list, "");
    }
    let old_usages = old.map(|o| o.sub("spec").strings("usages")).unwrap_or_default();
    if old_usages.iter().all(|usage| USAGES.contains(usage)) {
        for (i, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage)) {
            e.not_supported(&list.index(i), *usage, &USAGES);
        }
    }
    if !has_twins(&old_usages) {
        for (i, usage) in usages.iter().enumerate().filter(|(i, usage)| usages[..*i].contains(usage)) {
            e.duplicate(&list.index(i), *usage);
        }
    }
    let signer = spec.text("signerName");
    if signer == LEGACY_SIGNER && old.is_none_or(|old| old.sub("spec").text("signerName") != LEGACY_SIGNER) {
        let detail = "the legacy signerName is not allowed via this API version";
        e.invalid(&SPEC.child("signerName"), signer, detail);
    } else {
        names_of::signer(signer, &SPEC.child("signerName"), e);
    }
    if let Some(seconds) = spec.opt_int("expirationSeconds").filter(|s| *s < SHORTEST_SECONDS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        e.invalid(&SPEC.child("expirationSeconds"), seconds, detail);
    }
    let status = request.sub("status");
    let old_types = old.map(types).unwrap_or_default();
    conditions(status.items("conditions"), &old_types, &STATUS.child("conditions"), e);
    let old_certificate = old.map(|old| old.sub("status").text("certificate"));
    let certificate = status.text("certificate");
    if old_certificate != Some(certificate)
        && old_certificate.is_none_or(|old| fault(old).is_none())
        && let Some(fault) = fault(certificate)
    {
        e.invalid(&STATUS.child("certificate"), "<certificate data>", fault);
    }
}

fn types(request: &Value) -> Vec<&str> {
    request.sub("status").items("conditions").iter().map(|c| c.text("type")).collect()
}

fn has_twins(list: &[&str]) -> bool {
    list.iter().enumerate().any(|(i, item)| list[..i].contains(item))
}

/// `old_types` are the types of the stored conditions: faults they have already are let through.
fn conditions(conditions: &[Value], old_types: &[&str], path: &Path<'_>, e: &mut Errors) {
    let excluded = old_types.contains(&"Approved") && old_types.contains(&"Denied");
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let (item, kind) = (path.index(i), condition.text("type"));
        if kind.is_empty() && !old_types.contains(&"") {
            e.required(&item.child("type"), "");
        }
        let decision = matches!(kind, "Approved" | "Denied" | "Failed");
        let statuses: &[&str] = if decision { &["True"] } else { &["False", "True", "Unknown"] };
        match condition.text("status") {
            "" => e.required(&item.child("status"), ""),
            status if !statuses.contains(&status) => e.not_supported(&item.child("status"), status, statuses),
            _ => {}
        }
        let opposite = match kind {
            "Approved" => Some("Denied"),
            "Denied" => Some("Approved"),
            _ => None,
        };
        if !excluded && opposite.is_some_and(|opposite| seen.contains(&opposite)) {
            e.invalid(path, kind, "Approved and Denied conditions are mutually exclusive");
        }
        if seen.contains(&kind) && !has_twins(old_types) {
            e.duplicate(&item.child("type"), kind);
        }
        seen.push(kind);
    }
}

pub(super) fn update(request: &Value, old: &Value, via: Via, e: &mut Errors) {
    check(request, Some(old), e);
    let path = STATUS.child("conditions");
    let of = |object: &Value, kind: &str| -> Vec<Value> {
        let list = object.sub("status").items("conditions").iter();
        list.filter(|c| c.text("type") == kind).cloned().collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if of(request, kind).len() < of(old, kind).len() {
            let kind = field::quote(kind);
            e.forbidden(&path, format!("updates may not remove a condition of type {kind}"));
        }
    }
    if via != Via::Approval {
        for kind in ["Approved", "Denied"] {
            let (new, old, kind) = (of(request, kind), of(old, kind), field::quote(kind));
            if new.len() > old.len() {
                e.forbidden(&path, format!("updates may not add a condition of type {kind}"));
            } else if new.len() == old.len() && !new.iter().zip(&old).all(|(a, b)| same(a, b)) {
                e.forbidden(&path, format!("updates may not modify a condition of type {kind}"));
            }
        }
    }
    let (new, stored) = (request.sub("status").text("certificate"), old.sub("status").text("certificate"));
    if new != stored {
        let path = STATUS.child("certificate");
        if via != Via::Status {
            e.forbidden(&path, "updates may not set certificate content");
        } else if !stored.is_empty() {
            e.forbidden(&path, "updates may not modify existing certificate content");
        }
    }
    metadata::update(request, old, e);
}

fn decode(text: &str) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Block {
    kind: String,
    has_headers: bool,
}

/// The blocks of a PEM text; what is between them is skipped.
fn pem_blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines().map(str::trim_end) {
        let begin = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        if let Some(kind) = begin {
            open = Some(Block { kind: kind.to_string(), has_headers: false });
        } else if let Some(kind) = line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----"))
        {
            blocks.extend(open.take().filter(|block| block.kind == kind));
        } else if let Some(block) = &mut open {
            block.has_headers |= line.contains(':');
        }
    }
    blocks
}

/// What the blocks of a PEM text are.
pub(crate) fn pem_kinds(text: &str) -> Vec<String> {
    pem_blocks(text).into_iter().map(|block| block.kind).collect()
}

/// What is wrong with an issued certificate, in base64.
fn fault(certificate: &str) -> Option<String> {
    if certificate.is_empty() {
        return None;
    }
    let blocks = pem_blocks(&decode(certificate));
    for block in &blocks {
        if block.kind != "CERTIFICATE" {
            let kind = field::quote(&block.kind);
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {kind}"));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".to_string());
        }
    }
    blocks.is_empty().then(|| "must contain at least one CERTIFICATE PEM block".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;
    use serde_json::json;

    fn request(status: Value) -> Value {
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        let pem = base64::engine::general_purpose::STANDARD.encode(pem);
        json!({"metadata": {"name": "r", "resourceVersion": "1"}, "status": status,
            "spec": {"request": pem, "usages": ["client auth"], "signerName": "a.b/c"}})
    }

    #[test]
    fn a_request_is_pem() {
        assert!(texts(|e| create(&request(json!({})), e)).is_empty());
        let mut bad = request(json!({}));
        bad["spec"]["request"] = json!("bm9uc2Vuc2U=");
        assert_eq!(
            texts(|e| create(&bad, e)),
            [r#"spec.request: Invalid value: "bm9uc2Vuc2U=": PEM block type must be CERTIFICATE REQUEST"#]
        );
    }

    #[test]
    fn decisions_are_made_through_approval_and_stay() {
        let approved = request(json!({"conditions": [{"type": "Approved", "status": "True"}]}));
        let open = request(json!({}));
        assert!(texts(|e| update(&approved, &open, Via::Approval, e)).is_empty());
        assert_eq!(
            texts(|e| update(&approved, &open, Via::Status, e)),
            [r#"status.conditions: Forbidden: updates may not add a condition of type "Approved""#]
        );
        assert_eq!(
            texts(|e| update(&open, &approved, Via::Approval, e)),
            [r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#]
        );
    }
}
