//! Ingresses and IngressClasses.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, metadata, names_of, service};

const SPEC: Path<'static> = Path::new("spec");
const CLASS: &str = "kubernetes.io/ingress.class";

fn host(host: &str, path: &Path<'_>, e: &mut Errors) {
    if host.contains('*') {
        e.each(path, host, names::is_wildcard_dns1123_subdomain(host));
    } else {
        checks::subdomain(host, path, e);
    }
}

fn spec(spec: &Value, any_secret: bool, e: &mut Errors) {
    let (rules, backend) = (spec.items("rules"), spec.some("defaultBackend"));
    if rules.is_empty() && backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        e.invalid(&SPEC, spec.sub("rules").clone(), detail);
    }
    if let Some(backend) = backend {
        self::backend(backend, &SPEC.child("defaultBackend"), e);
    }
    let list = SPEC.child("rules");
    for (i, rule) in rules.iter().enumerate() {
        let item = list.index(i);
        let name = rule.text("host");
        if !name.is_empty() {
            if checks::parse_ip(name).is_some() {
                e.invalid(&item.child("host"), name, "must be a DNS name, not an IP address");
            }
            host(name, &item.child("host"), e);
        }
        if let Some(http) = rule.some("http") {
            http_rule(http, &item.child("http"), e);
        }
    }
    let list = SPEC.child("tls");
    for (i, tls) in spec.items("tls").iter().enumerate() {
        let item = list.index(i);
        let hosts = item.child("hosts");
        for (i, name) in tls.strings("hosts").into_iter().enumerate() {
            host(name, &hosts.index(i), e);
        }
        let secret = tls.text("secretName");
        if !secret.is_empty() && !any_secret {
            checks::subdomain(secret, &item.child("secretName"), e);
        }
    }
    if let Some(class) = spec.opt_text("ingressClassName") {
        checks::subdomain(class, &SPEC.child("ingressClassName"), e);
    }
}

fn http_rule(http: &Value, path: &Path<'_>, e: &mut Errors) {
    let list = path.child("paths");
    let paths = http.items("paths");
    if paths.is_empty() {
        e.required(&list, "");
    }
    for (i, rule) in paths.iter().enumerate() {
        http_path(rule, &list.index(i), e);
    }
}

