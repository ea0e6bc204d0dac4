//! Whom an object belongs to, as its metadata says. Read from bytes: most objects are never asked for their owners, so
//! that nothing is built of them before.

use std::borrow::Cow;

use kubewright_machinery::scan::{Cursor, ScanError};

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// `group/version` of the owner.
    pub api_version: Box<str>,
    /// Kind of the owner.
    pub kind: Box<str>,
    /// Name of the owner, in the same namespace or of the cluster.
    pub name: Box<str>,
    /// Uid of the owner.
    pub uid: Box<str>,
    /// Whether this owner is the managing controller; at most one is.
    pub controller: bool,
}

/// An entry of `metadata.ownerReferences` as it stands there.
#[derive(Default)]
pub(super) struct OwnerText<'a> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    name: Cow<'a, str>,
    pub(super) uid: Cow<'a, str>,
    controller: bool,
}

impl OwnerText<'_> {
    pub(super) fn to_owned(&self) -> Owner {
        Owner {
            api_version: self.api_version.as_ref().into(),
            kind: self.kind.as_ref().into(),
            name: self.name.as_ref().into(),
            uid: self.uid.as_ref().into(),
            controller: self.controller,
        }
    }
}

/// Calls a function with each entry of `metadata.ownerReferences`; there are none where there are no bytes.
pub(super) fn each_owner<'a>(json: &'a [u8], mut each: impl FnMut(&OwnerText<'a>)) -> Result<(), ScanError> {
    if json.is_empty() {
        return Ok(());
    }
    Cursor::new(json).elements(|cursor| {
        let mut owner = OwnerText::default();
        cursor.object(|name, cursor| {
            match name {
                "apiVersion" => owner.api_version = cursor.string()?,
                "kind" => owner.kind = cursor.string()?,
                "name" => owner.name = cursor.string()?,
                "uid" => owner.uid = cursor.string()?,
                "controller" => owner.controller = cursor.skip()? == b"true",
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(true)
        })?;
        each(&owner);
        Ok(())
    })
}
