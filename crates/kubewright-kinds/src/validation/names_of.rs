//! Names with rules of their own: signers, bundles of trust, CSI drivers, objects of events.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;

use super::errors::Errors;

/// `example.com/path`: the name of a signer of certificates.
pub(super) fn signer(name: &str, path: &Path<'_>, e: &mut Errors) {
    if name.is_empty() {
        return e.required(path, "");
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return e.invalid(path, name, detail);
    };
    if domain.len() > 253 {
        e.too_long(path, 253);
    }
    if let Some(label) = domain.split('.').find(|label| !names::is_dns1123_label(label).is_empty()) {
        for message in names::is_dns1123_label(label) {
            e.invalid(path, domain, format!("validating label \"{label}\": {message}"));
        }
    }
    if !domain.contains('.') {
        e.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    if let Some(label) = rest.split('.').find(|label| !names::is_dns1123_subdomain(label).is_empty()) {
        for message in names::is_dns1123_subdomain(label) {
            e.invalid(path, rest, format!("validating label \"{label}\": {message}"));
        }
    }
    let limit = 253 + 253 + 63 + 2;
    if name.len() > limit {
        e.too_long(path, limit);
    }
}

/// `example.com/some/path`: names of controllers.
pub(super) fn domain_prefixed_path(name: &str, path: &Path<'_>, e: &mut Errors) {
    if name.is_empty() {
        return e.required(path, "");
    }
    let Some((domain, rest)) =
        name.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        return e.invalid(path, name, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    e.each(path, domain, names::is_dns1123_subdomain(domain));
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-.~!$&'()*+,;=:@%".contains(&b)) {
        let message = names::regex_error("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
        e.invalid(path, rest, message);
    }
}

/// The name of a ClusterTrustBundle: begins with its signer, if it has one.
pub(super) fn cluster_trust_bundle(name: &str) -> Vec<String> {
    match name.rsplit_once(':') {
        Some((_, rest)) => names::name_is_subdomain(rest, false),
        None => names::name_is_subdomain(name, false),
    }
}

/// The name of a CSI driver.
pub(super) fn csi_driver(name: &str, path: &Path<'_>, e: &mut Errors) {
    if name.is_empty() {
        return e.required(path, "");
    }
    if name.len() > 63 {
        e.too_long(path, 63);
    }
    e.each(path, name, names::is_dns1123_subdomain(&name.to_lowercase()));
}
