//! The documentation's tables name the tests that hold us to their rows. Each of these tests exists, in the crate that is
//! named with it; and a row without one says why it needs none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where a test lives whose crate is not named.
const ASSUMED: &str = "kubewright";
/// How the middle of a row begins that needs no test.
const WITHOUT: [&str; 2] = ["not here", "not needed"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files below a folder whose names end like this.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// The functions that are tests, of one file.
fn tests(source: &str) -> BTreeSet<String> {
    let mut marked = false;
    let mut found = BTreeSet::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            marked |= line.contains("test");
        } else if let Some((_, rest)) = line.split_once("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            if marked {
                found.insert(name.to_owned());
            }
            marked = false;
        }
    }
    found
}

/// The tests of a crate, by the crate's name.
fn tests_of_crates() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let sources = files(&folder, ".rs");
        let found = sources
            .iter()
            .flat_map(|file| tests(&fs::read_to_string(file).unwrap()))
            .collect::<BTreeSet<_>>();
        all.insert(name, found);
    }
    all
}

/// A row of a table whose last column is of tests.
struct Row {
    place: String,
    /// The cell before the last.
    here: String,
    tests: String,
}

fn rows(text: &str, file: &str) -> Vec<Row> {
    let mut of_tests = false;
    let mut rows = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let Some(inner) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            of_tests = false;
            continue;
        };
        let cells: Vec<&str> = inner.split(" | ").map(str::trim).collect();
        if lines.get(index + 1).is_some_and(|next| next.starts_with("|---")) {
            of_tests = cells.last() == Some(&"test");
        } else if of_tests
            && !line.starts_with("|---")
            && let [.., here, tests] = cells[..]
        {
            let place = format!("{file}:{}", index + 1);
            rows.push(Row { place, here: here.to_owned(), tests: tests.to_owned() });
        }
    }
    rows
}

/// The tests of a cell, each with its crate: a crate in parentheses is of the test before it, or with `both` or `all` of
/// those before it back to the crate before.
fn named(cell: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting: Vec<String> = Vec::new();
    for (index, part) in cell.split('`').enumerate() {
        if index % 2 == 1 {
            waiting.push(part.to_owned());
            continue;
        }
        let Some(words) = part.trim_start().strip_prefix('(').and_then(|rest| rest.split(')').next()) else {
            continue;
        };
        let of = words.rsplit(' ').next().unwrap_or_default();
        let count = match words.split_once(' ') {
            Some(("both", _)) => 2,
            Some(("all", _)) => waiting.len(),
            _ => 1,
        };
        let theirs = waiting.split_off(waiting.len().saturating_sub(count));
        found.extend(waiting.drain(..).map(|test| (test, ASSUMED.to_owned())));
        found.extend(theirs.into_iter().map(|test| (test, of.to_owned())));
    }
    found.extend(waiting.into_iter().map(|test| (test, ASSUMED.to_owned())));
    found
}

#[test]
fn tests_that_the_documentation_names_exist_and_rows_without_any_say_why() {
    let tests = tests_of_crates();
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in files(&root().join("docs"), ".md") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for row in rows(&fs::read_to_string(&file).unwrap(), &name) {
            if row.tests == "–" && !WITHOUT.iter().any(|start| row.here.starts_with(start)) {
                wrong.push(format!("{} names no test and does not begin with one of {WITHOUT:?}", row.place));
            }
            for (test, of) in named(&row.tests) {
                count += 1;
                if tests.get(&of).is_none_or(|tests| !tests.contains(&test)) {
                    wrong.push(format!("{}: there is no test {test} in {of}", row.place));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "only {count} tests were found in the tables");
}

#[test]
fn the_crate_of_a_test_is_the_one_named_after_it() {
    let cell = "`a`, `b` (both x), `c`, `d` (y), those of `e`, `f`, `g` (all z)";
    let found = named(cell);
    let found: Vec<(&str, &str)> = found.iter().map(|(test, of)| (&**test, &**of)).collect();
    let expected = [("a", "x"), ("b", "x"), ("c", ASSUMED), ("d", "y"), ("e", "z"), ("f", "z"), ("g", "z")];
    assert_eq!(found, expected);
    assert_eq!(named("the same"), []);
    assert_eq!(named("`h`"), [("h".to_owned(), ASSUMED.to_owned())]);
}
