//! Kubernetes API semantics without I/O.
//!
//! Everything here is a function of its arguments: no tokio, no HTTP, no clock, no randomness. Objects
//! are plain [`serde_json::Value`]s; what is known of their types is a [`schema::Schema`], the same
//! for built-in kinds (from a catalogue) and for custom resources (from their definition).

pub mod answers;
pub mod crd;
pub mod decode;
pub mod duration;
pub mod field;
pub mod fieldset;
pub mod gojson;
pub mod gvk;
pub mod meta;
pub mod names;
pub mod patch;
pub mod quantity;
pub mod reviews;
pub mod scan;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod user;
