//! The logs of an operator: lines on stderr, written by a thread of their own, with a filter that can be changed while the
//! process runs, beside whatever layers the program adds. Set up once a process.

#[cfg(feature = "otlp")]
mod otlp;
mod queue;

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use self::queue::Queue;
use crate::{Error, Result};

/// A layer that an operator adds to its logs.
pub(crate) type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// How long the last lines may take when the process ends.
const FLUSH: Duration = Duration::from_secs(2);

/// Where this process's lines go, once it is set up.
static LINES: OnceLock<Queue> = OnceLock::new();

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// The filter of the logs, to be looked at and changed by whoever may.
#[derive(Clone)]
pub(crate) struct LogFilter {
    read: Arc<dyn Fn() -> String + Send + Sync>,
    write: Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

impl LogFilter {
    fn new<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> LogFilter {
        let reader = handle.clone();
        LogFilter {
            read: Arc::new(move || reader.with_current(ToString::to_string).unwrap_or_default()),
            write: Arc::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())),
        }
    }

    /// A filter that nothing is logged by, for tests of those who change it.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Result<LogFilter, String> {
        let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(parse(text)?);
        // It is there as long as the process of the test.
        Box::leak(Box::new(filter));
        Ok(LogFilter::new(handle))
    }

    /// The filter as text, such as `info,kubewright=debug`.
    pub(crate) fn read(&self) -> String {
        (self.read)()
    }

    /// Sets another one, for what is logged from now on.
    ///
    /// # Errors
    /// With what is wrong about it, for whoever sent it.
    pub(crate) fn set(&self, wanted: &str) -> Result<String, String> {
        let filter = parse(wanted)?;
        let text = filter.to_string();
        (self.write)(filter)?;
        tracing::warn!(filter = text, "the log filter was changed");
        Ok(text)
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogFilter({})", self.read())
    }
}

/// A filter: a level, directives such as `info,kubewright=debug`, or a verbosity as Kubernetes' components take it.
pub(crate) fn parse(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text.trim();
    let level = match text.parse::<i32>() {
        Ok(verbosity) if verbosity <= 0 => "info",
        Ok(verbosity) if verbosity < 5 => "debug",
        Ok(_) => "trace",
        Err(_) => text,
    };
    // A word that is no level would be taken for the name of a module, of which everything is logged and nothing else.
    let is_word = !level.contains(['=', ',', '[', ':']);
    if is_word && !LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known)) {
        return Err(format!(
            "\"{text}\" is no level (off, error, warn, info, debug, trace), no verbosity and no filter such as \
             info,kubewright=debug"
        ));
    }
    EnvFilter::try_new(level).map_err(|error| format!("\"{text}\" is no filter: {error}"))
}

/// The logs of this process.
pub(crate) struct Logs {
    /// What is logged; `None` where the program has set up its own logging, which stays.
    pub(crate) filter: Option<LogFilter>,
    #[cfg(feature = "otlp")]
    export: Option<otlp::Export>,
}

impl Logs {
    /// Sends what has to go anywhere else than to stderr, and waits for that within bounds.
    pub(crate) async fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(export) = self.export {
            // It waits for a thread that needs this runtime.
            let _ = tokio::task::spawn_blocking(move || export.end()).await;
        }
    }
}

/// Sets up the logs of an operator.
///
/// # Errors
/// When the filter is none, or spans can't be exported to where they should be.
pub(crate) fn set_up(
    operator: &str,
    filter: &str,
    format: Format,
    mut layers: Vec<BoxedLayer>,
) -> Result<Logs> {
    let filter = parse(filter).map_err(|error| Error::Usage(format!("--log-level {error}")))?;
    #[cfg(feature = "otlp")]
    let export = otlp::layer(operator)?.map(|(layer, export)| {
        layers.push(layer);
        export
    });
    #[cfg(not(feature = "otlp"))]
    let _ = operator;
    let colour =
        std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal();
    let queue = Queue::to(std::io::stderr(), |dropped| {
        tracing::warn!(dropped, "log lines were dropped: stderr is not read fast enough");
    });
    let queue = queue.map_err(Error::other)?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(queue.clone()).with_ansi(colour);
    layers.push(match format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    });
    let set = tracing_subscriber::registry().with(layers).try_init();
    if set.is_ok() {
        // Only the first set-up of a process comes this far.
        let _ = LINES.set(queue);
    } else {
        tracing::debug!("the program has set up its own logging, which stays");
    }
    Ok(Logs {
        filter: set.is_ok().then(|| LogFilter::new(handle)),
        #[cfg(feature = "otlp")]
        export,
    })
}

/// Waits until what was logged is written. To be called before the process ends.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH);
    }
}

/// Lines that were dropped so far; `None` where this process's logs are not set up here.
pub(crate) fn dropped() -> Option<u64> {
    LINES.get().map(Queue::dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_directives_or_verbosities_of_kubernetes() {
        let read = |text: &str| parse(text).map(|filter| filter.to_string());
        assert_eq!(read("debug\n"), Ok("debug".into()));
        assert_eq!(
            ["0", "1", "4", "5", "10"].map(|v| read(v).unwrap()),
            ["info", "debug", "debug", "trace", "trace"]
        );
        assert_eq!(read("info,kubewright=debug"), Ok("kubewright=debug,info".into()));
        for wrong in ["", "debgu", "info,kubewright=loud", "a b"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
