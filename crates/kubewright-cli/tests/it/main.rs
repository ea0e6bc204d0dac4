//! The command line as its users run it: the real binary, a real kubectl, real signals.

mod aggregated;
mod bad_input;
mod cluster;
mod dev;
mod flows;
mod kubectl;
mod peers;
mod rig;
mod webhooks;