fn http_path(rule: &Value, path: &Path<'_>, e: &mut Errors) {
    let (text, text_path) = (rule.text("path"), path.child("path"));
    let Some(kind) = rule.opt_text("pathType") else {
        return e.required(&path.child("pathType"), "pathType must be specified");
    };
    match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                e.invalid(&text_path, text, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|bad| text.contains(bad)) {
                e.invalid(&text_path, text, format!("must not contain '{bad}'"));
            }
            for bad in ["/..", "/."].into_iter().filter(|bad| text.ends_with(bad)) {
                e.invalid(&text_path, text, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                e.invalid(&text_path, text, "must be an absolute path");
            }
        }
        _ => e.not_supported(&path.child("pathType"), kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(rule.sub("backend"), &path.child("backend"), e);
}

fn backend(backend: &Value, path: &Path<'_>, e: &mut Errors) {
    match (backend.some("resource"), backend.some("service")) {
        (Some(_), Some(_)) => e.invalid(path, "", "cannot set both resource and service backends"),
        (Some(resource), None) => reference(resource, &path.child("resource"), e),
        (None, Some(service)) => {
            let service_path = path.child("service");
            match service.text("name") {
                "" => e.required(&service_path.child("name"), ""),
                name => e.each(&service_path.child("name"), name, names::name_is_label(name, false)),
            }
            let port = service.sub("port");
            let port_path = service_path.child("port");
            match (port.text("name"), port.int("number")) {
                ("", 0) => e.required(path, "port name or number is required"),
                ("", number) => checks::port(number, &port_path.child("number"), e),
                (name, 0) => e.each(&port_path.child("name"), name, names::is_port_name(name)),
                _ => e.invalid(path, "", "cannot set both port name & port number"),
            }
        }
        (None, None) => e.invalid(path, "", "resource or service backend is required"),
    }
}

/// An object of the same namespace, by group, kind and name.
fn reference(reference: &Value, path: &Path<'_>, e: &mut Errors) {
    if let Some(group) = reference.opt_text("apiGroup") {
        checks::subdomain(group, &path.child("apiGroup"), e);
    }
    for field in ["kind", "name"] {
        match reference.text(field) {
            "" => e.required(&path.child(field), ""),
            value => e.each(&path.child(field), value, names::is_path_segment_name(value)),
        }
    }
}

pub(super) fn create(ingress: &Value, e: &mut Errors) {
    metadata::create(ingress, true, names::name_is_subdomain, e);
    spec(ingress.sub("spec"), false, e);
    let class = ingress.sub("spec").opt_text("ingressClassName");
    if let (Some(old), Some(class)) = (metadata::annotation(ingress, CLASS), class)
        && old != class
    {
        let annotations = Path::new("annotations");
        e.invalid(&annotations.child(CLASS), old, "must match `ingressClassName` when both are specified");
    }
}

pub(super) fn update(ingress: &Value, old: &Value, e: &mut Errors) {
    metadata::update(ingress, old, e);
    metadata::create(ingress, true, names::name_is_subdomain, e);
    let bad = |tls: &Value| {
        let name = tls.text("secretName");
        !name.is_empty() && !names::name_is_subdomain(name, false).is_empty()
    };
    spec(ingress.sub("spec"), old.sub("spec").items("tls").iter().any(bad), e);
}

pub(super) fn status(ingress: &Value, old: &Value, e: &mut Errors) {
    metadata::update(ingress, old, e);
    let status_path = Path::new("status");
    let status = |object: &Value| object.sub("status").sub("loadBalancer").clone();
    service::load_balancer_status(
        &status(ingress),
        &status(old),
        None,
        &status_path.child("loadBalancer"),
        e,
    );
}

pub(super) fn class_create(class: &Value, e: &mut Errors) {
    metadata::create(class, false, names::name_is_subdomain, e);
    let spec = class.sub("spec");
    let (controller, path) = (spec.text("controller"), SPEC.child("controller"));
    if controller.len() > 250 {
        e.too_long(&path, 250);
    }
    names_of::domain_prefixed_path(controller, &path, e);
    let Some(parameters) = spec.some("parameters") else { return };
    let path = SPEC.child("parameters");
    reference(parameters, &path, e);
    let namespace_path = path.child("namespace");
    match (parameters.opt_text("scope"), parameters.opt_text("namespace")) {
        (None, _) => e.required(&path.child("scope"), ""),
        (Some("Namespace"), None) => e.required(&namespace_path, "`parameters.scope` is set to 'Namespace'"),
        (Some("Namespace"), Some(namespace)) => checks::namespace_name(namespace, &namespace_path, e),
        (Some("Cluster"), Some(_)) => e.forbidden(&namespace_path, "`parameters.scope` is set to 'Cluster'"),
        (Some("Cluster"), None) => {}
        (Some(other), _) => e.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

pub(super) fn class_update(class: &Value, old: &Value, e: &mut Errors) {
    metadata::update(class, old, e);
    checks::immutable_field(class.sub("spec"), old.sub("spec"), "controller", &SPEC, e);
    class_create(class, e);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn a_backend_is_a_service_or_a_resource() {
        let texts = errors::texts(|e| {
            backend(&json!({}), &Path::new("b"), e);
            backend(&json!({"service": {"port": {"name": "a", "number": 1}}}), &Path::new("b"), e);
        });
        assert_eq!(
            texts,
            [
                r#"b: Invalid value: "": resource or service backend is required"#,
                "b.service.name: Required value",
                r#"b: Invalid value: "": cannot set both port name & port number"#,
            ]
        );
    }

    #[test]
    fn an_ingress_routes_something() {
        let texts =
            errors::texts(|e| create(&json!({"metadata": {"name": "i", "namespace": "n"}, "spec": {}}), e));
        assert_eq!(
            texts,
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]
        );
    }
}
