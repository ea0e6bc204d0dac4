//! mydaemonset
fn main() {}
