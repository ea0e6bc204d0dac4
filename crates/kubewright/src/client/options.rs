//! What is changed in every request of a client: dry run, field validation, field owner, acting as somebody else, one
//! namespace. A value, and a thin service that applies it. Nothing is sent that could not be changed as wished: a
//! request that knows no dry run is refused by one.

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, header};
use kube::api::ValidationDirective;
use kube::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tower::BoxError;

use super::impersonate::{self, Impersonate};
use super::mapper::{Mapper, MapperError};
use super::request::ResourceRequest;

/// Subresources that act on something else than objects; there is no trying that out.
const NO_DRY_RUN: [&str; 4] = ["exec", "attach", "portforward", "proxy"];

/// What is to be changed in every request of a client; nothing, to begin with.
///
/// ```
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use kube::Api;
/// use kube::api::ValidationDirective;
/// use kubewright::client::ClientOptions;
///
/// # async fn example(client: kube::Client) {
/// let strict = ClientOptions::new().field_validation(ValidationDirective::Strict).field_owner("tenant-tool");
/// let trial = strict.clone().as_user("jane").dry_run().client(&client);
/// let maps: Api<ConfigMap> = Api::default_namespaced(trial); // nothing that is written through it stays
/// # }
/// ```
///
/// In a reconciler, [`Context::with`](crate::Context::with) gives a context whose helpers keep to it as well.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    dry_run: bool,
    validation: Option<ValidationDirective>,
    owner: Option<String>,
    user: Option<Impersonate>,
    namespace: Option<String>,
}

/// Why a request was not sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientOptionsError {
    /// It would have done something although the client is for dry runs.
    #[error("{method} {path} can't be tried out: {why}; nothing was sent")]
    NoDryRun {
        /// The method of the request.
        method: Method,
        /// Its path.
        path: String,
        /// What stands against a dry run.
        why: &'static str,
    },
    /// A user, group, uid or extra field to act with is empty, or has characters that no header can have.
    #[error("the header {0} can't be written: its value is empty, or has characters that no header has")]
    Header(String),
    /// It is about another namespace than the client's only one.
    #[error(
        "{method} {path} is not for namespace {only}, which is all that this client is for; nothing was sent"
    )]
    OtherNamespace {
        /// The method of the request.
        method: Method,
        /// Its path.
        path: String,
        /// The client's namespace.
        only: String,
    },
    /// Whether its objects live in namespaces could not be learnt.
    #[error("whether {path} is about objects in namespaces can't be learnt")]
    Scope {
        /// The path of the request.
        path: String,
        /// Why.
        #[source]
        source: Box<MapperError>,
    },
    /// The URL with the wished parameters is none.
    #[error("the URL can't be changed as wished")]
    Uri(#[source] http::Error),
}

impl ClientOptions {
    /// Nothing is changed.
    pub fn new() -> ClientOptions {
        ClientOptions::default()
    }

    /// Nothing that is written stays: the API server does all of it but the storing. Requests that know no dry run
    /// (such as `exec`) are refused before they are sent. An aggregated API server must itself keep to the parameter.
    #[must_use]
    pub fn dry_run(mut self) -> ClientOptions {
        self.dry_run = true;
        self
    }

    /// What becomes of unknown and duplicate fields in writes that do not say it themselves.
    #[must_use]
    pub fn field_validation(mut self, directive: ValidationDirective) -> ClientOptions {
        self.validation = Some(directive);
        self
    }

    /// The field manager of writes that do not name one themselves.
    #[must_use]
    pub fn field_owner(mut self, owner: &str) -> ClientOptions {
        self.owner = Some(owner.into());
        self
    }

    /// Acts as somebody else, in reads and writes alike: the API server authorizes that user. In a reconciler this
    /// takes declarations such as `.permits(Permit::on_resource("", "users", [Verb::Impersonate]).named(["jane"]))`.
    #[must_use]
    pub fn as_user(mut self, user: impl Into<Impersonate>) -> ClientOptions {
        self.user = Some(user.into());
        self
    }

