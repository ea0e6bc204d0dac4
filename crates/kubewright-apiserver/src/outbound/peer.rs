//! A server that a kubeconfig, or a URL with an authority, names: where it is, who vouches for it, and who we are to it.
//!
//! Requests flow out over kept connections, and bounded answers come in. Redirects are not followed, and a server that
//! nobody vouches for is not talked to.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubewright_machinery::decode;
use kubewright_pki::{Bundle, Identity, PkiError};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer answers are a failure.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

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
    authorization: Option<HeaderValue>,
    client: Client<Dial, Full<Bytes>>,
}

impl Peer {
    /// The server at an `https` URL.
    ///
    /// # Errors
    /// When the URL or the certificates can't be used.
    pub fn new(url: &str, trust: &Bundle, identity: Option<&Identity>) -> Result<Self, PeerError> {
        let mut tls = kubewright_pki::client_config(trust, identity).map_err(PeerError::Certificates)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let dial = Dial(TlsConnector::from(Arc::new(tls)));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(8)
            .build(dial);
        Ok(Self { url: https(url)?, authorization: None, client })
    }

    /// Shows a bearer token with every request.
    ///
    /// # Errors
    /// When the token is none.
    pub fn with_token(mut self, token: &str) -> Result<Self, PeerError> {
        let header = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut header =
            header.map_err(|_| PeerError::Kubeconfig { reason: "the token is malformed".into() })?;
        header.set_sensitive(true);
        self.authorization = Some(header);
        Ok(self)
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
        let token = match (user["token"].as_str(), user["tokenFile"].as_str()) {
            (Some(token), _) => Some(token.to_string()),
            (None, Some(path)) => Some(read(&folder.join(path))?),
            (None, None) => None,
        };
        match token {
            Some(token) => peer.with_token(&token),
            None => Ok(peer),
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
            headers.insert(AUTHORIZATION, authorization.clone());
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

/// Connects: TCP, then TLS.
#[derive(Clone)]
struct Dial(TlsConnector);

impl tower::Service<Uri> for Dial {
    type Response = Stream;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.0.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
            let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
            let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
            stream.set_nodelay(true)?;
            Ok(Stream(TokioIo::new(tls.connect(name, stream).await?)))
        })
    }
}

/// A connection that can be kept.
struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
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
        assert_eq!(peer.authorization.unwrap(), "Bearer secret");
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
