//! Writing an aggregated API server: kinds of your own, served beside those of a cluster, kept wherever you like.
//!
//! A [`Kind`] is a Rust type (or a schema) with its names, [`Rules`] and the place where its objects are: the server's
//! store, another [`Store`](kubewright_storage::Store), or a [`Source`] of your own. An [`AggregatedServer`] serves kinds
//! as the cluster's API server serves its own: apply, patches, tables, watches, discovery and OpenAPI come with it. Who
//! calls is told by the cluster's front proxy or asked of the cluster, and so is what callers may do; nothing is served
//! on the word of a client alone, and nothing while the cluster cannot be asked.
//!
//! ```no_run
//! use kubewright_apiserver::aggregated::{AggregatedServer, Error, Kind};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Fish {
//!     spec: FishSpec,
//! }
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct FishSpec {
//!     /// In grams.
//!     #[schemars(range(min = 1))]
//!     weight: u32,
//! }
//!
//! # async fn example() -> Result<(), Error> {
//! AggregatedServer::new("fishery")
//!     .kind(Kind::new::<Fish>("fish.example.com", "v1", "Fish", "fishes").column("Weight", "integer", ".spec.weight"))
//!     .main()
//!     .await
//! # }
//! ```

mod engine;
mod kind;
mod manifests;
mod namespaces;
mod object;
mod program;
mod rules;
mod server;
mod shape;
mod source;
mod trust;
mod vouching;

use std::path::PathBuf;

pub use kind::Kind;
pub use kubewright_machinery::field;
pub use object::{Key, Metadata, Object};
pub use rules::Rules;
pub use server::{AggregatedServer, Running, Serving, Settings};
pub use source::{Change, Changes, Sink, Source, SourceError};

use crate::outbound::PeerError;
use crate::server::{ListenError, StartError};

/// Why an aggregated API server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kind is described in a way that cannot be served.
    #[error("the kind {kind} cannot be served: {faults}")]
    Kind {
        /// The kind.
        kind: String,
        /// What is wrong.
        faults: String,
    },
    /// There is no way to the cluster.
    #[error("cannot use the cluster")]
    Cluster(#[source] PeerError),
    /// The cluster does not say whom to believe.
    #[error("cannot read configmap kube-system/extension-apiserver-authentication")]
    Authentication(#[source] PeerError),
    /// Certificates cannot be made or used.
    #[error("cannot use certificates")]
    Certificates(#[source] kubewright_pki::PkiError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server itself did not start.
    #[error("cannot start the server")]
    Start(#[source] StartError),
    /// A kind's source cannot be read.
    #[error("cannot read the source of a kind")]
    Source(#[source] kubewright_storage::StoreError),
    /// The address cannot be served on.
    #[error("cannot serve")]
    Listen(#[source] ListenError),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// The error with its causes, as one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(&format!(": {cause}"));
            next = cause.source();
        }
        text
    }
}
