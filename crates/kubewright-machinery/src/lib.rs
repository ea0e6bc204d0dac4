//! Kubernetes API semantics without I/O.
//!
//! Everything here is a function of its arguments: no tokio, no HTTP, no clock, no randomness. Objects
//! are plain [`serde_json::Value`]s; what is known of their types is a [`schema::Schema`], the same
//! for built-in kinds (from a catalogue) and for custom resources (from their definition).

pub mod field;
pub mod names;
pub mod fieldset;
pub mod schema;
pub mod status;
