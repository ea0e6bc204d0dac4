//! Selectors: by labels ([`label`]), by fields ([`fields`]) and by hash range ([`shard`]). Each is parsed from the
//! text of a query parameter with the server's words for what is wrong, prints back to a text that parses to the
//! same, and decides on an object without building anything.

pub mod fields;
pub mod label;
pub mod shard;

pub use fields::FieldSelector;
pub use label::LabelSelector;
pub use shard::ShardSelector;
