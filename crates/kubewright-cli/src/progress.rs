//! Progress on stderr: short lines with a mark in front, coloured only where a human sees it (and not with
//! NO_COLOR). Never prints to stdout, which is for data.

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};

/// Whether stderr may carry colours: a terminal, and NO_COLOR (no-color.org) unset or empty.
pub fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::io::stderr().is_terminal()
}

/// A colour of a terminal.
#[derive(Clone, Copy, Debug)]
pub enum Colour {
    /// Appeared, succeeded.
    Green,
    /// Changed, in doubt.
    Yellow,
    /// Failed.
    Red,
    /// Of minor interest.
    Dim,
    /// A heading.
    Bold,
}

/// Writes progress.
#[derive(Clone, Debug)]
pub struct Progress {
    colour: bool,
}

impl Progress {
    /// Progress on this process's stderr.
    pub fn to_stderr() -> Self {
        Self { colour: colour() }
    }

    /// `text` in a colour, or as it is.
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Dim => "2",
            Colour::Bold => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A step that begins or is done.
    pub fn step(&self, text: impl AsRef<str>) {
        self.line(&format!("{} {}", self.paint(Colour::Bold, "•"), text.as_ref()));
    }

    /// Something to know that is not an error.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.line(&format!("{} {}", self.paint(Colour::Yellow, "!"), text.as_ref()));
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        // A closed stderr is no reason to stop a cluster.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// An error with its causes.
    pub fn error(&self, error: &anyhow::Error) {
        let mut text = format!("{} {error}", self.paint(Colour::Red, "error:"));
        let mut source: Option<&dyn Error> = error.source();
        let mut last = error.to_string();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some errors print their cause already.
            if !last.contains(&cause_text) {
                text.push_str(&format!("\n  because: {cause_text}"));
            }
            last = cause_text;
            source = cause.source();
        }
        self.line(&text);
    }
}
