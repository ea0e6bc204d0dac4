//! The server as clients see it, in process and over TLS.

mod aggregation;
mod audits;
mod backend;
mod client;
mod corpus;
mod crds;
mod custom;
mod hook;
mod hostile;
mod objects;
mod oidc;
mod watches;
mod webhooks;
