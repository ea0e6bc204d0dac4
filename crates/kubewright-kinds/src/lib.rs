//! The built-in kinds of Kubernetes: what makes the generic API server a Kubernetes API server.
//!
//! Facts are data ([`catalogue`]); behaviour is small functions on JSON objects. Nothing here serves
//! requests or stores anything: the server asks.

pub mod catalogue;
