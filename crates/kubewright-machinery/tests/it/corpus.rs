//! The committed inputs of the fuzz targets for this crate, and what the targets check of them. Fuzzing itself is
//! `cargo xtask fuzz`.

#[path = "../../../../fuzz/src/corpus.rs"]
mod inputs;

#[path = "../../../../fuzz/src/field_selector.rs"]
mod field_selector;
#[path = "../../../../fuzz/src/json_body.rs"]
mod json_body;
#[path = "../../../../fuzz/src/json_patch.rs"]
mod json_patch;
#[path = "../../../../fuzz/src/label_selector.rs"]
mod label_selector;
#[path = "../../../../fuzz/src/managed_fields.rs"]
mod managed_fields;
#[path = "../../../../fuzz/src/merge_patch.rs"]
mod merge_patch;
#[path = "../../../../fuzz/src/quantity.rs"]
mod quantity;
#[path = "../../../../fuzz/src/server_side_apply.rs"]
mod server_side_apply;
#[path = "../../../../fuzz/src/structural_schema.rs"]
mod structural_schema;

#[test]
fn field_selectors_print_as_they_read() {
    inputs::replay("field_selector", field_selector::check);
}

#[test]
fn json_bodies_are_read_as_any_parser_reads_them() {
    inputs::replay("json_body", json_body::check);
}

#[test]
fn json_patches_do_what_a_test_then_finds() {
    inputs::replay("json_patch", json_patch::check);
}

#[test]
fn label_selectors_print_as_they_read() {
    inputs::replay("label_selector", label_selector::check);
}

#[test]
fn sets_of_managed_fields_print_as_they_read() {
    inputs::replay("managed_fields", managed_fields::check);
}

#[test]
fn merge_patches_twice_are_once() {
    inputs::replay("merge_patch", merge_patch::check);
}

#[test]
fn quantities_print_as_they_read() {
    inputs::replay("quantity", quantity::check);
}

#[test]
fn applies_twice_are_once_and_force_ends_conflicts() {
    inputs::replay("server_side_apply", server_side_apply::check);
}

#[test]
fn schemas_judge_default_and_prune_any_value() {
    inputs::replay("structural_schema", structural_schema::check);
}
