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
    let domain_messages = names::is_dns1123_subdomain(domain);
    let at_least_two = domain.split('.').count() >= 2;
    for message in domain_messages {
        e.invalid(path, name, format!("validating label \"{domain}\": {message}"));
    }
    if !at_least_two {
        e.invalid(path, name, "should be a domain with at least two segments separated by dots");
    }
    for part in rest.split('.') {
        for message in names::is_dns1123_label(part) {
            e.invalid(path, name, format!("validating label \"{part}\": {message}"));
        }
    }
    let limit = 253 + 1 + 63;
    if name.len() > limit {
        e.too_long(path, limit);
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
