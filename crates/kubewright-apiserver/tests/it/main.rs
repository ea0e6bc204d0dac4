//! The server as clients see it, in process and over TLS.

mod client;
mod objects;
mod watches;
