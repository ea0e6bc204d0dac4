//! What more than one benchmark measures with.

pub mod pod;
