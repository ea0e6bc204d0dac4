//! From bytes of a response to frames: chunks are split at newlines without copying what lies whole
//! in a chunk; a watch frame is taken apart by position, a list page by a scan. Objects are not parsed
//! here beyond their metadata.

use bytes::{Bytes, BytesMut};
use kubewright_machinery::scan::{Cursor, find};
use serde::Deserialize;

use super::object::{Cached, DecodeError};
use crate::kind::Kind;

/// Splits a stream of chunks into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: BytesMut,
}

impl Lines {
    /// Adds a chunk and gives the lines it completes, without their newline.
    pub fn push(&mut self, mut chunk: Bytes) -> Vec<Bytes> {
        let mut lines = Vec::new();
        while let Some(end) = memchr::memchr(b'\n', &chunk) {
            let line = chunk.split_to(end + 1);
            let line = if self.partial.is_empty() {
                line
            } else {
                self.partial.extend_from_slice(&line);
                self.partial.split().freeze()
            };
            let line = line.slice(..line.len() - 1);
            if !line.trim_ascii().is_empty() {
                lines.push(line);
            }
        }
        self.partial.extend_from_slice(&chunk);
        lines
    }

    /// Bytes held back until their line is complete.
    pub fn pending(&self) -> usize {
        self.partial.len()
    }
}

/// A frame of a watch.
#[derive(Debug)]
pub enum Frame {
    /// ADDED or MODIFIED.
    Put(Cached),
    /// DELETED, with the last state.
    Delete(Cached),
    /// BOOKMARK; `initial_end` when it ends the initial events of a streaming list.
    Bookmark {
        /// The revision that has been reached.
        resource_version: u64,
        /// Whether the annotation `k8s.io/initial-events-end` is set.
        initial_end: bool,
    },
    /// ERROR, with the Status' code and message.
    Error {
        /// HTTP code of the Status.
        code: u16,
        /// Message of the Status.
        message: String,
    },
    /// An object that can't be read; the stream goes on.
    Undecodable(DecodeError),
}

#[derive(Deserialize)]
struct StatusBody {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
}

/// Takes a frame apart.
///
/// # Errors
/// When the line is no watch frame at all.
pub fn parse(line: &[u8], kind: &Kind) -> Result<Frame, DecodeError> {
    let bad =
        |message: &str| DecodeError { kind: kind.to_string(), key: "?".into(), message: message.into() };
    let (event, object) = split(line).ok_or_else(|| bad("the line is no watch event"))?;
    Ok(match &*event {
        "ADDED" | "MODIFIED" => match Cached::read(object, kind) {
            Ok(object) => Frame::Put(object),
            Err(error) => Frame::Undecodable(error),
        },
        "DELETED" => match Cached::read(object, kind) {
            Ok(object) => Frame::Delete(object),
            Err(error) => Frame::Undecodable(error),
        },
        "BOOKMARK" => {
            let version = find(object, &["metadata", "resourceVersion"])
                .ok()
                .flatten()
                .and_then(|text| serde_json::from_slice::<String>(text).ok())
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| bad("a bookmark has no resourceVersion"))?;
            let ended =
                find(object, &["metadata", "annotations", "k8s.io/initial-events-end"]).ok().flatten();
            Frame::Bookmark { resource_version: version, initial_end: ended == Some(b"\"true\"") }
        }
        "ERROR" => match serde_json::from_slice::<StatusBody>(object) {
            Ok(status) => {
                let message = if status.message.is_empty() { status.reason } else { status.message };
                Frame::Error { code: status.code, message }
            }
            Err(error) => Frame::Undecodable(bad(&error.to_string())),
        },
        _ => return Err(bad("the watch event has an unknown type")),
    })
}

