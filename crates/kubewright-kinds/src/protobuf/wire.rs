//! The wire format of protobuf (proto2): tags, varints, fixed and length-delimited values, and what is skipped.
//! Borrows from the body and copies nothing. Errors are in the words of the Go decoder that clients know.

use thiserror::Error;

/// Groups inside of groups that are followed when an unknown one is skipped.
const MAX_GROUPS: usize = 64;

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The bytes end within a value.
    #[error("unexpected EOF")]
    UnexpectedEnd,
    /// A varint of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A length that no body can have.
    #[error("proto: negative length found during unmarshaling")]
    Length,
    /// A field number that there cannot be.
    #[error("proto: illegal tag {number} (wire type {wire})")]
    Tag {
        /// The number.
        number: u64,
        /// The wire type.
        wire: u8,
    },
    /// A wire type that there is not.
    #[error("proto: illegal wireType {0}")]
    Wire(u8),
    /// The end of a group that did not begin, or another's.
    #[error("proto: unexpected end of group")]
    EndGroup,
    /// Groups nested more deeply than is followed.
    #[error("exceeded max depth")]
    Depth,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Delimited,
    StartGroup,
    EndGroup,
    Fixed32,
}

impl Wire {
    /// The number of the wire type.
    pub fn number(self) -> u8 {
        match self {
            Self::Varint => 0,
            Self::Fixed64 => 1,
            Self::Delimited => 2,
            Self::StartGroup => 3,
            Self::EndGroup => 4,
            Self::Fixed32 => 5,
        }
    }
}

/// Reads a message from its beginning to its end.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The number and form of the next field; none at the end.
    pub fn tag(&mut self) -> Result<Option<(u32, Wire)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let (number, low) = (tag >> 3, (tag & 7) as u8);
        let wire = match low {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Delimited,
            3 => Wire::StartGroup,
            4 => Wire::EndGroup,
            5 => Wire::Fixed32,
            other => return Err(WireError::Wire(other)),
        };
        match u32::try_from(number) {
            Ok(number) if (1..1 << 29).contains(&number) => Ok(Some((number, wire))),
            _ => Err(WireError::Tag { number, wire: low }),
        }
    }

    /// A base-128 number, of at most ten bytes.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Overflow)
    }

    /// A 64-bit float.
    pub fn double(&mut self) -> Result<f64, WireError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(f64::from_le_bytes(bytes))
    }

    /// Bytes with their length in front: text, binary data, a message, packed numbers.
    pub fn delimited(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.varint()?;
        if i64::try_from(length).is_err() {
            return Err(WireError::Length);
        }
        self.take(usize::try_from(length).map_err(|_| WireError::UnexpectedEnd)?)
    }

    /// Passes over the value of a field that nobody knows.
    pub fn skip(&mut self, number: u32, wire: Wire) -> Result<(), WireError> {
        self.skip_within(number, wire, 0)
    }

    fn skip_within(&mut self, number: u32, wire: Wire, depth: usize) -> Result<(), WireError> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.take(8).map(drop),
            Wire::Delimited => self.delimited().map(drop),
            Wire::Fixed32 => self.take(4).map(drop),
            Wire::EndGroup => Err(WireError::EndGroup),
            Wire::StartGroup if depth == MAX_GROUPS => Err(WireError::Depth),
            Wire::StartGroup => loop {
                match self.tag()?.ok_or(WireError::UnexpectedEnd)? {
                    (end, Wire::EndGroup) if end == number => return Ok(()),
                    (inner, wire) => self.skip_within(inner, wire, depth + 1)?,
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_up_to_64_bits() {
        assert_eq!(Reader::new(&[0xac, 0x02]).varint(), Ok(300));
        let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&minus_one).varint(), Ok(u64::MAX));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(WireError::Overflow));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(WireError::UnexpectedEnd));
    }

    #[test]
    fn unknown_fields_of_every_form_are_passed_over() {
        let message = [
            &[0x08, 0x96, 0x01][..],
            &[0x11, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x1a, 2, b'a', b'b'],
            &[0x23, 0x08, 0x01, 0x2b, 0x2c, 0x24],
            &[0x35, 1, 2, 3, 4],
        ]
        .concat();
        let mut reader = Reader::new(&message);
        let mut seen = Vec::new();
        while let Some((number, wire)) = reader.tag().unwrap() {
            reader.skip(number, wire).unwrap();
            seen.push(number);
        }
        assert_eq!(seen, [1, 2, 3, 4, 6]);
    }

    #[test]
    fn malformed_bytes_are_told_apart() {
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let (number, wire) = reader.tag()?.expect("there are bytes");
            reader.skip(number, wire)
        };
        assert_eq!(read(&[0x0a, 5, 1]), Err(WireError::UnexpectedEnd));
        assert_eq!(read(&[0x02, 0]), Err(WireError::Tag { number: 0, wire: 2 }));
        assert_eq!(read(&[0x0f]), Err(WireError::Wire(7)));
        assert_eq!(read(&[0x0c]), Err(WireError::EndGroup));
        assert_eq!(read(&[0x0b, 0x14]), Err(WireError::EndGroup));
        assert_eq!(read(&[0x0b]), Err(WireError::UnexpectedEnd));
        assert_eq!(read(&[0x0b; 100]), Err(WireError::Depth));
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read(&huge), Err(WireError::Length));
    }
}
