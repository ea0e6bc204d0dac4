//! Field sets and server-side apply (KEP-555).
//!
//! Who owns which field of an object, and what an apply or any other write does to the object and to its
//! `metadata.managedFields`. Everything here is pure: objects and schemas come in, objects come out, the time
//! is an argument.
//!
//! Start at [`FieldManager`]. Below it: [`apply`] settles owners and merges, [`managers`] reads and writes
//! `managedFields`, [`conflict`] is the 409, [`scale`] carries owners to `/scale` and back; [`typed`] walks objects
//! with their schema; [`path`], [`set`] and [`json`] are the algebra and `fieldsV1`.

pub mod apply;
pub mod conflict;
pub mod json;
mod last_applied;
pub mod manager;
pub mod managers;
pub mod path;
pub mod scale;
pub mod set;
#[cfg(test)]
mod tests;
pub mod typed;
mod value;

pub use apply::{ConvertError, Converter, FieldFilter, SameInAllVersions, SingleVersion};
pub use last_applied::LAST_APPLIED;
pub use manager::{ApplyError, FieldManager};
pub use managers::{Managers, keep_times};
pub use path::{Path, PathElement};
pub use set::Set;
pub use typed::ObjectType;
