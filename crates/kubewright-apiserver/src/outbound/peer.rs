//! A server that a kubeconfig, or a URL with an authority, names: where it is, who vouches for it, and who we are to it.
//!
//! Requests flow out over kept connections, and bounded answers come in. Redirects are not followed, and a server that
//! nobody vouches for is not talked to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kubewright_machinery::decode;
use kubewright_pki::{Bundle, Identity, PkiError};
use parking_lot::Mutex;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::connector::Connector;

/// Longer answers are a failure.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// How long a token from a file is used before the file is read again.
const TOKEN_HOLDS: Duration = Duration::from_secs(60);
/// Where a pod finds who it is.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why a server can't be talked to, or has not answered.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The URL is none, or not `https`.
    #[error("{url:?} is no https URL")]
    Url {
        /// What was given.
        url: String,
    },
    /// A kubeconfig that can't be used.
    #[error("the kubeconfig cannot be used: {reason}")]
    Kubeconfig {
        /// Why.
        reason: String,
    },
    /// A file that a kubeconfig names can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates or keys can't be used.
    #[error("certificates cannot be used")]
    Certificates(#[source] PkiError),
    /// Nobody answers there, or nobody who is trusted.
    #[error("cannot reach {url}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        source: hyper_util::client::legacy::Error,
    },
    /// It took too long.
    #[error("{url} did not answer in time")]
    Timeout {
        /// The URL.
        url: String,
    },
    /// The answer broke off, or is too long.
    #[error("the answer of {url} cannot be read")]
    Body {
        /// The URL.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is a failure, or a redirect.
    #[error("{url} answered with status {code}")]
    Refused {
        /// The URL.
        url: String,
        /// The HTTP status.
        code: u16,
    },
    /// The answer is not JSON.
    #[error("the answer of {url} is not JSON")]
    Json {
        /// The URL.
        url: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// A server. Cloning shares its connections.
#[derive(Clone)]
pub struct Peer {
    url: Uri,
    authorization: Option<Token>,
    client: Client<Connector, Full<Bytes>>,
}

/// A bearer token, as a header.
#[derive(Clone)]
enum Token {
    Fixed(HeaderValue),
    /// Read again now and then: whoever wrote it replaces it before it expires.
    File(PathBuf, Arc<Mutex<Option<(Instant, HeaderValue)>>>),
}

impl Token {
    /// The header to send.
    fn header(&self) -> Result<HeaderValue, PeerError> {
        let (path, known) = match self {
            Token::Fixed(header) => return Ok(header.clone()),
            Token::File(path, known) => (path, known),
        };
        let mut known = known.lock();
        if let Some((since, header)) = &*known
            && since.elapsed() < TOKEN_HOLDS
        {
            return Ok(header.clone());
        }
        let header = bearer(&read(path)?)?;
        *known = Some((Instant::now(), header.clone()));
        Ok(header)
    }
}

fn bearer(token: &str) -> Result<HeaderValue, PeerError> {
    let header = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
    let mut header = header.map_err(|_| PeerError::Kubeconfig { reason: "the token is malformed".into() })?;
    header.set_sensitive(true);
    Ok(header)
}

impl Peer {
    /// The server at an `https` URL.
    ///
    /// # Errors
    /// When the URL or the certificates can't be used.
    pub fn new(url: &str, trust: &Bundle, identity: Option<&Identity>) -> Result<Self, PeerError> {
        let mut tls = kubewright_pki::client_config(trust, identity).map_err(PeerError::Certificates)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = Connector::new(TlsConnector::from(Arc::new(tls)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(8)
            .build(connector);
        Ok(Self { url: https(url)?, authorization: None, client })
    }

    /// Shows a bearer token with every request.
    ///
    /// # Errors
    /// When the token is none.
    pub fn with_token(mut self, token: &str) -> Result<Self, PeerError> {
        self.authorization = Some(Token::Fixed(bearer(token)?));
        Ok(self)
    }

    /// Shows the bearer token that a file holds, whatever it is at the time.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn with_token_file(mut self, path: &Path) -> Result<Self, PeerError> {
        let token = Token::File(path.into(), Arc::default());
        token.header()?;
        self.authorization = Some(token);
        Ok(self)
    }

    /// The API server of the cluster whose pod this process is in, as the pod's service account; `None` outside of a pod.
    ///
    /// # Errors
    /// When what a pod has can't be read.
    pub fn in_cluster() -> Option<Result<Self, PeerError>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let account = Path::new(SERVICE_ACCOUNT);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let peer = || {
            let trust = Bundle::from_pem(&read(&account.join("ca.crt"))?).map_err(PeerError::Certificates)?;
            Self::new(&format!("https://{host}:{port}"), &trust, None)?
                .with_token_file(&account.join("token"))
        };
        Some(peer())
    }

    /// The same server, at another path; connections are shared. The path may have a query.
    pub fn at(&self, path: &str) -> Self {
        let mut parts = self.url.clone().into_parts();
        let path: Option<http::uri::PathAndQuery> = path.parse().ok();
        parts.path_and_query = path.or(parts.path_and_query);
        Self { url: Uri::from_parts(parts).unwrap_or_else(|_| self.url.clone()), ..self.clone() }
    }

    /// The server of a kubeconfig's current context. Paths in it are relative to `folder`.
    ///
    /// # Errors
    /// When it is incomplete, or asks for what is not done here: plug-ins, passwords, connections without verification.
    pub fn from_kubeconfig(text: &str, folder: &Path) -> Result<Self, PeerError> {
        let wrong = |reason: String| PeerError::Kubeconfig { reason };
        let config = decode::yaml(text.as_bytes()).map_err(|error| wrong(error.to_string()))?.value;
        let entry = |list: &str, of: &str, name: &Value| -> Result<Value, PeerError> {
            let items = config[list].as_array().into_iter().flatten();
            let found = items.into_iter().find(|item| item["name"] == *name).map(|item| item[of].clone());
            found.ok_or_else(|| wrong(format!("there is no {of} {name}")))
        };
        let context = entry("contexts", "context", &config["current-context"])?;
        let cluster = entry("clusters", "cluster", &context["cluster"])?;
        let user = match context["user"].as_str().unwrap_or_default() {
            "" => Value::Null,
            _ => entry("users", "user", &context["user"])?,
        };
        for (owner, field) in
            [(&user, "exec"), (&user, "auth-provider"), (&user, "username"), (&cluster, "proxy-url")]
        {
            if !owner[field].is_null() {
                return Err(wrong(format!("{field} is not supported")));
            }
        }
        if cluster["insecure-skip-tls-verify"] == true {
            return Err(wrong("insecure-skip-tls-verify is not supported".into()));
        }
        let trust = pem_of(&cluster, "certificate-authority", folder)?.unwrap_or_default();
        let trust = Bundle::from_pem(&trust).map_err(PeerError::Certificates)?;
        let certificate = pem_of(&user, "client-certificate", folder)?;
        let identity = match (certificate, pem_of(&user, "client-key", folder)?) {
            (Some(chain), Some(key)) => {
                Some(Identity::from_pem(&chain, &key).map_err(PeerError::Certificates)?)
            }
            (None, None) => None,
            _ => return Err(wrong("client-certificate and client-key belong together".into())),
        };
        let peer = Self::new(cluster["server"].as_str().unwrap_or_default(), &trust, identity.as_ref())?;
        match (user["token"].as_str(), user["tokenFile"].as_str()) {
            (Some(token), _) => peer.with_token(token),
            (None, Some(path)) => peer.with_token_file(&folder.join(path)),
            (None, None) => Ok(peer),
        }
    }

    /// The URL.
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// POSTs JSON to the server's URL and gives the JSON of a 2xx answer.
    ///
    /// # Errors
    /// When there is no such answer within the time.
    pub async fn post(&self, body: &Value, timeout: Duration) -> Result<Value, PeerError> {
        let request = Request::post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())));
        self.exchange(request, timeout).await
    }

    /// Sends a request with JSON (null for no body) to the server's URL and gives the JSON of a 2xx answer.
    ///
    /// # Errors
    /// When there is no such answer within the time.
    pub async fn ask(
        &self,
        method: Method,
        content_type: &'static str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, PeerError> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::builder().method(method).uri(self.url.clone());
        if !body.is_null() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        self.exchange(request.body(Full::new(Bytes::from(text))), timeout).await
    }

    /// GETs JSON from a URL: whoever is there has to be vouched for like the server itself.
    ///
    /// # Errors
    /// When there is no 2xx answer within the time.
    pub async fn get(&self, url: &str, timeout: Duration) -> Result<Value, PeerError> {
        self.exchange(Request::get(https(url)?).body(Full::default()), timeout).await
    }

    async fn exchange(
        &self,
        request: http::Result<Request<Full<Bytes>>>,
        timeout: Duration,
    ) -> Result<Value, PeerError> {
        let mut request = request.map_err(|_| PeerError::Url { url: self.url() })?;
        let url = request.uri().to_string();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.header()?);
        }
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|source| PeerError::Unreachable { url: url.clone(), source })?;
            let code = response.status();
            if !code.is_success() {
                return Err(PeerError::Refused { url: url.clone(), code: code.as_u16() });
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok(body.map_err(|source| PeerError::Body { url: url.clone(), source })?.to_bytes())
        };
        let body = match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(PeerError::Timeout { url }),
        };
        serde_json::from_slice(&body).map_err(|source| PeerError::Json { url, source })
    }
}

