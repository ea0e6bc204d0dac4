//! How a webhook is reached (`clientConfig` of conversion and admission webhooks): validation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::field::{Error, Path};
use crate::names;

const FORM: &str = "; desired format: https://host[/path]";

/// The faults of a webhook's URL: only https, a host, and nothing but a path.
pub fn url(path: &Path<'_>, url: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(fault) = malformed(url) {
        let detail = format!("url must be a valid URL: parse {url:?}: {fault}{FORM}");
        return vec![Error::required(path, detail)];
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_lowercase(), rest),
        _ => (String::new(), rest),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.strip_prefix("//").map_or("", |rest| rest.split('/').next().unwrap_or(""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(Error::invalid(path, scheme, detail));
    }
    if host.is_empty() {
        errors.push(Error::invalid(path, host, format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        errors.push(Error::invalid(path, user, "user information is not permitted in the URL"));
    }
    if !fragment.is_empty() {
        errors.push(Error::invalid(path, fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        errors.push(Error::invalid(path, query, "query parameters are not permitted in the URL"));
    }
    errors
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn malformed(url: &str) -> Option<&'static str> {
    if url.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Some("net/url: invalid control character in URL");
    }
    if url.starts_with(':') {
        return Some("missing protocol scheme");
    }
    let first = url.split(['/', '?', '#']).next().unwrap_or("");
    match first.split_once(':') {
        Some((scheme, _)) if !is_scheme(scheme) => Some("first path segment in URL cannot contain colon"),
        _ => None,
    }
}

/// The faults of a reference to a service. The arguments are as a real server passes them: what it calls name is the
/// namespace, and the other way round.
pub fn service(path: &Path<'_>, service: &Value, swapped: bool) -> Vec<Error> {
    let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or("");
    let mut errors = Vec::new();
    let (name, namespace) = if swapped { ("namespace", "name") } else { ("name", "namespace") };
    if text(name).is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    if text(namespace).is_empty() {
        errors.push(Error::required(&path.child("namespace"), ""));
    }
    let port = service.get("port").and_then(Value::as_i64).unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(Error::invalid(&path.child("port"), port, detail));
    }
    let Some(url_path) = service.get("path").and_then(Value::as_str) else { return errors };
    if url_path.is_empty() || url_path == "/" {
        return errors;
    }
    let path = path.child("path");
    let mut add = |detail: String| errors.push(Error::invalid(&path, url_path, detail));
    if url_path == "//" {
        add("segment[0] may not be empty".into());
        return errors;
    }
    if !url_path.starts_with('/') {
        add("must start with a '/'".into());
    }
    let rest: String = url_path.chars().skip(1).collect();
    for (i, segment) in rest.strip_suffix('/').unwrap_or(&rest).split('/').enumerate() {
        if segment.is_empty() {
            add(format!("segment[{i}] may not be empty"));
            continue;
        }
        names::is_dns1123_subdomain(segment).into_iter().for_each(|e| add(format!("segment[{i}]: {e}")));
    }
    errors
}

/// Whether a CA bundle (base64 of PEM) holds certificates. An empty one does: the system's are used then.
pub fn is_ca_bundle(bundle: &str) -> bool {
    let Ok(pem) = STANDARD.decode(bundle) else { return false };
    let pem = String::from_utf8_lossy(&pem);
    pem.is_empty()
        || (pem.contains("-----BEGIN CERTIFICATE-----") && pem.contains("-----END CERTIFICATE-----"))
}

/// The fault of a CA bundle that holds no certificate.
pub fn ca_bundle(path: &Path<'_>, bundle: &str) -> Option<Error> {
    let detail = "unable to load root certificates: unable to parse bytes as PEM block";
    (!is_ca_bundle(bundle)).then(|| Error::invalid(path, bundle, detail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_plain_https_urls_are_taken() {
        let says = |text: &str| -> Vec<String> {
            url(&Path::new("url"), text).iter().map(ToString::to_string).collect()
        };
        assert_eq!(says("https://example.com/convert"), Vec::<String>::new());
        assert_eq!(
            says("http://example.com"),
            [
                "url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]"
            ]
        );
        assert_eq!(says("https://u@h/?q#f").len(), 3);
        assert_eq!(says("https:///x").len(), 1);
    }

    #[test]
    fn service_references_are_complete() {
        let says = |value: Value| -> Vec<String> {
            service(&Path::new("s"), &value, false).iter().map(ToString::to_string).collect()
        };
        assert_eq!(says(json!({"name": "a", "namespace": "b", "path": "/c/d/"})), Vec::<String>::new());
        assert_eq!(
            says(json!({"port": 0, "path": "/a//b"})),
            [
                "s.name: Required value",
                "s.namespace: Required value",
                "s.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "s.path: Invalid value: \"/a//b\": segment[1] may not be empty",
            ]
        );
    }

    #[test]
    fn a_bundle_is_pem() {
        assert!(is_ca_bundle("") && !is_ca_bundle("aGk="));
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        assert!(is_ca_bundle(&STANDARD.encode(pem)));
    }
}