    /// Keeps to one namespace: it is the client's default, requests for all namespaces are about this one, and those
    /// for others are refused before they are sent. Kinds of the cluster are not concerned; which those are is asked
    /// of the server's discovery, once.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> ClientOptions {
        self.namespace = Some(namespace.into());
        self
    }

    /// A client like this one that keeps to the options.
    pub fn client(&self, client: &kube::Client) -> kube::Client {
        self.client_with(client, Mapper::new(client.clone()))
    }

    /// The same with a mapper that may know the scopes of kinds already.
    pub(crate) fn client_with(&self, client: &kube::Client, mapper: Mapper) -> kube::Client {
        let namespace = self.namespace.as_deref().unwrap_or(client.default_namespace());
        let (client, options) = (client.clone(), self.clone());
        let service = tower::service_fn(move |request| {
            let (client, options, mapper) = (client.clone(), options.clone(), mapper.clone());
            async move { options.send(&client, request, &mapper).await }
        });
        kube::Client::new(service, namespace)
    }

    /// Sends a request as the options have it.
    async fn send(
        &self,
        client: &kube::Client,
        request: Request<Body>,
        mapper: &Mapper,
    ) -> Result<Response<Body>, BoxError> {
        let (mut parts, mut body) = request.into_parts();
        self.place(&mut parts, mapper).await?;
        self.change(&mut parts)?;
        if self.dry_run && parts.method == Method::DELETE {
            body = self.delete_options(&parts, body.collect_bytes().await?)?.to_vec().into();
        }
        Ok(client.send(Request::from_parts(parts, body)).await?)
    }

    /// Whether nothing is changed.
    pub(crate) fn is_empty(&self) -> bool {
        let ClientOptions { dry_run, validation, owner, user, namespace } = self;
        !dry_run && validation.is_none() && owner.is_none() && user.is_none() && namespace.is_none()
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Changes a request, but for the body of a delete.
    fn change(&self, parts: &mut Parts) -> Result<(), ClientOptionsError> {
        if let Some(user) = &self.user {
            impersonate::clear(&mut parts.headers);
            for (name, value) in user.headers().map_err(ClientOptionsError::Header)? {
                parts.headers.append(name, value);
            }
        }
        if self.dry_run {
            self.may_be_tried_out(parts)?;
        }
        if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let mut query = Query::of(&parts.uri);
        if self.dry_run {
            query.set("dryRun", "All");
        }
        if parts.method != Method::DELETE {
            if let Some(validation) = &self.validation {
                query.default("fieldValidation", validation.as_str());
            }
            if let Some(owner) = &self.owner {
                query.default("fieldManager", owner);
            }
        }
        parts.uri = query.uri(&parts.uri).map_err(ClientOptionsError::Uri)?;
        Ok(())
    }

    /// Puts a request for all namespaces into the one of the options.
    async fn place(&self, parts: &mut Parts, mapper: &Mapper) -> Result<(), ClientOptionsError> {
        let Some(only) = &self.namespace else { return Ok(()) };
        let path = parts.uri.path().to_owned();
        let Some(asked) = ResourceRequest::read(&parts.method, &path, parts.uri.query()) else {
            return Ok(());
        };
        match &asked.namespace {
            _ if asked.resource == "namespaces" => return Ok(()),
            Some(namespace) if namespace == only => return Ok(()),
            Some(_) => {
                let method = parts.method.clone();
                return Err(ClientOptionsError::OtherNamespace { method, path, only: only.clone() });
            }
            None => {}
        }
        let scope = mapper.is_namespaced(&asked.group, &asked.resource).await;
        let scope = scope
            .map_err(|source| ClientOptionsError::Scope { path: path.clone(), source: Box::new(source) })?;
        if scope == Some(true) {
            let rest = path.find(&format!("/{}", asked.resource)).unwrap_or(path.len());
            let (root, rest) = path.split_at(rest);
            let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            let mut changed = parts.uri.clone().into_parts();
            let placed = PathAndQuery::try_from(format!("{root}/namespaces/{only}{rest}{query}"));
            changed.path_and_query = Some(placed.map_err(|error| ClientOptionsError::Uri(error.into()))?);
            parts.uri = Uri::from_parts(changed).map_err(|error| ClientOptionsError::Uri(error.into()))?;
        }
        Ok(())
    }

    fn may_be_tried_out(&self, parts: &Parts) -> Result<(), ClientOptionsError> {
        let asked = ResourceRequest::read(&parts.method, parts.uri.path(), parts.uri.query());
        let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let why = match &asked {
            _ if parts.headers.contains_key(header::UPGRADE) => "it opens a connection of another protocol",
            Some(asked) if asked.subresource.as_deref().is_some_and(|sub| NO_DRY_RUN.contains(&sub)) => {
                "it reaches into the running object"
            }
            None if !reads => "it is about no object",
            _ => return Ok(()),
        };
        Err(no_dry_run(parts, why))
    }

    /// The body of a delete as it is sent: API servers take options from there rather than from the URL.
    fn delete_options(&self, parts: &Parts, body: Bytes) -> Result<Bytes, ClientOptionsError> {
        if body.is_empty() {
            return Ok(body);
        }
        let mut options = match serde_json::from_slice(&body) {
            Ok(Value::Object(options)) => options,
            _ => return Err(no_dry_run(parts, "its options are no JSON")),
        };
        options.insert("dryRun".into(), json!(["All"]));
        Ok(Value::Object(options).to_string().into())
    }
}

fn no_dry_run(parts: &Parts, why: &'static str) -> ClientOptionsError {
    ClientOptionsError::NoDryRun { method: parts.method.clone(), path: parts.uri.path().into(), why }
}

/// The parameters of a URL, as they are written there.
struct Query(Vec<String>);

impl Query {
    fn of(uri: &Uri) -> Query {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Query(pairs.map(str::to_owned).collect())
    }

