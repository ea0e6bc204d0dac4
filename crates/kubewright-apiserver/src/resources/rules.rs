//! Rules of a kind that are data.

use kubewright_machinery::names;

/// How deletion treats dependents (`propagationPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents stay: finalizer `orphan`.
    Orphan,
    /// The object goes, dependents are collected after.
    Background,
    /// Dependents go first: finalizer `foregroundDeletion`.
    Foreground,
}

/// When `metadata.generation` is bumped. A strategy may still set it in `prepare_update`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    #[default]
    None,
    /// 1 on create, and one more when one of these top-level fields changes; `metadata.X` looks one level down.
    Fields(Vec<Box<str>>),
    /// 1 on create, and one more when anything outside metadata and these top-level fields changes.
    AllExcept(Vec<Box<str>>),
}

/// Checks a name and says what is wrong with it; `prefix` when it is a generateName.
pub type NameCheck = fn(name: &str, prefix: bool) -> Vec<String>;

/// How often the metadata of an update is checked: each check names its faults again in the causes of the answer,
/// and clients see how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetaChecks {
    /// By the server alone.
    Once,
    /// By the kind's update check as well.
    #[default]
    Twice,
    /// And by the kind's check of whole objects, which its update check calls.
    Full,
    /// By the server, and by the strategy's own checks, which include metadata: on create the server's come last and
    /// only if those found nothing.
    Strategy,
}

/// What distinguishes the writes of one kind from another's.
#[derive(Clone, Debug)]
pub struct WriteRules {
    /// PUT creates a missing object.
    pub create_on_update: bool,
    /// PUT without resourceVersion replaces whatever is there.
    pub unconditional_update: bool,
    /// DELETE answers with the object in place of a Status.
    pub delete_returns_object: bool,
    /// What a deletion without a propagationPolicy means for dependents.
    pub default_propagation: Propagation,
    /// Whether the garbage collector may be told to orphan or wait at all (finalizers `orphan`, `foregroundDeletion`).
    pub garbage_collected: bool,
    /// When generation is bumped.
    pub generation: Generation,
    /// Rule for names.
    pub name: NameCheck,
    /// How often an update's metadata is checked.
    pub meta_checks: MetaChecks,
    /// Whether server-side apply and strategic merge know the type; false only where there is no schema.
    pub managed_fields: bool,
}

impl Default for WriteRules {
    fn default() -> Self {
        Self {
            create_on_update: false,
            unconditional_update: true,
            delete_returns_object: false,
            default_propagation: Propagation::Background,
            garbage_collected: true,
            generation: Generation::None,
            name: names::name_is_subdomain,
            meta_checks: MetaChecks::Twice,
            managed_fields: true,
        }
    }
}
