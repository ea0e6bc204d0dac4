//! The fields of an object's type, by name: what decoding, defaulting and validation look up for every field of every
//! object.
//!
//! They are kept in order of their names, as maps are written. A name is found by a hash of its length and its ends,
//! through a table that is made when the first name is looked up; most types of a server are never asked.

use std::ops::Index;
use std::sync::OnceLock;

use super::{SchemaRef, Zero};

/// Up to so many fields names are compared one by one.
const FEW: usize = 2;

/// Fields of an object by name, in order.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    fields: Vec<(Box<str>, SchemaRef)>,
    /// One more than the place of a field, at its hash or one of the places after it; 0 for none.
    table: OnceLock<Box<[u32]>>,
    /// The places of the fields that are written where they are absent.
    written: OnceLock<Box<[u32]>>,
}

impl Properties {
    /// The field of a name.
    pub fn get(&self, name: &str) -> Option<&SchemaRef> {
        if self.fields.len() <= FEW {
            return self.fields.iter().find(|(known, _)| **known == *name).map(|(_, field)| field);
        }
        let table = self.table.get_or_init(|| self.hashed());
        let mask = table.len() - 1;
        let mut at = hash(name) & mask;
        // The table is never full.
        while let Some(place) = table[at].checked_sub(1) {
            let (known, field) = &self.fields[place as usize];
            if **known == *name {
                return Some(field);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Whether there is a field of that name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field, in place of one of the same name.
    pub fn insert(&mut self, name: Box<str>, field: SchemaRef) {
        self.table.take();
        self.written.take();
        match self.fields.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(at) => self.fields[at].1 = field,
            Err(at) => self.fields.insert(at, (name, field)),
        }
    }

    /// The fields, in order of their names.
    pub fn iter(&self) -> Iter<'_> {
        self.fields.iter().map(|(name, field)| (name, field))
    }

    /// The names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Box<str>> {
        self.fields.iter().map(|(name, _)| name)
    }

    /// The fields without their names.
    pub fn values(&self) -> impl Iterator<Item = &SchemaRef> {
        self.fields.iter().map(|(_, field)| field)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields that are written where they are absent: those with a default and those of [`Zero::Write`]. Every field
    /// must have been filled before the first call.
    pub fn written(&self) -> impl Iterator<Item = (&str, &SchemaRef)> {
        let written = self.written.get_or_init(|| {
            let is_written = |field: &SchemaRef| field.default.is_some() || field.zero == Zero::Write;
            (0..).zip(&self.fields).filter(|(_, (_, field))| is_written(field)).map(|(at, _)| at).collect()
        });
        written.iter().map(|at| {
            let (name, field) = &self.fields[*at as usize];
            (&**name, field)
        })
    }

    fn hashed(&self) -> Box<[u32]> {
        let mut table = vec![0; (self.fields.len() * 2).next_power_of_two()];
        let mask = table.len() - 1;
        for (place, (name, _)) in (1..).zip(&self.fields) {
            let mut at = hash(name) & mask;
            while table[at] != 0 {
                at = (at + 1) & mask;
            }
            table[at] = place;
        }
        table.into()
    }
}

/// Of the length and up to eight bytes of either end: what tells the names of fields apart.
fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let (first, last) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)))
            }
            _ => (bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), 0),
        },
    };
    let mixed = (first ^ last.rotate_left(29) ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize
}

/// The fields with their names.
pub type Iter<'a> = std::iter::Map<
    std::slice::Iter<'a, (Box<str>, SchemaRef)>,
    fn(&'a (Box<str>, SchemaRef)) -> (&'a Box<str>, &'a SchemaRef),
>;

impl<'a> IntoIterator for &'a Properties {
    type Item = (&'a Box<str>, &'a SchemaRef);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(Box<str>, SchemaRef)> for Properties {
    /// Of fields with the same name the last counts.
    fn from_iter<I: IntoIterator<Item = (Box<str>, SchemaRef)>>(fields: I) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        // Stable: of equal names the last one stays the last.
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        fields.shrink_to_fit();
        Self { fields, ..Self::default() }
    }
}

impl<const N: usize> From<[(Box<str>, SchemaRef); N]> for Properties {
    fn from(fields: [(Box<str>, SchemaRef); N]) -> Self {
        fields.into_iter().collect()
    }
}

impl Index<&str> for Properties {
    type Output = SchemaRef;

    /// The field of that name, which must be there.
    fn index(&self, name: &str) -> &SchemaRef {
        self.get(name).expect("the type has the field")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::{Schema, Type};
    use super::*;

    fn numbered(n: usize) -> SchemaRef {
        Schema { title: Some(n.to_string().into()), ..Schema::default() }.into()
    }

    proptest! {
        #[test]
        fn fields_are_found_as_in_a_map(names in prop::collection::vec("[a-d]{0,10}", 0..40), others in prop::collection::vec("[a-d]{0,10}", 0..40)) {
            let named = |(n, name): (usize, &String)| (Box::from(name.as_str()), numbered(n));
            let map: BTreeMap<Box<str>, SchemaRef> = names.iter().enumerate().map(named).collect();
            let collected: Properties = names.iter().enumerate().map(named).collect();
            let mut inserted = Properties::default();
            for (n, name) in names.iter().enumerate() {
                let (name, field) = named((n, name));
                inserted.insert(name, field);
                prop_assert!(inserted.contains_key(&names[n]));
            }
            for properties in [&collected, &inserted] {
                prop_assert!(properties.keys().eq(map.keys()));
                prop_assert_eq!(properties.len(), map.len());
                for name in names.iter().chain(&others) {
                    let found = properties.get(name).map(|field| field.title.clone());
                    prop_assert_eq!(found, map.get(name.as_str()).map(|field| field.title.clone()));
                }
            }
        }
    }

    #[test]
    fn what_is_written_when_absent_is_known() {
        let plain = || Schema { ty: Some(Type::Integer), ..Schema::default() };
        let properties: Properties = [
            ("c", Schema { zero: Zero::Write, ..plain() }),
            ("b", plain()),
            ("a", Schema { default: Some(Box::new(1.into())), ..plain() }),
        ]
        .into_iter()
        .map(|(name, field)| (Box::from(name), SchemaRef::from(field)))
        .collect();
        assert_eq!(properties.written().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "c"]);
    }
}
