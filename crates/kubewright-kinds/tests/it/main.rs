//! The built-in kinds behind a real server, held against recorded answers of kube-apiserver.

mod actions;
mod bodies;
mod canonical;
mod corpus;
mod golden;
mod judge;
mod owners;
mod protobuf;
mod replay;
mod schemas;
mod server;
mod writes;
