//! Fuzz targets, their packages' list, their inputs and the tests that replay these do not drift apart: nothing else
//! compiles the targets themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_fuzz_target_is_listed_has_inputs_and_is_replayed_by_a_test() {
    let fuzz = root().join("fuzz");
    let targets = names(&fuzz.join("fuzz_targets"));
    assert!(!targets.is_empty());
    assert_eq!(names(&fuzz.join("corpus")), targets);

    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let listed = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    assert_eq!(
        listed.map(|rest| rest.trim_end_matches(".rs\"").to_owned()).collect::<BTreeSet<_>>(),
        targets
    );

    let library = fs::read_to_string(fuzz.join("src/lib.rs")).unwrap();
    let mut replays = String::new();
    for name in names(&root().join("crates")) {
        let tests = root().join("crates").join(name).join("tests/it/corpus.rs");
        replays += &fs::read_to_string(tests).unwrap_or_default();
    }
    for target in &targets {
        assert!(library.contains(&format!("pub mod {target};")), "{target}");
        assert!(replays.contains(&format!("replay(\"{target}\", {target}::check)")), "{target}");
        let text = fs::read_to_string(fuzz.join("fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(text.contains(&format!("kubewright_fuzz::{target}::check(")), "{text}");
    }
}
