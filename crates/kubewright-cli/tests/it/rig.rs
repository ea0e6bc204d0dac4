//! A `kubewright` process for one test, and kubectl against it. Everything it writes is in a folder of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long something that should happen may take before a test fails: generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running `kubewright cluster` or `kubewright dev`.
pub struct Rig {
    child: Child,
    /// A folder for this test alone.
    pub dir: PathBuf,
    /// The URL of the API server.
    pub url: String,
    stderr: Arc<Mutex<String>>,
}

impl Rig {
    /// `kubewright cluster` with further flags, ready.
    pub fn cluster(name: &str, flags: &[&str]) -> Self {
        let mut args = vec!["cluster"];
        args.extend(flags);
        Self::start(name, &args)
    }

    /// `kubewright ARGS` on any port with a kubeconfig of its own, ready.
    pub fn start(name: &str, args: &[&str]) -> Self {
        let dir = scratch(name);
        Self::start_in(dir, args, "127.0.0.1:0")
    }

    /// The same in a folder that exists, on an address.
    pub fn start_in(dir: PathBuf, args: &[&str], bind: &str) -> Self {
        let mut child = command(args)
            .args(["--bind", bind, "--kubeconfig"])
            .arg(dir.join("kubeconfig"))
            // Where the sample with objects of its own keeps them.
            .env("FISCHER_LEDGER", dir.join("fischers.json"))
            .spawn()
            .expect("the kubewright binary runs");
        let stderr = Arc::new(Mutex::new(String::new()));
        let heard = stderr.clone();
        let pipe = child.stderr.take().expect("stderr is a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        out.read_line(&mut line).expect("stdout can be read");
        let url = line
            .strip_prefix("ready ")
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or_default()
            .to_owned();
        if url.is_empty() {
            let _ = child.kill();
            panic!("no ready line but {line:?}; stderr:\n{}", stderr.lock().unwrap());
        }
        // Nobody reads stdout further, but it must not fill up.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        Self { child, dir, url, stderr }
    }

    /// What the process said on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kubectl with arguments; its output whatever it is.
    pub fn kubectl_output(&self, args: &[&str]) -> Output {
        self.run(&newest(), args, "")
    }

    /// What kubectl prints; it must succeed and say nothing on stderr.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.clean(&newest(), args, "")
    }

    /// The same with a text on stdin.
    pub fn kubectl_stdin(&self, args: &[&str], stdin: &str) -> String {
        self.clean(&newest(), args, stdin)
    }

    /// The same with kubectl 1.20.
    pub fn old_kubectl(&self, args: &[&str]) -> String {
        self.clean(&old(), args, "")
    }

    /// A kubectl that runs on its own, such as a watch.
    pub fn kubectl_spawn(&self, args: &[&str]) -> Child {
        self.kubectl_command(&newest(), args).stdin(Stdio::null()).spawn().expect("kubectl runs")
    }

    /// Repeats kubectl until `done` likes what it prints.
    pub fn until(&self, args: &[&str], done: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.kubectl_output(args);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && done(&text) {
                return text;
            }
            if Instant::now() > deadline {
                panic!(
                    "kubectl {args:?} still prints:\n{text}{}\nstderr of kubewright:\n{}",
                    String::from_utf8_lossy(&output.stderr),
                    self.stderr()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the process has said `text` on stderr.
    pub fn hears(&self, text: &str) {
        wait_until(|| self.stderr().contains(text), || format!("{text:?} was not said:\n{}", self.stderr()));
    }

    /// Sends a signal and waits for the end of the process.
    pub fn end(&mut self, signal: &str) -> std::process::ExitStatus {
        send(signal, self.pid());
        let mut status = None;
        wait_until(
            || {
                status = self.child.try_wait().expect("the process can be waited for");
                status.is_some()
            },
            || "the process does not end".to_owned(),
        );
        status.expect("it has ended")
    }

    fn kubectl_command(&self, kubectl: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(kubectl);
        command
            .args(args)
            .env("KUBECONFIG", self.dir.join("kubeconfig"))
            // Discovery is cached under HOME: each test has its own.
            .env("HOME", &self.dir)
            .env("KUBECACHEDIR", self.dir.join("cache"))
            .current_dir(&self.dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, kubectl: &Path, args: &[&str], stdin: &str) -> Output {
        use std::io::Write as _;
        let mut child =
            self.kubectl_command(kubectl, args).stdin(Stdio::piped()).spawn().expect("kubectl runs");
        // kubectl may end without reading.
        let _ = child.stdin.take().expect("stdin is a pipe").write_all(stdin.as_bytes());
        child.wait_with_output().expect("kubectl ends")
    }

    fn clean(&self, kubectl: &Path, args: &[&str], stdin: &str) -> String {
        let output = self.run(kubectl, args, stdin);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success() && err.is_empty(),
            "kubectl {args:?}: {}\nstdout: {out}\nstderr: {err}\nkubewright: {}",
            output.status,
            self.stderr()
        );
        out.into_owned()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // SIGTERM first, so that `dev` ends its operator.
        send("TERM", self.pid());
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The kubewright binary with arguments, its output piped.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubewright"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A folder for one test.
pub fn scratch(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the target folder can be written");
    dir
}

/// A path in the repository.
pub fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).to_string_lossy().into_owned()
}

/// Waits for a condition; fails with words when it does not come.
pub fn wait_until(mut done: impl FnMut() -> bool, otherwise: impl FnOnce() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a signal to a process.
pub fn send(signal: &str, pid: u32) {
    let _ =
        Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

/// Everything a child prints until it is killed after `until` holds.
pub fn read_until(child: &mut Child, until: impl Fn(&str) -> bool) -> String {
    let text = Arc::new(Mutex::new(String::new()));
    let mut pipe = child.stdout.take().expect("stdout is a pipe");
    let heard = text.clone();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    wait_until(|| until(&text.lock().unwrap()), || format!("not seen in:\n{}", text.lock().unwrap()));
    let _ = child.kill();
    let _ = child.wait();
    let _ = reader.join();
    text.lock().unwrap().clone()
}

fn newest() -> PathBuf {
    tool("KUBEWRIGHT_KUBECTL")
}

fn old() -> PathBuf {
    tool("KUBEWRIGHT_KUBECTL_OLD")
}

/// A tool that `cargo xtask test` fetches and names in the environment.
fn tool(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!("{variable} is not set: run the tests with `cargo xtask test`, which fetches kubectl"),
    }
}
