//! What a request to the API asks for, read from its method and URL: verb, group, resource,
//! subresource, namespace and name, as an API server reads it (RequestInfo).

use http::Method;

/// The verbs of the API that RBAC knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Follow a collection.
    Watch,
    /// Make an object.
    Create,
    /// Replace an object.
    Update,
    /// Patch an object, or apply one.
    Patch,
    /// Delete an object.
    Delete,
    /// Delete a collection.
    DeleteCollection,
    /// Act as a user, or with a group, uid or extra field of one.
    Impersonate,
}

impl Verb {
    /// The verb's name in RBAC rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Impersonate => "impersonate",
        }
    }

    /// The verb's name in Rust.
    pub(crate) fn variant(self) -> &'static str {
        match self {
            Verb::Get => "Get",
            Verb::List => "List",
            Verb::Watch => "Watch",
            Verb::Create => "Create",
            Verb::Update => "Update",
            Verb::Patch => "Patch",
            Verb::Delete => "Delete",
            Verb::DeleteCollection => "DeleteCollection",
            Verb::Impersonate => "Impersonate",
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(self) -> bool {
        matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// A request for a resource of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRequest {
    /// What is to be done.
    pub verb: Verb,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource such as `status`, if any.
    pub subresource: Option<String>,
    /// Namespace, if the URL has one.
    pub namespace: Option<String>,
    /// Name, if the URL has one, or a list or watch selects one.
    pub name: Option<String>,
}

impl ResourceRequest {
    /// Reads a request; `None` for URLs that are no resources (discovery, `/version`, `/healthz`).
    pub fn read(method: &Method, path: &str, query: Option<&str>) -> Option<ResourceRequest> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let group = match parts.next()? {
            "api" => String::new(),
            "apis" => parts.next()?.to_owned(),
            _ => return None,
        };
        let _version = parts.next()?;
        let mut rest: Vec<&str> = parts.collect();
        let mut namespace = None;
        // `/namespaces/x` and its subresources are about the namespace itself.
        if rest.first() == Some(&"namespaces") && rest.len() > 2 && !matches!(rest[2], "status" | "finalize")
        {
            namespace = Some(rest[1].to_owned());
            rest.drain(..2);
        } else if rest.first() == Some(&"namespaces") && rest.len() > 1 {
            namespace = Some(rest[1].to_owned());
        }
        let mut rest = rest.into_iter();
        let resource = rest.next()?.to_owned();
        let name = rest.next().map(str::to_owned);
        let subresource = rest.next().map(str::to_owned);
        let watches = is_watch(query);
        let verb = match *method {
            Method::GET | Method::HEAD if watches => Verb::Watch,
            Method::GET | Method::HEAD if name.is_some() => Verb::Get,
            Method::GET | Method::HEAD => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if name.is_some() => Verb::Delete,
            Method::DELETE => Verb::DeleteCollection,
            _ => return None,
        };
        let name = match verb {
            Verb::List | Verb::Watch if name.is_none() => selected_name(query.unwrap_or_default()),
            _ => name,
        };
        Some(ResourceRequest { verb, group, resource, subresource, namespace, name })
    }
}

/// Whether a query asks for a watch.
pub(crate) fn is_watch(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| {
        matches!(pair.split_once('='), Some(("watch", value)) if !matches!(value, "0" | "false"))
            || pair == "watch"
    })
}

/// The name that a field selector asks for, which counts as the request's own, as for API servers.
fn selected_name(query: &str) -> Option<String> {
    let selector = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector="))?;
    let selector = percent_encoding::percent_decode_str(selector).decode_utf8().ok()?;
    let name = selector.split(',').find_map(|term| term.strip_prefix("metadata.name="))?;
    Some(name.trim_start_matches('=').to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        method: Method,
        path: &str,
        query: &str,
    ) -> Option<(Verb, String, Option<String>, Option<String>)> {
        ResourceRequest::read(&method, path, Some(query)).map(|request| {
            let resource = match &request.subresource {
                Some(subresource) => format!("{}/{subresource}", request.resource),
                None => request.resource,
            };
            (request.verb, resource, request.namespace, request.name)
        })
    }

    #[test]
    fn urls_are_read_as_servers_read_them() {
        let (ns, name) = (Some("n".to_owned()), Some("p".to_owned()));
        assert_eq!(
            read(Method::PATCH, "/api/v1/namespaces/n/pods/p/status", ""),
            Some((Verb::Patch, "pods/status".into(), ns.clone(), name.clone()))
        );
        assert_eq!(
            read(Method::GET, "/apis/apps/v1/deployments", "watch=true"),
            Some((Verb::Watch, "deployments".into(), None, None))
        );
        assert_eq!(
            read(Method::GET, "/apis/apps/v1/namespaces/n/deployments", "limit=5"),
            Some((Verb::List, "deployments".into(), ns.clone(), None))
        );
        assert_eq!(
            read(Method::PUT, "/api/v1/namespaces/n/finalize", ""),
            Some((Verb::Update, "namespaces/finalize".into(), ns.clone(), ns.clone()))
        );
        assert_eq!(
            read(Method::DELETE, "/api/v1/nodes", ""),
            Some((Verb::DeleteCollection, "nodes".into(), None, None))
        );
        assert_eq!(read(Method::GET, "/version", ""), None);
        assert_eq!(read(Method::GET, "/apis/apps/v1", ""), None);
    }
}
