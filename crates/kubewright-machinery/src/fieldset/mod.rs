//! Field sets and server-side apply (KEP-555).
//!
//! Who owns which field of an object, and what an apply or any other write does to the object and to its
//! `metadata.managedFields`. Everything here is pure: objects and schemas come in, objects come out, the time
//! is an argument.
//!
//! [`path`] and [`set`] are the algebra, [`json`] is `fieldsV1`; [`typed`] walks objects with their schema.

pub mod json;
pub mod path;
pub mod set;
pub mod typed;
mod value;

pub use path::{Path, PathElement};
pub use set::Set;
