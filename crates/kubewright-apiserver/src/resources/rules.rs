//! Rules of a kind that are data.

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
            name: dns_subdomain,
            managed_fields: true,
        }
    }
}

/// RFC 1123 subdomain: what most kinds ask of their names. A prefix may end with a dash.
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    const FORM: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                        '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
                        for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let masked = if prefix && name.len() > 1 && name.ends_with('-') { &name[..name.len() - 1] } else { name };
    let mut faults = Vec::new();
    if masked.len() > 253 {
        faults.push("must be no more than 253 bytes".to_string());
    }
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |l: &str| {
        let bytes = l.as_bytes();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
    };
    if !masked.split('.').all(label) {
        faults.push(FORM.to_string());
    }
    faults
}
