//! The committed inputs of the fuzz targets for this crate, and what the targets check of them. Fuzzing itself is
//! `cargo xtask fuzz`.

#[path = "../../../../fuzz/src/corpus.rs"]
mod inputs;

#[path = "../../../../fuzz/src/continue_token.rs"]
mod continue_token;
#[path = "../../../../fuzz/src/request_url.rs"]
mod request_url;
#[path = "../../../../fuzz/src/yaml_body.rs"]
mod yaml_body;

#[test]
fn continue_tokens_read_back() {
    inputs::replay("continue_token", continue_token::check);
}

#[test]
fn urls_are_read_or_refused_with_the_clients_fault() {
    inputs::replay("request_url", request_url::check);
}

#[test]
fn yaml_is_written_as_it_reads() {
    inputs::replay("yaml_body", yaml_body::check);
}
