//! From kinds to resources and back, as the API server says it (what controller-runtime calls a RESTMapper). The
//! table ([`Resources`]) is made of discovery documents, fetched when first needed and again when a definition changed
//! or something is missing; both documents are asked for with the tag of what is known, so that most fetches move no
//! bytes. What never happens here: guessing a plural or a scope.

mod documents;
mod missing;
mod refresh;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::documents::{Document, parse_version};
pub use self::missing::{Missing, NotServed};
use self::refresh::Refresh;
use self::table::{Group, Version};
pub use self::table::{Resources, Served};
use crate::kind::Kind;

/// What is asked for: everything in one document, in any form that a server knows.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Group versions that are asked for at once, of servers without aggregated discovery.
const AT_ONCE: usize = 8;

/// Finds the resource of a kind and the kind of a resource. Clones share what is known.
///
/// ```no_run
/// # async fn example(client: kube::Client) -> Result<(), kubewright::client::MapperError> {
/// use kubewright::client::Mapper;
///
/// let mapper = Mapper::new(client.clone());
/// let widgets = mapper.kind("example.com", "Widget").await?; // in the version that the server prefers
/// let deployments = mapper.resource("deploy").await?; // by any name that kubectl takes
/// assert_eq!(deployments.kind.collection_path(Some("team")), "/apis/apps/v1/namespaces/team/deployments");
/// let api = mapper.api(&client, &widgets.kind, Some("team")); // for a kind learnt of at run time
/// # Ok(()) }
/// ```
///
/// It costs two requests when first used. Later ones follow a change of a CustomResourceDefinition or APIService, if
/// those are watched ([`Manager::follow_definitions`](crate::Manager::follow_definitions) and
/// [`Cluster::follow_definitions`](crate::Cluster::follow_definitions), or a controller that reads them), and else a miss: at most five at once and one in two seconds, so that asking for nonsense harms nobody.
#[derive(Clone)]
pub struct Mapper(Arc<Inner>);

struct Inner {
    client: Mutex<kube::Client>,
    state: Mutex<State>,
    /// Held while fetching, so that only one does.
    documents: tokio::sync::Mutex<[Cached; 2]>,
    /// Fetches and changes so far.
    news: watch::Sender<u64>,
}

struct State {
    table: Option<Arc<Resources>>,
    refresh: Refresh,
    fetches: u64,
}

/// A document as it was fetched last.
#[derive(Default)]
struct Cached {
    tag: Option<header::HeaderValue>,
    groups: Vec<Group>,
}

