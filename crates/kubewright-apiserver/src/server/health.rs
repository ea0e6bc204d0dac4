//! `/healthz`, `/livez`, `/readyz` and their single checks, `/version`, `/metrics` and the list of paths at `/`.

use http::Method;
use http::header::HeaderValue;
use kubewright_machinery::status::Status;
use serde_json::json;

use super::{Core, Response, respond};
use crate::request::{Output, RequestInfo};
use crate::resources::Table;

/// One check: its name and whether it holds.
type Check = (&'static str, bool);

/// Answers a path that is about the server itself; `None` for any other path.
pub(super) async fn serve(
    core: &Core,
    table: &Table,
    info: &RequestInfo,
    method: &Method,
) -> Option<Result<Response, Status>> {
    let path = info.path.trim_end_matches('/');
    let (root, check) = match path.trim_start_matches('/').split_once('/') {
        Some((root, check)) => (root, Some(check)),
        None => (path.trim_start_matches('/'), None),
    };
    let pretty = Output { pretty: true, ..Output::default() };
    let answer = match (root, check) {
        ("healthz" | "livez" | "readyz", check) => health(core, root, check, info).await,
        ("version", None) if !matches!(*method, Method::GET | Method::HEAD) => {
            return Some(Err(Status::method_not_allowed()));
        }
        ("version", None) => respond::value(200, pretty, &version(core)),
        ("metrics", None) => metrics(core, table),
        ("" | "index.html", None) => respond::value(200, pretty, &paths(table)),
        _ => return None,
    };
    Some(Ok(answer))
}

async fn health(core: &Core, root: &str, only: Option<&str>, info: &RequestInfo) -> Response {
    let stored = core.store().revision().await.is_ok();
    let mut checks: Vec<Check> = vec![("ping", true), ("log", true), ("etcd", stored)];
    if root == "readyz" {
        checks.push(("shutdown", !core.is_going()));
    }
    if let Some(only) = only {
        return match checks.iter().find(|(name, _)| *name == only) {
            Some((_, true)) => respond::text(200, "ok"),
            Some((_, false)) => respond::text(500, "internal server error: failed\n"),
            None => respond::not_found_text(),
        };
    }
    let excluded: Vec<&str> = info.query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for (name, holds) in checks {
        let line = if excluded.contains(&name) {
            format!("[+]{name} excluded: ok\n")
        } else if holds {
            format!("[+]{name} ok\n")
        } else {
            failed = true;
            format!("[-]{name} failed: reason withheld\n")
        };
        lines.push_str(&line);
    }
    let unknown = excluded.iter().filter(|e| !matches!(**e, "ping" | "log" | "etcd" | "shutdown"));
    let unknown: Vec<String> = unknown.map(|e| format!("{e:?}")).collect();
    if !unknown.is_empty() {
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
        ));
    }
    if failed {
        return respond::text(500, format!("{lines}{root} check failed\n"));
    }
    if info.query.get("verbose").is_some() {
        return respond::text(200, format!("{lines}{root} check passed\n"));
    }
    respond::text(200, "ok")
}

fn version(core: &Core) -> serde_json::Value {
    let version = &core.config().version;
    json!({
        "major": version.major,
        "minor": version.minor,
        "gitVersion": version.git_version,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "gc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn metrics(core: &Core, table: &Table) -> Response {
    let served = core.requests_served();
    let dropped = core.config().audit.as_ref().map_or(0, crate::audit::Auditor::dropped);
    let mut body = format!(
        "# HELP apiserver_audit_error_total Audit events that were lost.\n# TYPE apiserver_audit_error_total counter\n\
         apiserver_audit_error_total {dropped}\n# HELP apiserver_requests Requests answered since the start.\n# TYPE apiserver_requests counter\n\
         apiserver_requests {served}\n# HELP apiserver_resources Resources served now.\n\
         # TYPE apiserver_resources gauge\napiserver_resources {}\n",
        table.resources().len()
    );
    let counts = core.fairness().counts();
    for (name, help, of) in [
        ("apiserver_flowcontrol_current_executing_requests", "Requests that run.", 0),
        ("apiserver_flowcontrol_current_inqueue_requests", "Requests that wait for a seat.", 1),
    ] {
        body.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for (level, running, waiting) in &counts {
            let count = if of == 0 { running } else { waiting };
            body.push_str(&format!("{name}{{priority_level=\"{level}\"}} {count}\n"));
        }
    }
    respond::with(200, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"), body)
}

fn paths(table: &Table) -> serde_json::Value {
    let mut paths: std::collections::BTreeSet<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/healthz",
        "/healthz/etcd",
        "/healthz/log",
        "/healthz/ping",
        "/livez",
        "/livez/etcd",
        "/livez/log",
        "/livez/ping",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/readyz/etcd",
        "/readyz/log",
        "/readyz/ping",
        "/readyz/shutdown",
        "/version",
    ]
    .into_iter()
    .map(String::from)
    .collect();
    for resource in table.resources().iter().filter(|r| !r.group.is_empty()) {
        paths.insert(format!("/apis/{}", resource.group));
        paths.insert(format!("/apis/{}/{}", resource.group, resource.version));
    }
    json!({ "paths": paths })
}
