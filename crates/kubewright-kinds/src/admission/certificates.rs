//! `CertificateApproval`, `CertificateSigning` and `CertificateSubjectRestriction`: who decides about requests to be signed
//! needs the verb for their signer, and nobody gets into `system:masters` by a certificate.

use base64::Engine as _;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::authz;
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::field::quote;
use kubewright_machinery::status::Status;
use serde_json::Value;

use crate::fields::{at, text};

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";

fn concerns(attributes: &Attributes<'_>, subresource: &str) -> bool {
    *attributes.resource.group == *GROUP
        && *attributes.resource.plural == *PLURAL
        && attributes.subresource_name() == subresource
}

/// Who approves or denies needs the verb `approve` on the signer.
#[derive(Clone, Copy, Debug)]
pub struct CertificateApproval;

impl Admission for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if !concerns(attributes, "approval") {
            return ready(Ok(()));
        }
        Box::pin(decide(attributes, "approve"))
    }
}

/// Who signs, or says why not, needs the verb `sign` on the signer.
#[derive(Clone, Copy, Debug)]
pub struct CertificateSigning;

impl Admission for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let (Some(new), Some(old)) = (&attributes.object, &attributes.old) else { return ready(Ok(())) };
        let same = |field: &str| at(new, &["status", field]) == at(old, &["status", field]);
        if !concerns(attributes, "status") || (same("certificate") && same("conditions")) {
            return ready(Ok(()));
        }
        Box::pin(decide(attributes, "sign"))
    }
}

async fn decide(attributes: &Attributes<'_>, verb: &str) -> Result<(), Status> {
    let Some(old) = &attributes.old else { return Ok(()) };
    let signer = text(old, &["spec", "signerName"]);
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer, &format!("{domain}/*")] {
        let question = authz::Attributes {
            name: name.into(),
            ..authz::Attributes::of_resource(attributes.user, verb, GROUP, "*", "signers")
        };
        if authz::exercise_if_granted(attributes.core, &question).await {
            return Ok(());
        }
    }
    Err(attributes
        .forbidden(format!("user not permitted to {verb} requests with signerName {}", quote(signer))))
}

/// Requests to the signer of API clients may not be for `system:masters`.
#[derive(Clone, Copy, Debug)]
pub struct CertificateSubjectRestriction;

impl Admission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
        let Some(object) = &attributes.object else { return ready(Ok(())) };
        if !concerns(attributes, "") || text(object, &["spec", "signerName"]) != SIGNER {
            return ready(Ok(()));
        }
        let why = format!("use of {SIGNER} signer with system:masters group is not allowed");
        ready(if asks_for_masters(at(object, &["spec", "request"])) {
            Err(attributes.forbidden(why))
        } else {
            Ok(())
        })
    }
}

/// Whether the subject of a request (PEM, in base64) has the organization `system:masters`. What cannot be read has
/// not: validation refuses it.
fn asks_for_masters(request: &Value) -> bool {
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let Some(pem) = request.as_str().and_then(decode) else { return false };
    let body: String = String::from_utf8_lossy(&pem)
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .map(str::trim)
        .collect();
    decode(&body)
        .is_some_and(|der| organizations(&der).is_some_and(|all| all.contains(&&b"system:masters"[..])))
}

/// The organizations in the subject of a PKCS#10 request.
fn organizations(der: &[u8]) -> Option<Vec<&[u8]>> {
    /// id-at-organizationName, 2.5.4.10.
    const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];
    let (request, _) = element(der)?;
    let (information, _) = element(request)?;
    let (_version, rest) = element(information)?;
    let (subject, _) = element(rest)?;
    let mut found = Vec::new();
    for set in elements(subject) {
        for attribute in elements(set) {
            let mut parts = elements(attribute);
            if let (Some(kind), Some(value)) = (parts.next(), parts.next())
                && kind == ORGANIZATION
            {
                found.push(value);
            }
        }
    }
    Some(found)
}

/// The contents of the DER elements that follow one another.
fn elements(mut der: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (content, rest) = element(der)?;
        der = rest;
        Some(content)
    })
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(b, _)| b.len() <= 4)?;
        (bytes.iter().fold(0usize, |n, b| n << 8 | usize::from(*b)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_asks_for_nobody() {
        for text in ["", "!", "bm9uc2Vuc2U="] {
            assert!(!asks_for_masters(&text.into()));
        }
        assert_eq!(organizations(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(organizations(&[0x30]), None);
    }
}
