//! A cluster's API as it is met on the wire: over TLS, by those who mean well and by those who do not.

mod bodies;
mod connections;
mod credentials;
mod messages;
mod multiplexed;
mod rights;
mod settings;
mod wire;
