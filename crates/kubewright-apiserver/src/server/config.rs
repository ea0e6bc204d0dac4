//! What a server is made of: everything it needs from outside, injected.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubewright_pki::Identity;
use kubewright_storage::Store;

use crate::admission::Admission;
use crate::audit::Auditor;
use crate::authn::{Anonymous, Authenticator, Issuer};
use crate::authz::{AlwaysAllow, Authorizer, Usage};
use crate::openapi::Descriptions;
use crate::request::BodyDecoder;
use crate::resources::Resource;

/// Tells the time. Injected, so that a run can be replayed.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Gives random bytes. Injected, so that a run can be replayed.
pub trait Entropy: Send + Sync {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The random numbers of the machine, fit for secrets.
#[derive(Debug)]
pub struct SystemEntropy(Arc<rustls::crypto::CryptoProvider>);

impl Default for SystemEntropy {
    fn default() -> Self {
        Self(Arc::new(rustls::crypto::ring::default_provider()))
    }
}

impl Entropy for SystemEntropy {
    /// Asks the operating system for many bytes at once: every request takes some, and a call costs more than they do.
    fn fill(&self, buffer: &mut [u8]) {
        let ask = |bytes: &mut [u8]| {
            self.0.secure_random.fill(bytes).expect("the operating system gives random bytes");
        };
        if buffer.len() > POOL {
            return ask(buffer);
        }
        KEPT.with_borrow_mut(|(pool, left)| {
            if *left < buffer.len() {
                ask(pool);
                *left = POOL;
            }
            let taken = &mut pool[*left - buffer.len()..*left];
            buffer.copy_from_slice(taken);
            // What was given out is not kept.
            taken.fill(0);
            *left -= buffer.len();
        });
    }
}

/// Random bytes that a thread keeps for later.
const POOL: usize = 1024;

thread_local! {
    /// The bytes and how many of them, at the front, nobody has got yet.
    static KEPT: RefCell<([u8; POOL], usize)> = const { RefCell::new(([0; POOL], 0)) };
}

/// What `/version` says.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// Such as `1`.
    pub major: String,
    /// Such as `36`.
    pub minor: String,
    /// Such as `v1.36.0+kubewright.0.1.0`.
    pub git_version: String,
}

impl Default for VersionInfo {
    fn default() -> Self {
        Self {
            major: "1".into(),
            minor: "36".into(),
            git_version: concat!("v1.36.0+kubewright.", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// Who issues the tokens of service accounts, and whom they are for, where nothing else is said.
pub const ISSUER: &str = "https://kubernetes.default.svc";

/// What requests and connections may cost. The defaults are kube-apiserver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that read in flight at a time, watches and other long ones aside; more get 429. Where there are
    /// FlowSchemas, the sum of this and the next is divided among priority levels instead.
    pub max_requests_in_flight: usize,
    /// The same for requests that write.
    pub max_mutating_requests_in_flight: usize,
    /// Whether FlowSchemas and PriorityLevelConfigurations are followed.
    pub fairness: bool,
    /// How long a request may take that is not meant to be long, its body included; then it gets 504. A client may ask
    /// for less by the parameter `timeout`.
    pub request_timeout: Duration,
    /// How long a client may take for its TLS handshake, or for the head of a request.
    pub head_timeout: Duration,
    /// How long a connection is kept on which nothing goes on; longer than clients keep theirs, so that they are the ones
    /// to close.
    pub idle_timeout: Duration,
    /// How long connections may take to end on shutdown.
    pub drain_timeout: Duration,
    /// Bytes in the head of a request; more get 431.
    pub max_header_bytes: usize,
    /// Streams at a time on one HTTP/2 connection.
    pub max_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_requests_in_flight: 400,
            max_mutating_requests_in_flight: 200,
            fairness: true,
            request_timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(32),
            idle_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(10),
            max_header_bytes: 1024 * 1024,
            max_streams: 1000,
        }
    }
}

/// What a server is made of.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// The built-in resources.
    pub resources: Vec<Arc<Resource>>,
    /// Admission plugins, in order.
    pub admission: Vec<Arc<dyn Admission>>,
    /// Ways to authenticate, asked in order.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// Which requests without credentials are let in as `system:anonymous`.
    pub anonymous: Anonymous,
    /// Whom tokens for this server are made out to.
    pub api_audiences: Vec<String>,
    /// Whose tokens of service accounts these are: what its keys are published for. It has to be among the
    /// authenticators too.
    pub issuer: Option<Arc<Issuer>>,
    /// Policies, asked in order.
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    /// Who reads bodies that are neither JSON nor YAML.
    pub body_decoders: Vec<Arc<dyn BodyDecoder>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness: uids, generated names, watch durations.
    pub entropy: Arc<dyn Entropy>,
    /// Who knows what built-in types and fields are for, so that OpenAPI documents (and `kubectl explain`) say it.
    pub descriptions: Option<Arc<dyn Descriptions>>,
    /// What `/version` says.
    pub version: VersionInfo,
    /// What this server shows to the servers behind APIServices, so that they believe it who a request is from: the
    /// certificate of a front proxy. Without one it is a stranger to them.
    pub proxy_identity: Option<Arc<Identity>>,
    /// Who writes down what is done; nobody by default.
    pub audit: Option<Auditor>,
    /// Who notes which permissions service accounts use; nobody by default.
    pub usage: Option<Arc<Usage>>,
    /// What requests and connections may cost.
    pub limits: Limits,
    /// A watch without a timeout ends after a random time between this and twice this.
    pub min_watch_timeout: Duration,
}

impl ServerConfig {
    /// A configuration with a store and nothing else: nobody is authenticated but everybody let in, and everything is
    /// allowed.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            resources: Vec::new(),
            admission: Vec::new(),
            authenticators: Vec::new(),
            anonymous: Anonymous::Everywhere,
            api_audiences: vec![ISSUER.to_string()],
            issuer: None,
            authorizers: vec![Arc::new(AlwaysAllow)],
            body_decoders: Vec::new(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::default()),
            descriptions: None,
            version: VersionInfo::default(),
            proxy_identity: None,
            audit: None,
            usage: None,
            limits: Limits::default(),
            min_watch_timeout: Duration::from_secs(1800),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn random_bytes_are_given_out_once() {
        let entropy = SystemEntropy::default();
        let mut seen = BTreeSet::new();
        for _ in 0..3 * POOL / 16 {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            assert!(seen.insert(bytes), "no sixteen bytes come twice");
        }
        let mut many = vec![0; POOL + 1];
        entropy.fill(&mut many);
        assert!(many.iter().any(|byte| *byte != 0));
    }
}
