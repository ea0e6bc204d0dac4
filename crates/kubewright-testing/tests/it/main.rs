//! The embedded cluster as tests use it: a plain `kube::Client`, controllers that do their work, nothing on a socket.

mod aggregated;
mod clusters;
mod garbage;
mod namespaces;
mod nodes;
mod plain_client;
mod webhooks;
mod workloads;
