//! What a cluster starts with: the roles and bindings of RBAC, as data ([`rbac`]).
//!
//! Objects flow out, without uid, times or managers: whoever writes them adds those.

pub mod rbac;
