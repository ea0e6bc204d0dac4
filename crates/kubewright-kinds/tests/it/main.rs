//! The built-in kinds behind a real server, held against recorded answers of kube-apiserver.

mod golden;
mod judge;
mod replay;
mod server;