    fn has(pair: &str, name: &str) -> bool {
        pair.split('=').next() == Some(name)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|pair| !Query::has(pair, name));
        self.0.push(format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    }

    fn default(&mut self, name: &str, value: &str) {
        if !self.0.iter().any(|pair| Query::has(pair, name)) {
            self.set(name, value);
        }
    }

    fn uri(&self, before: &Uri) -> Result<Uri, http::Error> {
        let mut parts = before.clone().into_parts();
        let question = if self.0.is_empty() { "" } else { "?" };
        let text = format!("{}{question}{}", before.path(), self.0.join("&"));
        parts.path_and_query = Some(PathAndQuery::try_from(text)?);
        Ok(Uri::from_parts(parts)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(options: &ClientOptions, method: Method, uri: &str) -> Result<String, ClientOptionsError> {
        let (mut parts, ()) = Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
        options.change(&mut parts)?;
        Ok(parts.uri.to_string())
    }

    #[test]
    fn every_write_of_a_dry_run_is_one_whatever_it_said() {
        let dry = ClientOptions::new().dry_run();
        let pods = "/api/v1/namespaces/n/pods";
        assert_eq!(changed(&dry, Method::POST, pods).unwrap(), format!("{pods}?dryRun=All"));
        assert_eq!(
            changed(&dry, Method::PATCH, &format!("{pods}/p?dryRun=&force=true")).unwrap(),
            format!("{pods}/p?force=true&dryRun=All")
        );
        assert_eq!(
            changed(&dry, Method::DELETE, &format!("{pods}/p")).unwrap(),
            format!("{pods}/p?dryRun=All")
        );
        assert_eq!(changed(&dry, Method::GET, pods).unwrap(), pods);
    }

    #[test]
    fn what_knows_no_dry_run_is_refused() {
        let dry = ClientOptions::new().dry_run();
        for (method, path) in [
            (Method::GET, "/api/v1/namespaces/n/pods/p/exec?command=rm"),
            (Method::POST, "/api/v1/namespaces/n/pods/p/attach"),
            (Method::DELETE, "/api/v1/namespaces/n/services/s/proxy/data"),
            (Method::POST, "/debug/flags"),
        ] {
            let error = changed(&dry, method.clone(), path).unwrap_err();
            assert!(matches!(error, ClientOptionsError::NoDryRun { .. }), "{method} {path}");
        }
        let (mut parts, ()) =
            Request::get("/api/v1/pods").header(header::UPGRADE, "websocket").body(()).unwrap().into_parts();
        let error = dry.change(&mut parts).unwrap_err();
        assert_eq!(
            error.to_string(),
            "GET /api/v1/pods can't be tried out: it opens a connection of another protocol; nothing was sent"
        );
    }

    #[test]
    fn the_options_of_a_delete_say_dry_run_too() {
        let dry = ClientOptions::new().dry_run();
        let (parts, ()) = Request::delete("/api/v1/nodes/n").body(()).unwrap().into_parts();
        let body = dry.delete_options(&parts, Bytes::from_static(br#"{"gracePeriodSeconds":0,"dryRun":[]}"#));
        let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(body, json!({"gracePeriodSeconds": 0, "dryRun": ["All"]}));
        assert!(dry.delete_options(&parts, Bytes::new()).unwrap().is_empty());
        let protobuf = dry.delete_options(&parts, Bytes::from_static(b"k8s\0\x0a"));
        assert!(matches!(protobuf, Err(ClientOptionsError::NoDryRun { .. })));
    }

    #[test]
    fn a_write_that_names_its_owner_and_validation_keeps_them() {
        let options =
            ClientOptions::new().field_owner("me & you").field_validation(ValidationDirective::Strict);
        let map = "/api/v1/namespaces/n/configmaps/c";
        assert_eq!(
            changed(&options, Method::PUT, map).unwrap(),
            format!("{map}?fieldValidation=Strict&fieldManager=me%20%26%20you")
        );
        let own = format!("{map}?fieldManager=own&fieldValidation=Ignore");
        assert_eq!(changed(&options, Method::PATCH, &own).unwrap(), own);
        assert_eq!(changed(&options, Method::DELETE, map).unwrap(), map);
    }

    #[test]
    fn whoever_is_acted_as_replaces_whom_the_request_named() {
        let options = ClientOptions::new().as_user(Impersonate::user("jane").group("devs"));
        let request = Request::get("/api/v1/pods").header("Impersonate-User", "root");
        let (mut parts, ()) = request.header("impersonate-group", "wheel").body(()).unwrap().into_parts();
        options.change(&mut parts).unwrap();
        let all = |name: &str| parts.headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            (all("impersonate-user"), all("impersonate-group")),
            (vec!["jane".parse().unwrap()], vec!["devs".parse().unwrap()])
        );
        let broken = ClientOptions::new().as_user("");
        let error = changed(&broken, Method::GET, "/api/v1/pods").unwrap_err();
        assert!(error.to_string().contains("impersonate-user"), "{error}");
    }
}
