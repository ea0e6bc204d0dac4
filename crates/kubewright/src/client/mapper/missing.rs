//! What an API server does not serve, in words that say what to do about it.

/// What was asked for is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} is not served: {missing}")]
pub struct NotServed {
    /// What was asked for, such as `Widget in group example.com`.
    pub wanted: String,
    /// What there is not.
    pub missing: Missing,
}

/// What there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No such group.
    #[error("there is no group \"{0}\"; is its CustomResourceDefinition or APIService installed?")]
    Group(String),
    /// No such version of the group.
    #[error("group \"{group}\" has no version {version}, but {has}", has = .has.join(", "))]
    Version {
        /// The group.
        group: String,
        /// The version that was asked for.
        version: String,
        /// The versions there are.
        has: Vec<String>,
    },
    /// No such kind in the group.
    #[error("group \"{0}\" has no such kind")]
    Kind(String),
    /// No resource of that name, in any group or in the one that was named.
    #[error("there is no such resource")]
    Resource,
    /// The aggregated API server behind it can't be asked.
    #[error("the API server behind {0} can't be reached")]
    Unreachable(String),
}
