//! Who may do what, where the built-in kinds have a say in it: bootstrap tokens are Secrets, and what a kubelet may read
//! follows from the Pods on its Node.
//!
//! Everything here is an authenticator or authorizer to be handed to a server; it reads objects and writes none.

mod bootstrap_token;
mod graph;
mod node;
pub(crate) mod references;

pub use bootstrap_token::BootstrapTokens;
pub use node::NodeAuthorizer;
pub(crate) use node::node_of;
