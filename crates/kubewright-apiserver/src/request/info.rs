//! The URL and method of a request as the API reads them (`request.RequestInfo`).
//!
//! A path is split once. Whether anything serves it is decided later, by the resource table.

use http::Method;

use super::params::Query;

/// What a request is about.
#[derive(Clone, Debug, Default)]
pub struct RequestInfo {
    /// Whether this is for a resource: `/api/V/…` or `/apis/G/V/…`.
    pub is_resource: bool,
    /// The decoded path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; the lower-case
    /// method for a path that is no resource.
    pub verb: String,
    /// `api` or `apis`.
    pub prefix: String,
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace; empty for none. Of a Namespace itself: its name.
    pub namespace: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Name of the object; also from a field selector that names exactly one.
    pub name: String,
    /// The path from the resource on: resource, name, subresource, rest.
    pub parts: Vec<String>,
    /// Whether the deprecated `/watch/` prefix was used.
    pub watch_path: bool,
    /// Whether the path goes through `/namespaces/NAME/` to a resource in it.
    pub in_namespace: bool,
    /// The query.
    pub query: Query,
}

/// Subresources of namespaces: `/namespaces/NAME/status` is not a resource `status` in a namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads a method and a URI.
    pub fn new(method: &Method, uri: &http::Uri) -> Self {
        let path = percent_encoding::percent_decode_str(uri.path()).decode_utf8_lossy().into_owned();
        let query = Query::parse(uri.query().unwrap_or_default());
        let mut info = Self { verb: method.as_str().to_ascii_lowercase(), query, ..Self::default() };
        info.resolve(method, &path);
        info.path = path;
        info
    }

    fn resolve(&mut self, method: &Method, path: &str) {
        let trimmed = path.trim_matches('/');
        if trimmed.is_empty() {
            return;
        }
        let mut parts: &[&str] = &trimmed.split('/').collect::<Vec<_>>();
        if parts.len() < 3 || !matches!(parts[0], "api" | "apis") {
            return;
        }
        self.prefix = parts[0].to_string();
        parts = &parts[1..];
        if self.prefix == "apis" {
            if parts.len() < 3 {
                return;
            }
            self.group = parts[0].to_string();
            parts = &parts[1..];
        }
        self.is_resource = true;
        self.version = parts[0].to_string();
        parts = &parts[1..];
        if matches!(parts[0], "watch" | "proxy") && parts.len() > 1 {
            self.verb = parts[0].to_string();
            self.watch_path = parts[0] == "watch";
            parts = &parts[1..];
        } else {
            self.verb = match *method {
                Method::POST => "create",
                Method::GET | Method::HEAD => "get",
                Method::PUT => "update",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "",
            }
            .to_string();
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace = parts[1].to_string();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2]) {
                parts = &parts[2..];
                self.in_namespace = true;
            }
        }
        self.resource = parts[0].to_string();
        if let Some(name) = parts.get(1) {
            self.name = (*name).to_string();
        }
        if let Some(subresource) = parts.get(2)
            && !matches!(&*self.verb, "watch" | "proxy")
        {
            self.subresource = (*subresource).to_string();
        }
        self.parts = parts.iter().map(|p| (*p).to_string()).collect();
        if self.name.is_empty() && self.verb == "get" {
            self.verb = if self.query.flag("watch") { "watch" } else { "list" }.to_string();
            if let Some(name) = self.query.get("fieldSelector").and_then(name_of_selector) {
                self.name = name;
            }
        } else if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".to_string();
        }
    }

    /// Whether the path itself names an object (the name does not come from a field selector).
    pub fn has_name_in_path(&self) -> bool {
        self.parts.len() > 1
    }

    /// Whether the selectors of the query count for authorization.
    pub fn has_selectors(&self) -> bool {
        !self.watch_path && matches!(&*self.verb, "list" | "watch" | "deletecollection")
    }

    /// Whether the request may go on for long: it is not counted among those in flight.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(&*self.subresource, "attach" | "exec" | "proxy" | "log" | "portforward")
            || self.verb == "proxy"
    }
}

fn name_of_selector(text: &str) -> Option<String> {
    let selector = kubewright_machinery::selector::FieldSelector::parse(text).ok()?;
    let name = selector.exact_value("metadata.name")?;
    kubewright_machinery::names::is_path_segment_name(name).is_empty().then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, uri: &str) -> RequestInfo {
        RequestInfo::new(&method, &uri.parse().unwrap())
    }

    #[test]
    fn paths_are_resolved_as_the_real_server_does() {
        for (method, uri, verb, group, namespace, resource, subresource, name) in [
            (Method::GET, "/api/v1/namespaces", "list", "", "", "namespaces", "", ""),
            (Method::GET, "/api/v1/namespaces/other", "get", "", "other", "namespaces", "", "other"),
            (Method::GET, "/api/v1/namespaces/other/pods", "list", "", "other", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces/other/pods?watch=true", "watch", "", "other", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces/other/pods/foo", "get", "", "other", "pods", "", "foo"),
            (
                Method::POST,
                "/api/v1/namespaces/other/pods/foo/binding",
                "create",
                "",
                "other",
                "pods",
                "binding",
                "foo",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/other/finalize",
                "update",
                "",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            (Method::GET, "/api/v1/watch/namespaces/other/pods", "watch", "", "other", "pods", "", ""),
            (Method::GET, "/api/v1/watch/namespaces/other", "watch", "", "other", "namespaces", "", "other"),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection",
                "apps",
                "a",
                "deployments",
                "",
                "",
            ),
            (
                Method::GET,
                "/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dx",
                "list",
                "apps",
                "",
                "deployments",
                "",
                "x",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch",
                "apps",
                "a",
                "deployments",
                "scale",
                "d",
            ),
            (Method::GET, "/api/v1/nodes/%61", "get", "", "", "nodes", "", "a"),
        ] {
            let i = info(method, uri);
            assert!(i.is_resource, "{uri}");
            assert_eq!(
                (&*i.verb, &*i.group, &*i.namespace, &*i.resource, &*i.subresource, &*i.name),
                (verb, group, namespace, resource, subresource, name),
                "{uri}"
            );
        }
    }

    #[test]
    fn other_paths_are_no_resources() {
        for uri in ["/", "/healthz", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/a/b/c/d"]
        {
            let i = info(Method::GET, uri);
            assert!(!i.is_resource, "{uri}");
            assert_eq!(i.verb, "get");
        }
    }
}
