//! The built-in kinds of Kubernetes: what makes the generic API server a Kubernetes API server.
//!
//! Facts are data ([`catalogue`]); behaviour is small functions on JSON objects. [`resources()`] puts both together
//! into what the server serves. Nothing here listens, and nothing is stored but by compare-and-swap on the store the
//! server has.

pub mod access;
mod actions;
pub mod admission;
pub mod bootstrap;
pub mod catalogue;
mod components;
mod connections;
mod convert;
mod defaults;
mod fields;
pub mod initial;
mod names;
pub mod protobuf;
mod resources;
mod strategies;
mod tables;
pub mod validation;
mod warnings;

pub use actions::{Binding, Eviction};
pub use connections::{NoConnection, connectable};
pub use resources::{Options, resources};
pub use strategies::service_allocator::ServiceAllocator;
