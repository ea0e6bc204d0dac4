//! The committed inputs of the fuzz targets for this crate, and what the targets check of them. Fuzzing itself is
//! `cargo xtask fuzz`.

#[path = "../../../../fuzz/src/corpus.rs"]
mod inputs;

#[path = "../../../../fuzz/src/protobuf_body.rs"]
mod protobuf_body;
#[path = "../../../../fuzz/src/strategic_merge.rs"]
mod strategic_merge;

#[test]
fn objects_in_protobuf_are_those_in_json() {
    inputs::replay("protobuf_body", protobuf_body::check);
}

#[test]
fn strategic_merges_without_directives_twice_are_once() {
    inputs::replay("strategic_merge", strategic_merge::check);
}
