//! Connections to the servers behind APIServices: kept open and shared, HTTP/2 where both sides know it, and HTTP/1.1
//! where a request wants to go on in another protocol. Nothing is retried that the other side may have seen, and no
//! redirect is followed.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kubewright_pki::Identity;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Backend, Remote};
use crate::outbound::connector::{Connector, DialError};
use crate::outbound::dial::{self, Trust};
use crate::resources::RequestBody;

/// How long one is kept without use.
const IDLE: Duration = Duration::from_secs(90);
/// A connection without a word for so long is asked whether it lives, and given up after as long again at most.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(15);
/// Limit on the headers of an answer.
const MAX_HEADER_BYTES: u32 = 1024 * 1024;
/// Backends that are remembered.
const MAX_BACKENDS: usize = 256;

/// The connections to all backends.
pub(crate) struct Upstreams {
    identity: Option<Arc<Identity>>,
    known: Mutex<HashMap<Backend, Arc<Upstream>>>,
    doubtful: Mutex<BTreeSet<String>>,
    doubted: Notify,
}

/// The connections to one backend, whatever its addresses.
pub(super) struct Upstream {
    shared: Client<Connector, RequestBody>,
    upgrading: Client<Connector, RequestBody>,
}

impl Upstreams {
    /// None yet. The server shows itself by this identity.
    pub(crate) fn new(identity: Option<Arc<Identity>>) -> Self {
        Self { identity, known: Mutex::default(), doubtful: Mutex::default(), doubted: Notify::new() }
    }

    /// A request to a remote group version failed: it is to be asked whether it still answers.
    pub(super) fn doubt(&self, remote: &Remote) {
        self.doubtful.lock().insert(format!("{}.{}", remote.version, remote.group));
        self.doubted.notify_one();
    }

    /// Waits until one is in doubt; gives the names of the APIServices.
    pub(super) async fn doubts(&self) -> BTreeSet<String> {
        loop {
            let doubtful = std::mem::take(&mut *self.doubtful.lock());
            if !doubtful.is_empty() {
                return doubtful;
            }
            self.doubted.notified().await;
        }
    }

    /// The connections to a backend. The error says why its trust cannot be set up.
    pub(super) fn of(&self, backend: &Backend) -> Result<Arc<Upstream>, String> {
        if let Some(upstream) = self.known.lock().get(backend) {
            return Ok(Arc::clone(upstream));
        }
        let upstream = Arc::new(Upstream::new(backend, self.identity.as_deref())?);
        let mut known = self.known.lock();
        if known.len() >= MAX_BACKENDS {
            known.clear();
        }
        known.insert(backend.clone(), Arc::clone(&upstream));
        Ok(upstream)
    }
}

impl Upstream {
    fn new(backend: &Backend, identity: Option<&Identity>) -> Result<Self, String> {
        let trust = if backend.insecure { Trust::Anybody } else { Trust::Bundle(&backend.ca_bundle) };
        let server_name = backend.server_name();
        let client = |protocols: &[&[u8]]| {
            let tls = dial::tls(trust, identity, protocols)?;
            Ok::<_, String>(client(Connector::named(tls, &server_name)))
        };
        Ok(Self { shared: client(&[b"h2", b"http/1.1"])?, upgrading: client(&[b"http/1.1"])? })
    }

    /// Sends a request to the host and port of its URI.
    pub(super) async fn send(
        &self,
        request: http::Request<RequestBody>,
        upgrades: bool,
    ) -> Result<http::Response<Incoming>, String> {
        let client = if upgrades { &self.upgrading } else { &self.shared };
        client.request(request).await.map_err(|error| said(&error))
    }
}

fn client(connector: Connector) -> Client<Connector, RequestBody> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(32)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .build(connector)
}

/// What went wrong, without the words of the layers between.
fn said(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    let mut last = error.to_string();
    while let Some(error) = next {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return dial.to_string();
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return "EOF".into();
        }
        last = error.to_string();
        next = error.source();
    }
    last
}
