//! Probes and lifecycle hooks of containers.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::checks;
use super::errors::Errors;
use super::read::Fields;

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Which probe it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Liveness,
    Readiness,
    Startup,
}

/// A probe, if set.
pub(super) fn probe(container: &Value, kind: Kind, grace: Option<i64>, path: &Path<'_>, e: &mut Errors) {
    let name = match kind {
        Kind::Liveness => "livenessProbe",
        Kind::Readiness => "readinessProbe",
        Kind::Startup => "startupProbe",
    };
    let Some(probe) = container.some(name) else { return };
    let path = &path.child(name);
    handler(probe, grace, path, e);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        checks::non_negative(probe.int(field), &path.child(field), e);
    }
    let grace_path = path.child("terminationGracePeriodSeconds");
    let own_grace = probe.opt_int("terminationGracePeriodSeconds");
    if let Some(seconds) = own_grace.filter(|s| *s <= 0) {
        e.invalid(&grace_path, seconds, "must be greater than 0");
    }
    match kind {
        Kind::Readiness => {
            if let Some(seconds) = own_grace {
                e.invalid(&grace_path, seconds, "must not be set for readinessProbes");
            }
        }
        Kind::Liveness | Kind::Startup => {
            if probe.int("successThreshold") != 1 {
                e.invalid(&path.child("successThreshold"), probe.int("successThreshold"), "must be 1");
            }
        }
    }
}

/// All three probes, in the order of their checks.
pub(super) fn probes(container: &Value, grace: Option<i64>, path: &Path<'_>, e: &mut Errors) {
    for kind in [Kind::Liveness, Kind::Readiness, Kind::Startup] {
        probe(container, kind, grace, path, e);
    }
}

const SIGNALS_WINDOWS: [&str; 2] = ["SIGTERM", "SIGKILL"];

/// The hooks of a container, if set; `os` is the name of the pod's operating system.
pub(super) fn lifecycle(container: &Value, grace: Option<i64>, os: &str, path: &Path<'_>, e: &mut Errors) {
    let Some(lifecycle) = container.some("lifecycle") else { return };
    let path = &path.child("lifecycle");
    for hook in ["postStart", "preStop"] {
        if let Some(found) = lifecycle.some(hook) {
            handler(found, grace, &path.child(hook), e);
        }
    }
    if let Some(signal) = lifecycle.opt_text("stopSignal") {
        let path = &path.child("stopSignal");
        match os {
            "" => e.forbidden(path, "may not be set for containers with empty `spec.os.name`"),
            "windows" if !SIGNALS_WINDOWS.contains(&signal) => {
                e.not_supported(path, signal, &["SIGKILL", "SIGTERM"])
            }
            _ => {}
        }
    }
}

fn handler(handler: &Value, grace: Option<i64>, path: &Path<'_>, e: &mut Errors) {
    let mut found = false;
    for kind in HANDLERS {
        let Some(action) = handler.some(kind) else { continue };
        let path = &path.child(kind);
        if found {
            e.forbidden(path, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match kind {
            "exec" => {
                if action.items("command").is_empty() {
                    e.required(&path.child("command"), "");
                }
            }
            "httpGet" => http_get(action, path, e),
            "sleep" => {
                let seconds = action.int("seconds");
                if let Some(grace) = grace.filter(|g| seconds < 0 || seconds > *g) {
                    let detail =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    e.invalid(path, seconds, detail);
                }
            }
            _ => checks::port_or_name(action.sub("port"), &path.child("port"), e),
        }
    }
    if !found {
        e.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path<'_>, e: &mut Errors) {
    if action.text("path").is_empty() {
        e.required(&path.child("path"), "");
    }
    checks::port_or_name(action.sub("port"), &path.child("port"), e);
    let scheme = action.text("scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        e.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in action.items("httpHeaders") {
        let name = header.text("name");
        e.each(&path.child("httpHeaders"), name, names::is_http_header_name(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn texts(container: &Value) -> Vec<String> {
        errors::texts(|e| {
            probes(container, Some(30), &Path::new("c"), e);
            lifecycle(container, Some(30), "", &Path::new("c"), e);
        })
    }

    #[test]
    fn a_probe_has_exactly_one_handler() {
        let c = json!({"livenessProbe": {"successThreshold": 1}});
        assert_eq!(texts(&c), ["c.livenessProbe: Required value: must specify a handler type"]);
        let c = json!({"livenessProbe": {"successThreshold": 1, "exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}});
        assert_eq!(
            texts(&c),
            ["c.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]
        );
    }

    #[test]
    fn liveness_needs_one_success_and_readiness_no_grace_period() {
        let probe =
            json!({"tcpSocket": {"port": 80}, "successThreshold": 2, "terminationGracePeriodSeconds": 5});
        assert_eq!(
            texts(&json!({"livenessProbe": probe, "readinessProbe": probe})),
            [
                "c.livenessProbe.successThreshold: Invalid value: 2: must be 1",
                "c.readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ]
        );
    }

    #[test]
    fn a_sleep_ends_within_the_grace_period() {
        let c = json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}});
        assert_eq!(
            texts(&c),
            [
                "c.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"
            ]
        );
    }
}
