//! The embedded cluster as tests use it: a plain `kube::Client`, controllers that do their work, nothing on a socket.

mod aggregated;
mod clients;
mod clusters;
mod following;
mod garbage;
mod identities;
mod mapper;
mod metrics;
mod namespaces;
mod nodes;
mod options;
mod plain_client;
mod pure;
mod shares;
mod webhooks;
mod workloads;
