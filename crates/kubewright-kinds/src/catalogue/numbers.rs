//! The numbers that fields have in protobuf messages, by type. Read from the catalogue's text when the first body in
//! protobuf arrives, not before: most servers never see one.
//!
//! A message nests what the object flattens (a Go struct embedded in another). So a field has a path of numbers: the
//! `configMap#2.19` of a Volume is field 19 of the message in field 2.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::FILES;

/// As deep as embedded structs are nested; unused places of a path are 0, which is no field's number.
const NESTED: usize = 3;

/// Numbers from the message of the type down to the field.
pub(crate) type Path = [u8; NESTED];

/// A field and where it is in messages.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub path: Path,
    pub name: &'static str,
}

/// The numbered fields of every type, about 100 KiB.
#[derive(Debug)]
pub(crate) struct Numbers(HashMap<Box<str>, Box<[Numbered]>>);

impl Numbers {
    /// Those of the built-in kinds. Read once (about a millisecond), then shared.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Numbers> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            let mut types = HashMap::with_capacity(640);
            for (_, text) in FILES {
                read(text, &mut types);
            }
            Self(types)
        })
    }

    /// The fields of a type by its full name, in no particular order.
    pub fn of(&self, name: &str) -> &[Numbered] {
        self.0.get(name).map_or(&[], |fields| fields)
    }
}

fn read(text: &'static str, types: &mut HashMap<Box<str>, Box<[Numbered]>>) {
    let mut package = "";
    let mut open: Option<Box<str>> = None;
    let mut fields = Vec::new();
    for line in text.lines() {
        if let Some(field) = line.strip_prefix("  ") {
            let word = field.split(' ').next().unwrap_or_default();
            if let Some((name, number)) = word.split_once('#')
                && let Some(path) = path(number)
            {
                fields.push(Numbered { path, name: name.strip_suffix('!').unwrap_or(name) });
            }
            continue;
        }
        if let Some(name) = open.take() {
            types.insert(name, std::mem::take(&mut fields).into());
        }
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("package"), Some(name)) => package = name,
            (Some("type"), Some(name)) => open = Some(format!("{package}.{name}").into()),
            _ => {}
        }
    }
    if let Some(name) = open {
        types.insert(name, fields.into());
    }
}

/// Reads `2.19`; none where it is no path of numbers.
pub(super) fn path(text: &str) -> Option<Path> {
    let mut path = [0; NESTED];
    let mut places = path.iter_mut();
    for part in text.split('.') {
        *places.next()? = part.parse().ok().filter(|number| *number > 0)?;
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn a_path_is_one_to_three_numbers() {
        assert_eq!(path("7"), Some([7, 0, 0]));
        assert_eq!(path("2.2.1"), Some([2, 2, 1]));
        for wrong in ["", "x", "0", "1.", "1.2.3.4", "256"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }

    /// Types that are no messages of fields: they are JSON, or a union of forms.
    const WHOLE: [&str; 3] = ["RawExtension", "FieldsV1", "Patch"];

    #[test]
    fn every_field_of_every_message_has_one_number() {
        for (name, facts) in Catalogue::builtin().types() {
            if name == "io.k8s.apimachinery.pkg.version.Info" || WHOLE.iter().any(|w| name.ends_with(w)) {
                continue;
            }
            let fields = Numbers::builtin().of(name);
            for field in facts.schema.properties.keys().map(|k| &**k) {
                if matches!(field, "kind" | "apiVersion") && facts.is_kind {
                    continue;
                }
                assert_eq!(fields.iter().filter(|f| f.name == field).count(), 1, "{name}.{field}");
            }
            for (i, a) in fields.iter().enumerate() {
                for b in &fields[i + 1..] {
                    let same = a.path.iter().zip(&b.path).all(|(x, y)| x == y || *x == 0 || *y == 0);
                    assert!(!same, "{name}: {} and {} are at the same place", a.name, b.name);
                }
            }
        }
    }
}
