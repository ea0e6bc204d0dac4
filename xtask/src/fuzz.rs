//! Runs the fuzz targets in `fuzz/` on the stable toolchain, one after the other, each for a time.
//!
//! The compiler instruments our code as cargo-fuzz has it done; libFuzzer is built from its crate, which takes a C++
//! compiler. What libFuzzer finds on the way stays in the target directory: the committed inputs only change by hand.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Seconds for each target, if not said otherwise.
const SECONDS: u32 = 120;

/// Tells the compiler to count edges and to show comparisons to the fuzzer. There is no address sanitizer (it takes a
/// nightly compiler), nor a need for it: our code has nothing unsafe.
const INSTRUMENT: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// `cargo xtask fuzz [TARGET…] [--seconds N]`; without a target, all of them.
pub fn run(root: &Path, target: &Path, arguments: &[OsString]) -> Result<()> {
    let home = root.join("fuzz");
    let all = targets(&home)?;
    let (chosen, seconds) = parse(arguments, &all)?;
    let build = target.join("fuzz");
    let host = host()?;

    let mut cargo = crate::cargo(&["build", "--release", "--target", &host, "--manifest-path"]);
    cargo.arg(home.join("Cargo.toml")).env("CARGO_TARGET_DIR", &build).env("RUSTFLAGS", INSTRUMENT);
    for name in &chosen {
        cargo.args(["--bin", name]);
    }
    crate::run(&mut cargo)?;

    let mut failed = Vec::new();
    for name in chosen {
        let found = build.join("corpus").join(name);
        let artifacts = home.join("artifacts").join(name);
        for folder in [&found, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        eprintln!("xtask: {name}, for {seconds} s");
        let mut fuzz = Command::new(build.join(&host).join("release").join(name));
        fuzz.arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", "-print_final_stats=1"])
            // New inputs go into the first folder.
            .arg(&found)
            .arg(home.join("corpus").join(name))
            .current_dir(&home);
        let status =
            fuzz.status().with_context(|| format!("cannot start {}", fuzz.get_program().display()))?;
        if !status.success() {
            eprintln!(
                "xtask: {name} failed: run {} with the input in {} to see it again, and put a small form of the \
                 input into fuzz/corpus/{name} with the repair",
                fuzz.get_program().display(),
                artifacts.display()
            );
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("fuzz targets that failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The names of the targets: each has a file.
fn targets(home: &Path) -> Result<Vec<String>> {
    let folder = home.join("fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path: PathBuf = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn parse<'a>(arguments: &[OsString], all: &'a [String]) -> Result<(Vec<&'a str>, u32)> {
    let (mut chosen, mut seconds) = (Vec::new(), SECONDS);
    let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let text = arguments.next().unwrap_or_default();
            seconds = text.parse().with_context(|| format!("--seconds takes a number, not {text:?}"))?;
        } else if let Some(name) = all.iter().find(|name| **name == *argument) {
            chosen.push(name.as_str());
        } else {
            bail!("there is no fuzz target {argument:?}; there are {}", all.join(", "));
        }
    }
    if chosen.is_empty() {
        chosen.extend(all.iter().map(String::as_str));
    }
    Ok((chosen, seconds))
}

/// The machine's target triple. With it stated, cargo instruments no build scripts and macros.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}
