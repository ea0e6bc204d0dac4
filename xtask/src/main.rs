//! What a Makefile would do: `cargo xtask COMMAND`.
//!
//! Commands run cargo and fetch the tools that tests need; they build nothing themselves and keep nothing outside the
//! target directory. cargo's own output passes through untouched.

mod fuzz;
mod tools;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  test [ARGS]   fetch what the tests need (kubectl, a new and an old one; schemas; client libraries),
                then run them all;
                ARGS go to `cargo test`: `cargo xtask test -p kubewright-storage some_name`
  lint          formatting, clippy and documentation, warnings denied
  ci            lint, then test: what a change has to pass
  tools         only fetch, and print the environment the tests get
  fuzz [TARGET...] [--seconds N]
                run fuzz targets (all of them) for N seconds each (120); takes a C++ compiler
";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    let done = match (command.to_str(), rest.is_empty()) {
        (Some("test"), _) => test(&rest),
        (Some("lint"), true) => lint(),
        (Some("ci"), true) => ci(),
        (Some("tools"), true) => print_tools(),
        (Some("fuzz"), _) => fuzz::run(root(), &target(), &rest),
        (Some("help" | "--help" | "-h"), _) => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test(arguments: &[OsString]) -> Result<()> {
    let tools = tools::fetch(&target().join("tools"))?;
    let whole = !arguments.iter().any(|argument| argument == "-p" || argument == "--package");
    if whole {
        build_binaries()?;
    }
    let mut tests = cargo(&["test", "--no-fail-fast"]);
    if whole {
        tests.arg("--workspace");
    }
    tests.args(arguments);
    for (variable, path) in &tools {
        eprintln!("xtask: {variable}={}", path.display());
        tests.env(variable, path);
    }
    run(&mut tests)
}

/// Builds the binaries as `kubewright dev` does: tests have more features of what they depend on, and what is built
/// anew without them is not to be waited for in a test.
fn build_binaries() -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--workspace", "--bins"]))
}

fn lint() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let otlp = ["-p", "kubewright", "--features", "otlp"];
    run(cargo(&["clippy"]).args(otlp).args(["--all-targets", "--", "-D", "warnings"]))?;
    run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn ci() -> Result<()> {
    lint()?;
    run(&mut cargo(&["xtask", "test"]))?;
    // What is off by default, and tested by few tests.
    run(&mut cargo(&["test", "-p", "kubewright", "--features", "otlp", "--lib", "logs::"]))
}

fn print_tools() -> Result<()> {
    for (variable, path) in tools::fetch(&target().join("tools"))? {
        println!("{variable}={}", path.display());
    }
    Ok(())
}

/// The root of the workspace.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => root().join(target),
        None => root().join("target"),
    }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(root());
    cargo
}

fn run(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}
