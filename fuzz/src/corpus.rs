//! Feeds the committed inputs of a target to its check: what tests of the owning crates do, so that neither rots.
//!
//! Fuzzing itself does not come through here: libFuzzer reads the folder.

use std::path::Path;
use std::{fs, panic};

/// Checks every input in `fuzz/corpus/TARGET`, and says which one a check fails on.
///
/// # Panics
/// When a check does, or when there is no input at all.
pub fn replay(target: &str, check: fn(&[u8])) {
    // The crate that compiles this is in `crates/`, beside which `fuzz/` lies.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "there are no inputs in {}", folder.display());
    for input in inputs {
        let bytes = fs::read(&input).expect("an input can be read");
        if let Err(cause) = panic::catch_unwind(|| check(&bytes)) {
            eprintln!("the input is {}", input.display());
            panic::resume_unwind(cause);
        }
    }
}
