//! What every fuzz target checks of an input: no panic, and the properties that its file states.
//!
//! The files are compiled twice: here, for libFuzzer, and by the tests of the crate that owns the code, which feed them
//! the committed inputs (`crates/*/tests/it/corpus.rs`).

pub mod continue_token;
pub mod field_selector;
pub mod json_body;
pub mod json_patch;
pub mod label_selector;
pub mod managed_fields;
pub mod merge_patch;
pub mod protobuf_body;
pub mod quantity;
pub mod request_url;
pub mod server_side_apply;
pub mod strategic_merge;
pub mod structural_schema;
pub mod yaml_body;
