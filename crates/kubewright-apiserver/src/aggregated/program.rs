//! An aggregated API server as a program: the subcommands `run`, `manifests` and `version`.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use kubewright_pki::Identity;
use tokio::signal::unix::{SignalKind, signal};

use super::Error;
use super::manifests::PORT;
use super::server::{AggregatedServer, Serving, Settings};
use crate::outbound::Peer;
use crate::request::yaml;

/// Where a pod finds the namespace that it is in.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(Flags),
    Manifests { namespace: Option<String> },
    Version,
    Help,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    kubeconfig: Option<PathBuf>,
    bind: Option<SocketAddr>,
    namespace: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    log_level: Option<String>,
}

/// Reads a command line without the program's name.
fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, Error> {
    let mut arguments = arguments.peekable();
    let command = match arguments.peek().map(String::as_str) {
        Some("run" | "manifests" | "version") => arguments.next().unwrap_or_default(),
        Some("-h" | "--help" | "help") => return Ok(Command::Help),
        Some("-V" | "--version") => return Ok(Command::Version),
        Some(other) if !other.starts_with('-') => {
            return Err(Error::Usage(format!("unknown command {other:?}; see --help")));
        }
        _ => "run".into(),
    };
    let mut flags = Flags::default();
    while let Some(argument) = arguments.next() {
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) => (flag.to_string(), Some(value.to_string())),
            None => (argument, None),
        };
        if matches!(&*flag, "-h" | "--help") {
            return Ok(Command::Help);
        }
        let runs = command == "run";
        let known = match &*flag {
            "-n" | "--namespace" => command != "version",
            "--kubeconfig" | "--bind" | "--tls-cert-file" | "--tls-private-key-file" | "--log-level" => runs,
            _ => false,
        };
        if !known {
            return Err(Error::Usage(format!("unknown argument {flag:?} of {command}; see --help")));
        }
        let value = value.or_else(|| arguments.next());
        let value = value.ok_or_else(|| Error::Usage(format!("{flag} needs a value")))?;
        match &*flag {
            "-n" | "--namespace" => flags.namespace = Some(value),
            "--kubeconfig" => flags.kubeconfig = Some(value.into()),
            "--tls-cert-file" => flags.certificate = Some(value.into()),
            "--tls-private-key-file" => flags.key = Some(value.into()),
            "--log-level" => flags.log_level = Some(value),
            _ => {
                let address =
                    value.parse().map_err(|_| Error::Usage(format!("--bind {value} is no address")))?;
                flags.bind = Some(address);
            }
        }
    }
    Ok(match &*command {
        "manifests" => Command::Manifests { namespace: flags.namespace },
        "version" => Command::Version,
        _ => Command::Run(flags),
    })
}

fn help(name: &str) -> String {
    format!(
        "{name}: an aggregated API server\n\n\
         Usage: {name} [run] [OPTIONS]    serve until SIGINT or SIGTERM\n       \
         {name} manifests [-n NAMESPACE]  print what it needs in the cluster, as YAML\n       \
         {name} version\n\n\
         Options of run:\n  \
         --kubeconfig FILE            the cluster [default: the pod's service account, $KUBECONFIG or ~/.kube/config]\n  \
         --bind ADDRESS               where to serve [default: [::]:{PORT}]\n  \
         -n, --namespace NAMESPACE    namespace of its Service [default: the pod's, or {name}-system]\n  \
         --tls-cert-file FILE         serving certificate [default: one of its own, which its APIServices trust]\n  \
         --tls-private-key-file FILE  key of that certificate\n  \
         --log-level LEVEL            such as debug [default: $RUST_LOG or info]\n"
    )
}

impl AggregatedServer {
    /// The program: reads the command line and does what it says. On failure it prints the error with its causes to
    /// stderr and exits with status 1.
    ///
    /// # Errors
    /// None at present; the type lets `main` return it.
    pub async fn main(self) -> Result<(), Error> {
        if let Err(error) = self.command(std::env::args().skip(1)).await {
            // Printed here: returned from `main`, it would be shown as a Rust value.
            let _ = writeln!(std::io::stderr(), "error: {}", error.chain());
            std::process::exit(1);
        }
        Ok(())
    }