fn https(url: &str) -> Result<Uri, PeerError> {
    let wrong = || PeerError::Url { url: url.to_string() };
    let parsed: Uri = url.parse().map_err(|_| wrong())?;
    if parsed.scheme_str() == Some("https") && parsed.host().is_some_and(|host| !host.is_empty()) {
        Ok(parsed)
    } else {
        Err(wrong())
    }
}

/// The PEM that a kubeconfig has inline (`FIELD-data`) or in a file.
fn pem_of(owner: &Value, field: &str, folder: &Path) -> Result<Option<String>, PeerError> {
    if let Some(data) = owner[format!("{field}-data")].as_str() {
        let wrong = || PeerError::Kubeconfig { reason: format!("{field}-data is not base64") };
        let bytes = STANDARD.decode(data.trim()).map_err(|_| wrong())?;
        return Ok(Some(String::from_utf8(bytes).map_err(|_| wrong())?));
    }
    owner[field].as_str().map(|path| read(&folder.join(path))).transpose()
}

fn read(path: &Path) -> Result<String, PeerError> {
    std::fs::read_to_string(path).map_err(|source| PeerError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use kubewright_pki::Authority;

    use super::*;

    fn kubeconfig(server: &str, more: &str) -> Result<Peer, PeerError> {
        let authority = Authority::new("test", SystemTime::now()).unwrap();
        let trust = STANDARD.encode(authority.certificate_pem());
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: '{server}', certificate-authority-data: {trust}}}}}]\n\
             users: [{{name: u, user: {more}}}]\n"
        );
        Peer::from_kubeconfig(&text, Path::new("."))
    }

    #[test]
    fn a_kubeconfig_names_a_server_and_who_we_are_to_it() {
        let peer = kubeconfig("https://auth.example.com/check", "{token: secret}").unwrap();
        assert_eq!(peer.url(), "https://auth.example.com/check");
        assert_eq!(peer.authorization.as_ref().unwrap().header().unwrap(), "Bearer secret");
        assert_eq!(peer.at("/api/v1?limit=1").url(), "https://auth.example.com/api/v1?limit=1");
    }

    #[test]
    fn what_is_not_done_here_is_named() {
        let why = |server: &str, more: &str| kubeconfig(server, more).err().map(|error| error.to_string());
        assert!(why("http://auth.example.com", "{}").unwrap().contains("no https URL"));
        assert!(why("https://a", "{exec: {command: x}}").unwrap().contains("exec is not supported"));
        assert!(why("https://a", "{client-certificate-data: eA==}").unwrap().contains("belong together"));
        assert!(Peer::from_kubeconfig("current-context: x", Path::new(".")).is_err());
    }
}
