//! The errors that reconcilers, contexts and managers see. Each variant is an operation that failed;
//! its cause is the source.

use crate::cache::DecodeError;
use crate::client::{ClientOptionsError, ConnectError, MapperError, Undeclared};
use crate::kind::{Key, Kind};
use crate::lease::Fenced;

/// What most functions of this crate return; without parameters it fits `main`.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why an operation of the runtime, or a reconciliation, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster's address or credentials could not be worked out.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The code does what its controller does not declare.
    #[error(transparent)]
    Undeclared(#[from] Undeclared),
    /// A request was not sent because it can't be what the client's options want.
    #[error(transparent)]
    ClientOptions(#[from] ClientOptionsError),
    /// A kind or resource is not served, or that can't be learnt.
    #[error(transparent)]
    Mapper(#[from] MapperError),
    /// The cache does not follow the namespace that is read.
    #[error("{kind} of namespace {namespace} can't be read: the cache follows {followed} only")]
    NotFollowed {
        /// The resource that was to be read.
        kind: String,
        /// The namespace.
        namespace: String,
        /// What is followed.
        followed: String,
    },
    /// A write was not sent because this process does not hold its Lease.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The API server refused a request, or could not be reached.
    #[error("the request to the API server failed")]
    Api(#[source] Box<kube::Error>),
    /// An object of the cache is not what its type says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An object could not be written as JSON.
    #[error("the object could not be encoded as JSON")]
    Encode(#[from] serde_json::Error),
    /// The cache did not see this process's own writes in time.
    #[error("the cache of {kind} has not seen this process's own writes within {seconds} s")]
    CacheBehind {
        /// The kind that was read.
        kind: Kind,
        /// How long the read waited.
        seconds: u64,
    },
    /// A child of that name exists and belongs to somebody else.
    #[error("{kind} {child} exists and is controlled by {controller}")]
    ChildOfAnother {
        /// The kind of the child.
        kind: String,
        /// The child.
        child: Key,
        /// `Kind/name` of its controller.
        controller: String,
    },
    /// An object can't be a child of this owner.
    #[error("{kind} {child} can't be a child of {owner}: {why}")]
    InvalidChild {
        /// The kind of the child.
        kind: String,
        /// The child.
        child: Key,
        /// The owner.
        owner: Key,
        /// The rule it breaks.
        why: &'static str,
    },
    /// Reconciliation took longer than its controller allows.
    #[error("reconciliation took longer than {0:?}")]
    Timeout(std::time::Duration),
    /// The reconciler, or a part of the manager, panicked; the panic was caught.
    #[error("panicked: {0}")]
    Panicked(String),
    /// An address to serve on could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as given.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A part of the manager ended before it was asked to.
    #[error("{0} ended unexpectedly")]
    TaskEnded(String),
    /// A part of the manager failed.
    #[error("{name} failed")]
    TaskFailed {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Manifests could not be printed.
    #[error("the manifests could not be printed")]
    Print(#[source] std::io::Error),
    /// The command line or a setting is wrong.
    #[error("{0}")]
    Usage(String),
    /// An error of the reconciler's own; retried with backoff.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// An error that trying again can't repair; not retried until the object changes.
    #[error(transparent)]
    Terminal(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An error of the reconciler's own: any error, or a message. Retried with backoff.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Other(error.into())
    }

    /// An error that trying again can't repair: not retried until the object changes.
    pub fn terminal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Terminal(error.into())
    }

    /// The answer of the API server, if it gave one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Error::Api(error) => match &**error {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the API server answered that there is no such object. Kinds that are not served are
    /// [`Error::Mapper`] in the helpers of a context.
    pub fn is_not_found(&self) -> bool {
        self.has_reason("NotFound")
    }

    /// Whether the API server answered that there is such an object already.
    pub fn is_already_there(&self) -> bool {
        self.has_reason("AlreadyExists")
    }

    /// Whether the API server answered that the object has changed meanwhile: look again, and then write.
    pub fn is_conflict(&self) -> bool {
        self.has_reason("Conflict")
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }

    /// The message with its causes, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Other(error)
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Error {
        let kube::Error::Service(cause) = error else { return Error::Api(Box::new(error)) };
        let cause = match cause.downcast::<Undeclared>() {
            Ok(undeclared) => return Error::Undeclared(*undeclared),
            Err(cause) => cause,
        };
        let cause = match cause.downcast::<ClientOptionsError>() {
            Ok(options) => return Error::ClientOptions(*options),
            Err(cause) => cause,
        };
        match cause.downcast::<Fenced>() {
            Ok(fenced) => Error::Fenced(*fenced),
            Err(cause) => Error::Api(Box::new(kube::Error::Service(cause))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_server_are_told_apart_by_their_reasons() {
        let of = |code: u16, reason: &str| {
            let status = kube::core::Status::failure("no", reason).with_code(code);
            let error = Error::from(kube::Error::Api(Box::new(status)));
            [error.is_not_found(), error.is_already_there(), error.is_conflict()]
        };
        assert_eq!(of(404, "NotFound"), [true, false, false]);
        assert_eq!(of(409, "AlreadyExists"), [false, true, false]);
        assert_eq!(of(409, "Conflict"), [false, false, true]);
        assert_eq!(of(500, "InternalError"), [false; 3]);
    }
}