    async fn command(self, arguments: impl Iterator<Item = String>) -> Result<(), Error> {
        let print = |text: &str| {
            // Whoever does not listen does not miss it.
            let _ = std::io::stdout().write_all(text.as_bytes());
        };
        match parse(arguments)? {
            Command::Help => print(&help(&self.name)),
            Command::Version => print(&format!(
                "{} {} (kubewright {})\n",
                self.name,
                self.version.as_deref().unwrap_or("unversioned"),
                env!("CARGO_PKG_VERSION")
            )),
            Command::Manifests { namespace } => {
                let namespace = namespace.unwrap_or_else(|| format!("{}-system", self.name));
                let documents = self.manifests(&namespace)?;
                let text: String = documents.iter().map(|d| format!("---\n{}", yaml::write(d))).collect();
                print(&text);
            }
            Command::Run(flags) => self.run(flags).await?,
        }
        Ok(())
    }

    async fn run(self, flags: Flags) -> Result<(), Error> {
        log_to_stderr(flags.log_level.as_deref());
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let own = std::fs::read_to_string(NAMESPACE_FILE).ok();
        let namespace = flags.namespace.or(own).unwrap_or_else(|| format!("{}-system", self.name));
        let serving = match (&flags.certificate, &flags.key) {
            (Some(certificate), Some(key)) => {
                let identity = Identity::from_pem(&read(certificate)?, &read(key)?);
                Serving::Certificate(Box::new(identity.map_err(Error::Certificates)?))
            }
            (None, None) => Serving::Own { namespace },
            _ => {
                return Err(Error::Usage(
                    "--tls-cert-file and --tls-private-key-file belong together".into(),
                ));
            }
        };
        let settings = Settings {
            cluster: cluster(flags.kubeconfig.as_deref())?,
            bind: flags.bind.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT)),
            serving,
        };
        let name = self.name.clone();
        let running = self.start(settings).await?;
        tracing::info!(name, address = ?running.address(), "serving");
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        running.shutdown().await;
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })
}

/// The cluster: of a kubeconfig that is named, else that of the pod, else that of the user.
fn cluster(kubeconfig: Option<&Path>) -> Result<Peer, Error> {
    let of_file = |path: &Path| {
        let folder = path.parent().unwrap_or(Path::new(""));
        Peer::from_kubeconfig(&read(path)?, folder).map_err(Error::Cluster)
    };
    if let Some(path) = kubeconfig {
        return of_file(path);
    }
    if let Some(peer) = Peer::in_cluster() {
        return peer.map_err(Error::Cluster);
    }
    let named = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config"));
    let path = named.or_else(home).unwrap_or_default();
    of_file(&path)
}

fn log_to_stderr(level: Option<&str>) {
    use tracing_subscriber::EnvFilter;
    let filter = match level {
        Some(level) => EnvFilter::new(level),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if builder.with_ansi(false).try_init().is_err() {
        tracing::debug!("the program has set up its own logging, which stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_string)).map_err(|error| error.to_string())
    }

    #[test]
    fn run_is_what_is_meant_where_nothing_is_said() {
        let flags = Flags { bind: Some(([127, 0, 0, 1], 1).into()), ..Flags::default() };
        assert_eq!(parsed("--bind 127.0.0.1:1"), Ok(Command::Run(flags)));
        assert_eq!(parsed(""), Ok(Command::Run(Flags::default())));
        assert_eq!(parsed("manifests --namespace=n"), Ok(Command::Manifests { namespace: Some("n".into()) }));
        assert_eq!(parsed("-V"), Ok(Command::Version));
        assert_eq!(parsed("run --help"), Ok(Command::Help));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, said) in [
            ("walk", "unknown command \"walk\""),
            ("run --fast", "unknown argument \"--fast\""),
            ("manifests --bind x", "unknown argument \"--bind\""),
            ("--bind", "--bind needs a value"),
            ("--bind here", "--bind here is no address"),
        ] {
            assert!(parsed(line).unwrap_err().contains(said), "{line}");
        }
    }
}
