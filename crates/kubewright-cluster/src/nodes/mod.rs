//! Simulated machines: nodes that are ready as soon as they exist, and a kubelet that runs nothing but says what a real
//! one would say. Nodes come and go as objects do; no process, network or image is ever touched.

mod connection;
mod kubelet;
mod machine;

pub use connection::Simulated;
pub use kubelet::Kubelet;
pub use machine::{Machine, named};
