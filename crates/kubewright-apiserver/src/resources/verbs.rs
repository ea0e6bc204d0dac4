//! The verbs of a resource as a set.

use std::fmt;

/// What can be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Verb {
    /// Create one.
    Create = 1,
    /// Delete one.
    Delete = 2,
    /// Delete all that a selector takes.
    DeleteCollection = 4,
    /// Read one.
    Get = 8,
    /// Read many.
    List = 16,
    /// Change parts of one.
    Patch = 32,
    /// Replace one.
    Update = 64,
    /// Follow changes.
    Watch = 128,
}

impl Verb {
    /// All verbs in the order in which discovery lists them.
    pub const EVERY: [Verb; 8] = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// Its name in discovery, RBAC and request attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}

/// A set of verbs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Verbs(u16);

impl Verbs {
    /// No verb.
    pub const NONE: Verbs = Verbs(0);
    /// Every verb.
    pub const ALL: Verbs = Verbs(255);

    /// These verbs.
    pub const fn of(verbs: &[Verb]) -> Self {
        let mut set = 0;
        let mut i = 0;
        while i < verbs.len() {
            set |= verbs[i] as u16;
            i += 1;
        }
        Verbs(set)
    }

    /// The verbs with these names; unknown names are left out.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = 0;
        for name in names {
            set |= Verb::EVERY.iter().find(|v| v.as_str() == name).map_or(0, |v| *v as u16);
        }
        Verbs(set)
    }

    /// Whether the verb is in the set.
    pub const fn has(self, verb: Verb) -> bool {
        self.0 & verb as u16 != 0
    }

    /// The verbs in discovery's order.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::EVERY.into_iter().filter(move |v| self.has(*v))
    }
}

impl fmt::Debug for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Verb::as_str)).finish()
    }
}