/// Why a kind or resource was not found.
#[derive(Debug, thiserror::Error)]
pub enum MapperError {
    /// It is not served.
    #[error(transparent)]
    NotServed(#[from] NotServed),
    /// The API server could not be asked.
    #[error("{path} can't be fetched")]
    Fetch {
        /// The document.
        path: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{path} can't be fetched: no answer in time")]
    Late {
        /// The document.
        path: String,
    },
    /// The API server answered with an error.
    #[error("{path} can't be fetched: {status}")]
    Refused {
        /// The document.
        path: String,
        /// The answer.
        status: StatusCode,
    },
    /// The answer is no discovery document.
    #[error("{path} is no discovery document")]
    Document {
        /// The document.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Mapper {
    /// A mapper that knows nothing yet.
    pub fn new(client: kube::Client) -> Mapper {
        let state = State { table: None, refresh: Refresh::new(Instant::now()), fetches: 0 };
        Mapper(Arc::new(Inner {
            client: Mutex::new(client),
            state: Mutex::new(state),
            documents: tokio::sync::Mutex::default(),
            news: watch::channel(0).0,
        }))
    }

    /// A kind by group and name, in the version that the server prefers among those that have it.
    ///
    /// # Errors
    /// When it is not served, with what is missing; or when the server can't be asked.
    pub async fn kind(&self, group: &str, kind: &str) -> Result<Served, MapperError> {
        self.find(|table| table.kind(group, kind).cloned()).await
    }

    /// A kind in one version, as objects name it: `exactly("apps/v1", "Deployment")`.
    ///
    /// # Errors
    /// As [`kind`](Self::kind).
    pub async fn exactly(&self, api_version: &str, kind: &str) -> Result<Served, MapperError> {
        self.find(|table| table.exactly(api_version, kind).cloned()).await
    }

    /// A resource by any name that kubectl takes: `deployments`, `deploy`, `deployments.apps`, `deployments.v1.apps`.
    ///
    /// # Errors
    /// As [`kind`](Self::kind).
    pub async fn resource(&self, name: &str) -> Result<Served, MapperError> {
        self.find(|table| table.resource(name).cloned()).await
    }

    /// Everything that is served, as it is known now; fetched if nothing is, or a definition changed.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub async fn resources(&self) -> Result<Arc<Resources>, MapperError> {
        Ok(self.current().await?.0)
    }

    /// The requests of `kube` for a kind learnt of at run time: in a namespace, or in all.
    pub fn api(
        &self,
        client: &kube::Client,
        kind: &Kind,
        namespace: Option<&str>,
    ) -> kube::Api<kube::api::DynamicObject> {
        let resource = kube::api::ApiResource {
            group: kind.group.clone(),
            version: kind.version.clone(),
            api_version: kind.api_version(),
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
        };
        match namespace {
            Some(namespace) if kind.namespaced => {
                kube::Api::namespaced_with(client.clone(), namespace, &resource)
            }
            _ => kube::Api::all_with(client.clone(), &resource),
        }
    }

    /// Waits until a kind is served, in its version. Looks after 1, 2, 4, 8 and then every 10 s, all waits together;
    /// at once when a definition changes, if those are watched.
    pub async fn served(&self, kind: &Kind) {
        let mut news = self.0.news.subscribe();
        loop {
            news.mark_unchanged();
            let next = self.0.state.lock().refresh.next_look(Instant::now());
            let table = match next <= Instant::now() {
                true => self.fetch(None).await.ok(),
                false => self.0.state.lock().table.clone(),
            };
            if table.is_some_and(|table| table.serves(kind).is_ok()) {
                return;
            }
            let next = self.0.state.lock().refresh.next_look(Instant::now());
            let _ = tokio::time::timeout_at(next.into(), news.changed()).await;
        }
    }

    /// Whether a kind is served now, in its version: the server is asked, whatever was known.
    ///
    /// # Errors
    /// [`MapperError::NotServed`] with what is missing, which may be the API server behind the kind; others when the
    /// server can't be asked.
    pub async fn is_served(&self, kind: &Kind) -> Result<(), MapperError> {
        let seen = self.0.state.lock().fetches;
        Ok(self.fetch(Some(seen)).await?.serves(kind)?)
    }

    /// Whether objects of a URL's resource live in namespaces; `None` when it is not served.
    pub(crate) async fn is_namespaced(&self, group: &str, plural: &str) -> Result<Option<bool>, MapperError> {
        let found = self.find(|table| match table.is_namespaced(group, plural) {
            Some(namespaced) => Ok(namespaced),
            None => Err(NotServed { wanted: plural.into(), missing: Missing::Resource }),
        });
        match found.await {
            Ok(namespaced) => Ok(Some(namespaced)),
            Err(MapperError::NotServed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks through another client from now on.
    pub(crate) fn read_through(&self, client: kube::Client) {
        *self.0.client.lock() = client;
    }

    /// A definition changed: what is known may be old.
    pub fn changed(&self) {
        self.0.state.lock().refresh.changed();
        self.0.news.send_modify(|news| *news += 1);
    }

    async fn find<T>(&self, find: impl Fn(&Resources) -> Result<T, NotServed>) -> Result<T, MapperError> {
        let (table, seen, fresh) = self.current().await?;
        let missing = match find(&table) {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        if fresh || !self.0.state.lock().refresh.miss(Instant::now()) {
            return Err(missing.into());
        }
        Ok(find(&*self.fetch(Some(seen)).await?)?)
    }

    /// What is known, how many fetches that took, and whether it was fetched just now.
    async fn current(&self) -> Result<(Arc<Resources>, u64, bool), MapperError> {
        let known = {
            let state = self.0.state.lock();
            let stale = state.refresh.is_stale();
            (state.table.clone().filter(|_| !stale), state.table.clone(), state.fetches)
        };
        match known {
            (Some(table), _, fetches) => Ok((table, fetches, false)),
            (None, old, fetches) => match (self.fetch(None).await, old) {
                (Ok(table), _) => Ok((table, fetches, true)),
                (Err(error), Some(old)) => {
                    let error = crate::Error::other(error).chain();
                    tracing::warn!(error, "discovery can't be fetched anew; going on with what was known");
                    Ok((old, fetches, true))
                }
                (Err(error), None) => Err(error),
            },
        }
    }

    /// Fetches, unless somebody else has just done so: after the fetches that were seen, or after the last change.
    async fn fetch(&self, seen: Option<u64>) -> Result<Arc<Resources>, MapperError> {
        let seen = seen.unwrap_or_else(|| self.0.state.lock().fetches);
        let mut documents = self.0.documents.lock().await;
        let generation = {
            let state = self.0.state.lock();
            let done = state.fetches > seen && !state.refresh.is_stale();
            if let Some(table) = state.table.as_ref().filter(|_| done) {
                return Ok(Arc::clone(table));
            }
            state.refresh.generation()
        };
        for (path, cached) in ["/api", "/apis"].into_iter().zip(documents.iter_mut()) {
            if let Err(error) = self.fetch_document(path, cached).await {
                self.0.state.lock().refresh.failed(Instant::now());
                return Err(error);
            }
        }
        let [core, others] = &*documents;
        let table = Arc::new(Resources::of(&core.groups, &others.groups));
        {
            let mut state = self.0.state.lock();
            state.refresh.loaded(generation, Instant::now());
            state.fetches += 1;
            state.table = Some(Arc::clone(&table));
        }
        self.0.news.send_modify(|news| *news += 1);
        Ok(table)
    }

    async fn fetch_document(&self, path: &str, cached: &mut Cached) -> Result<(), MapperError> {
        let Some((tag, body)) = self.get(path, cached.tag.as_ref()).await? else { return Ok(()) };
        let document = |source| MapperError::Document { path: path.into(), source };
        let groups = match Document::parse(&body).map_err(document)? {
            Document::Aggregated(groups) => groups,
            Document::Names(names) => self.fetch_versions(path, names).await?,
        };
        *cached = Cached { tag, groups };
        Ok(())
    }

    /// The documents of each group version. One that can't be had leaves a gap, not an error: aggregated API servers
    /// come and go.
    async fn fetch_versions(
        &self,
        root: &str,
        names: Vec<(String, Vec<String>)>,
    ) -> Result<Vec<Group>, MapperError> {
        let mut groups = Vec::new();
        for (group, versions) in names {
            let versions = stream::iter(versions).map(|version| {
                let group = &group;
                async move {
                    let path = match group.is_empty() {
                        true => format!("{root}/{version}"),
                        false => format!("{root}/{group}/{version}"),
                    };
                    let body = self.get(&path, None).await;
                    let parsed =
                        body.ok().flatten().and_then(|(_, body)| parse_version(&body, group, &version).ok());
                    parsed.unwrap_or(Version { name: version, unreachable: true, resources: Vec::new() })
                }
            });
            let versions = versions.buffered(AT_ONCE).collect().await;
            groups.push(Group { name: group, versions });
        }
        Ok(groups)
    }

    /// A document with its tag; `None` when it is still the one of this tag.
    async fn get(
        &self,
        path: &str,
        tag: Option<&header::HeaderValue>,
    ) -> Result<Option<(Option<header::HeaderValue>, Vec<u8>)>, MapperError> {
        let late = || MapperError::Late { path: path.into() };
        let fail = |source| MapperError::Fetch { path: path.into(), source: Box::new(source) };
        let mut request =
            Request::get(path).header(header::ACCEPT, AGGREGATED).header(header::ACCEPT_ENCODING, "identity");
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request.body(Body::empty()).map_err(|error| fail(kube::Error::HttpError(error)))?;
        let client = self.0.client.lock().clone();
        let sent = tokio::time::timeout(ANSWER, client.send(request)).await;
        let response = sent.map_err(|_| late())?.map_err(fail)?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(None),
            StatusCode::OK => {
                let tag = response.headers().get(header::ETAG).cloned();
                let body = tokio::time::timeout(ANSWER, response.into_body().collect()).await;
                Ok(Some((tag, body.map_err(|_| late())?.map_err(fail)?.to_bytes().to_vec())))
            }
            status => Err(MapperError::Refused { path: path.into(), status }),
        }
    }
}

impl fmt::Debug for Mapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.state.lock().table.as_ref().map(|table| table.all().count());
        f.debug_struct("Mapper").field("resources", &count).finish()
    }
}
