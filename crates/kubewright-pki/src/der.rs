//! The little DER that the certificate library cannot do: subjects with several organizations.
//!
//! A certificate made by the library comes in with its names replaced and signed again on the way out: users carry
//! one organization per group, and an authority's name is taken over byte for byte whatever it looks like. Only
//! certificates made here flow through; nothing parses what others send.

use crate::PkiError;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;

const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];

/// An X.501 name: the groups as organizations, in order, then the user as common name.
pub(crate) fn name(user: &str, groups: &[&str]) -> Vec<u8> {
    let organizations = groups.iter().map(|group| (ORGANIZATION, *group));
    let mut attributes = Vec::new();
    for (kind, value) in organizations.chain([(COMMON_NAME, user)]) {
        let mut pair = element(OBJECT_IDENTIFIER, &kind);
        pair.extend(element(UTF8_STRING, value.as_bytes()));
        attributes.extend(element(SET, &element(SEQUENCE, &pair)));
    }
    element(SEQUENCE, &attributes)
}

/// The certificate with another issuer and perhaps another subject (both whole DER names), signed again by `sign`.
pub(crate) fn renamed(
    certificate: &[u8],
    issuer: &[u8],
    subject: Option<&[u8]>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, PkiError>,
) -> Result<Vec<u8>, PkiError> {
    let mut parts = Elements(content(certificate)?);
    let to_be_signed = parts.next()?;
    let algorithm = parts.next()?;

    let mut fields = Elements(content(to_be_signed)?);
    let mut rewritten = Vec::with_capacity(to_be_signed.len() + issuer.len());
    // Version, serial number, signature algorithm; issuer; validity; subject; the rest.
    for _ in 0..3 {
        rewritten.extend(fields.next()?);
    }
    fields.next()?;
    rewritten.extend(issuer);
    rewritten.extend(fields.next()?);
    let own = fields.next()?;
    rewritten.extend(subject.unwrap_or(own));
    rewritten.extend(fields.0);

    let to_be_signed = element(SEQUENCE, &rewritten);
    let mut signature = vec![0]; // no unused bits
    signature.extend(sign(&to_be_signed)?);
    let mut whole = to_be_signed;
    whole.extend(algorithm);
    whole.extend(element(BIT_STRING, &signature));
    Ok(element(SEQUENCE, &whole))
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    let length = content.len().to_be_bytes();
    if content.len() < 0x80 {
        element.push(content.len() as u8);
    } else {
        let significant = length.iter().position(|byte| *byte != 0).unwrap_or(0);
        element.push(0x80 | (length.len() - significant) as u8);
        element.extend(&length[significant..]);
    }
    element.extend(content);
    element
}

/// Length of an element's header and of its content.
fn measure(input: &[u8]) -> Result<(usize, usize), PkiError> {
    let malformed = || PkiError::Certificate { source: None };
    let first = usize::from(*input.get(1).ok_or_else(malformed)?);
    let (header, length) = if first < 0x80 {
        (2, first)
    } else {
        let digits = first & 0x7f;
        if digits > size_of::<u32>() {
            return Err(malformed());
        }
        let bytes = input.get(2..2 + digits).ok_or_else(malformed)?;
        (2 + digits, bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    };
    if input.len() < header + length { Err(malformed()) } else { Ok((header, length)) }
}

fn content(input: &[u8]) -> Result<&[u8], PkiError> {
    let (header, length) = measure(input)?;
    Ok(&input[header..header + length])
}

/// The elements that follow each other in a constructed one.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn next(&mut self) -> Result<&'a [u8], PkiError> {
        let (header, length) = measure(self.0)?;
        let (element, rest) = self.0.split_at(header + length);
        self.0 = rest;
        Ok(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_they_are_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let written = element(SEQUENCE, &vec![7; length]);
            assert_eq!(content(&written).unwrap().len(), length);
        }
    }

    #[test]
    fn truncated_input_is_refused() {
        let whole = element(SEQUENCE, &[0; 300]);
        for cut in 0..whole.len() {
            assert!(measure(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(measure(&[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]).is_err());
    }
}
