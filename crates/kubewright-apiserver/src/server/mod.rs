//! The server as a whole: its configuration, the chain of a request, and the ways in.

mod body;
mod config;
mod core;

pub use body::ServerBody;
pub use config::{Clock, Entropy, ServerConfig, SystemClock, SystemEntropy, VersionInfo};
pub use core::Core;
