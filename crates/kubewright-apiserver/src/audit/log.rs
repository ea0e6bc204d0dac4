//! A log of events: one JSON object a line, in a file that is rotated by size, or on standard output.
//!
//! Events go through a bounded queue to a thread of its own. When the disk is slower than the server, events are lost
//! and counted; requests never wait.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::Sink;

/// How many events may wait to be written.
const WAITING: usize = 10_000;

/// When a file is put aside, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file that would become larger than this many bytes is put aside; 0 for never.
    pub max_bytes: u64,
    /// How many files put aside are kept; 0 for all.
    pub max_backups: usize,
}

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot open the audit log {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no thread to write it.
    #[error("cannot start a thread that writes the audit log")]
    Thread(#[source] io::Error),
}

/// A log. Dropping it waits until everything that was taken is written.
pub struct Log {
    queue: Mutex<Option<SyncSender<Bytes>>>,
    dropped: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Writes to a file, which is created or appended to; `-` is standard output, which is never rotated.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Self, LogError> {
        let output = if path == Path::new("-") {
            Output::Standard(io::stdout())
        } else {
            let opened = Rotated::open(path.to_path_buf(), rotation);
            Output::File(opened.map_err(|source| LogError::Open { path: path.into(), source })?)
        };
        let (sender, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("audit-log".into());
        let thread = thread.spawn(move || write_all(&receiver, output)).map_err(LogError::Thread)?;
        Ok(Self { queue: Mutex::new(Some(sender)), dropped: AtomicU64::new(0), thread: Some(thread) })
    }
}

impl Sink for Log {
    fn write(&self, event: Bytes) {
        let lost = self.queue.lock().as_ref().is_none_or(|queue| queue.try_send(event).is_err());
        if lost {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.lock().take();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has said so.
            let _ = thread.join();
        }
    }
}

enum Output {
    Standard(io::Stdout),
    File(Rotated),
}

impl Output {
    fn line(&mut self, event: &[u8]) -> io::Result<()> {
        match self {
            Output::Standard(out) => {
                let mut out = out.lock();
                out.write_all(event)?;
                out.write_all(b"\n")
            }
            Output::File(file) => file.line(event),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Standard(out) => out.flush(),
            Output::File(file) => file.file.flush(),
        }
    }
}

/// Writes what comes; what is written is flushed as soon as nothing waits.
fn write_all(queue: &Receiver<Bytes>, mut output: Output) {
    while let Ok(first) = queue.recv() {
        let mut outcome = output.line(&first);
        while let Ok(event) = queue.try_recv() {
            outcome = outcome.and_then(|()| output.line(&event));
        }
        if let Err(error) = outcome.and_then(|()| output.flush()) {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}

/// A file that is put aside when it is full.
struct Rotated {
    path: PathBuf,
    rotation: Rotation,
    file: BufWriter<File>,
    written: u64,
}

impl Rotated {
    fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let written = file.metadata()?.len();
        Ok(Self { path, rotation, file: BufWriter::new(file), written })
    }

    fn line(&mut self, event: &[u8]) -> io::Result<()> {
        let length = event.len() as u64 + 1;
        let full = self.rotation.max_bytes > 0 && self.written + length > self.rotation.max_bytes;
        if full && self.written > 0 {
            self.rotate(Timestamp::now())?;
        }
        self.file.write_all(event)?;
        self.file.write_all(b"\n")?;
        self.written += length;
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.file.flush()?;
        let mut aside = self.backup(&now.strftime("%Y-%m-%dT%H-%M-%S%.3f").to_string());
        let mut again = 1;
        while aside.exists() {
            aside = self.backup(&format!("{}-{again}", now.strftime("%Y-%m-%dT%H-%M-%S%.3f")));
            again += 1;
        }
        std::fs::rename(&self.path, aside)?;
        *self = Self::open(self.path.clone(), self.rotation)?;
        if self.rotation.max_backups > 0 {
            let mut backups = self.backups()?;
            backups.sort();
            let surplus = backups.len().saturating_sub(self.rotation.max_backups);
            for old in &backups[..surplus] {
                std::fs::remove_file(old)?;
            }
        }
        Ok(())
    }

    /// `audit.log` is put aside as `audit-TIME.log`.
    fn backup(&self, time: &str) -> PathBuf {
        let (stem, end) = self.name();
        self.path.with_file_name(format!("{stem}-{time}{end}"))
    }

    fn name(&self) -> (String, String) {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let end = self.path.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
        (stem, end)
    }

    fn backups(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, end) = self.name();
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&end));
            if time.is_some_and(|time| time.starts_with(|c: char| c.is_ascii_digit())) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_put_aside_and_old_ones_go() {
        let folder = std::env::temp_dir().join(format!("kubewright-audit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("audit.log");
        let log = Log::open(&path, Rotation { max_bytes: 40, max_backups: 2 }).unwrap();
        for n in 0..10 {
            log.write(format!("{{\"event\":\"number {n}\"}}").into());
        }
        drop(log);
        let newest = std::fs::read_to_string(&path).unwrap();
        assert!(newest.ends_with("{\"event\":\"number 9\"}\n"), "{newest}");
        let files = std::fs::read_dir(&folder).unwrap().count();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(files, 3);
    }
}