/// Type and object of a frame. Servers write the type first, so the object is what lies between and
/// needs no scan; otherwise members are looked for.
fn split(line: &[u8]) -> Option<(std::borrow::Cow<'_, str>, &[u8])> {
    let trimmed = line.trim_ascii();
    if let Some(rest) = trimmed.strip_prefix(b"{\"type\":\"") {
        let end = memchr::memchr(b'"', rest)?;
        if let Some(object) =
            rest[end..].strip_prefix(b"\",\"object\":").and_then(|rest| rest.strip_suffix(b"}"))
            && object.trim_ascii_end().last() == Some(&b'}')
        {
            return Some((std::str::from_utf8(&rest[..end]).ok()?.into(), object));
        }
    }
    let (mut event, mut object) = (None, None);
    Cursor::new(line)
        .object(|name, cursor| {
            match name {
                "type" => event = Some(cursor.string()?),
                "object" => object = Some(cursor.skip()?),
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(true)
        })
        .ok()?;
    Some((event?, object?))
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// The list's revision.
    pub resource_version: u64,
    /// The token of the next page, if there is one.
    pub next: Option<String>,
    /// The objects that could be read.
    pub objects: Vec<Cached>,
    /// Those that could not.
    pub undecodable: Vec<DecodeError>,
}

/// Takes a list apart.
///
/// # Errors
/// When the body is no list with a resourceVersion.
pub fn parse_page(body: &[u8], kind: &Kind) -> Result<Page, DecodeError> {
    let bad =
        || DecodeError { kind: kind.to_string(), key: "?".into(), message: "the body is no list".into() };
    let mut page = Page { resource_version: 0, next: None, objects: Vec::new(), undecodable: Vec::new() };
    let mut versioned = false;
    Cursor::new(body)
        .object(|name, cursor| {
            match (name, cursor.next_byte()) {
                ("metadata", _) => cursor.object(|name, cursor| {
                    match name {
                        "resourceVersion" => {
                            let version = cursor.string()?.parse();
                            versioned = version.is_ok();
                            page.resource_version = version.unwrap_or(0);
                        }
                        "continue" => {
                            page.next = Some(cursor.string()?.into_owned()).filter(|token| !token.is_empty());
                        }
                        _ => {
                            cursor.skip()?;
                        }
                    }
                    Ok(true)
                })?,
                ("items", Some(b'[')) => cursor.elements(|cursor| {
                    match Cached::read(cursor.skip()?, kind) {
                        Ok(object) => page.objects.push(object),
                        Err(error) => page.undecodable.push(error),
                    }
                    Ok(())
                })?,
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(true)
        })
        .map_err(|_| bad())?;
    if versioned { Ok(page) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use proptest::prelude::*;

    use super::*;

    fn pods() -> Kind {
        Kind::of::<Pod>()
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_bytes_are_cut(cuts in prop::collection::vec(0usize..40, 0..8)) {
            let text = b"first\n\nsecond line\nthird\npartial";
            let mut lines = Lines::default();
            let mut all = Vec::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                all.extend(lines.push(Bytes::copy_from_slice(&text[from..cut])));
                from = cut;
            }
            prop_assert_eq!(all, vec![&b"first"[..], b"second line", b"third"]);
            prop_assert_eq!(lines.pending(), 7);
        }
    }

    #[test]
    fn frames_are_taken_apart_in_any_order_of_members() {
        for line in [
            r#"{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"5"}}}"#,
            r#"{ "object": {"metadata":{"name":"a","resourceVersion":"5"}}, "type": "MODIFIED" }"#,
        ] {
            let Frame::Put(object) = parse(line.as_bytes(), &pods()).unwrap() else { panic!("{line}") };
            assert_eq!((object.key().name(), object.resource_version()), ("a", 5));
        }
    }

    #[test]
    fn the_bookmark_that_ends_initial_events_is_told_from_others() {
        let end = br#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}},"spec":{"containers":null}}}"#;
        assert!(matches!(
            parse(end, &pods()).unwrap(),
            Frame::Bookmark { resource_version: 9, initial_end: true }
        ));
        let plain =
            br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"10","creationTimestamp":null}}}"#;
        assert!(matches!(
            parse(plain, &pods()).unwrap(),
            Frame::Bookmark { resource_version: 10, initial_end: false }
        ));
    }

    #[test]
    fn an_unreadable_object_is_a_value_and_a_broken_frame_an_error() {
        let bad = br#"{"type":"ADDED","object":{"metadata":{"name":7}}}"#;
        assert!(matches!(parse(bad, &pods()).unwrap(), Frame::Undecodable(_)));
        assert!(parse(b"<html>", &pods()).is_err());
        let error = br#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old","reason":"Expired","code":410}}"#;
        assert!(matches!(parse(error, &pods()).unwrap(), Frame::Error { code: 410, .. }));
    }

    #[test]
    fn a_page_keeps_good_objects_beside_a_bad_one() {
        let body = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"77","continue":"abc"},"items":[{"metadata":{"name":"a"}},{"metadata":{}},{"metadata":{"name":"b"}}]}"#;
        let page = parse_page(body, &pods()).unwrap();
        assert_eq!((page.resource_version, page.next.as_deref()), (77, Some("abc")));
        assert_eq!(page.objects.len(), 2);
        assert_eq!(page.undecodable.len(), 1);
        assert!(parse_page(br#"{"items":[]}"#, &pods()).is_err());
        let empty = parse_page(br#"{"metadata":{"resourceVersion":"1"},"items":null}"#, &pods()).unwrap();
        assert!(empty.objects.is_empty() && empty.next.is_none());
    }
}
