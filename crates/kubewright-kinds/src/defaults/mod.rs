//! Defaults that depend on other fields: what Kubernetes fills in beyond the schema's own defaults.
//!
//! Every function is given an object (or part of one) in canonical form and leaves it in canonical form. They are
//! functions of the object alone; what depends on other objects is admission.

pub(crate) mod batch;
pub(crate) mod cluster;
pub(crate) mod core;
pub(crate) mod networking;
pub(crate) mod pod;
pub(crate) mod storage;
pub(crate) mod workloads;
