//! Objects that are seldom read, compressed: each on its own, with a dictionary learnt from others of its kind, since
//! objects of a kind resemble each other far more than the parts of one do. Pure; which objects these are is the
//! store's business.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};

use super::object::Cached;
use super::store::Version;
use crate::kind::Key;

/// Fewer examples than this teach nothing.
pub(crate) const EXAMPLES_AT_LEAST: usize = 32;
/// More than this take longer and teach no more.
pub(crate) const EXAMPLES_AT_MOST: usize = 400;
/// Bytes of a dictionary; held once for each kind and scope, three times over.
const DICTIONARY: usize = 64 << 10;
/// zstd's level: higher ones cost several times as much for a tenth.
const LEVEL: i32 = 3;

/// A way to compress the objects of a kind, and to get them back.
pub(crate) struct Codec {
    compressor: Mutex<Compressor<'static>>,
    decompressor: Mutex<Decompressor<'static>>,
    /// How many objects there were when it was made.
    pub(crate) made_at: usize,
}

impl Codec {
    /// A codec that knows the examples; without a dictionary when they are too few to learn from. Takes about half a
    /// second for 400 pods.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub(crate) fn learn(examples: &[Arc<Cached>], made_at: usize) -> std::io::Result<Codec> {
        let mut dictionary = Vec::new();
        if examples.len() >= EXAMPLES_AT_LEAST {
            let texts: Vec<&[u8]> = examples.iter().map(|object| object.json()).collect();
            // Examples that have nothing in common are refused; then there is nothing to learn.
            dictionary = zstd::dict::from_samples(&texts, DICTIONARY).unwrap_or_default();
        }
        Ok(Codec {
            compressor: Mutex::new(Compressor::with_dictionary(LEVEL, &dictionary)?),
            decompressor: Mutex::new(Decompressor::with_dictionary(&dictionary)?),
            made_at,
        })
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec(made at {} objects)", self.made_at)
    }
}

/// A compressed object, and what has to be known of it without reading it.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) version: Version,
    length: u32,
    bytes: Box<[u8]>,
    codec: Arc<Codec>,
}

impl Frozen {
    /// Compresses an object; `None` when that gains nothing.
    pub(crate) fn freeze(object: &Cached, codec: &Arc<Codec>) -> Option<Frozen> {
        let bytes = codec.compressor.lock().compress(object.json()).ok()?.into_boxed_slice();
        let length = u32::try_from(object.json().len()).ok()?;
        (bytes.len() < object.json().len()).then(|| Frozen {
            version: Version::of(object),
            length,
            bytes,
            codec: Arc::clone(codec),
        })
    }

    /// The object as it was; `None` only if memory was corrupted.
    pub(crate) fn thaw(&self, key: &Key) -> Option<Cached> {
        let raw = self.codec.decompressor.lock().decompress(&self.bytes, self.length as usize).ok()?;
        Cached::of_raw(raw, key.clone())
    }

    /// Bytes of JSON.
    pub(crate) fn json_len(&self) -> usize {
        self.length as usize
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;

    use super::*;
    use crate::kind::Kind;

    fn object(name: &str, text: &str) -> Arc<Cached> {
        let json = serde_json::json!({
            "metadata": {"name": name, "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"app": "a"}},
            "data": {"text": text, "same": "the same words in each of them, long enough to be worth learning"},
        });
        Arc::new(Cached::read(json.to_string().as_bytes(), &Kind::of::<ConfigMap>()).unwrap())
    }

    fn examples() -> Vec<Arc<Cached>> {
        (0..EXAMPLES_AT_LEAST * 4).map(|n| object(&format!("n{n}"), &format!("text {n}"))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_was_frozen_thaws_to_the_same_bytes(text in ".{0,400}", learnt in any::<bool>()) {
            let examples = if learnt { examples() } else { Vec::new() };
            let codec = Arc::new(Codec::learn(&examples, 0).unwrap());
            let object = object("x", &text);
            if let Some(frozen) = Frozen::freeze(&object, &codec) {
                let thawed = frozen.thaw(object.key()).unwrap();
                prop_assert_eq!(thawed.json(), object.json());
                prop_assert_eq!(thawed.labels(), object.labels());
                prop_assert_eq!(thawed.uid(), object.uid());
                prop_assert_eq!(thawed.resource_version(), 7);
            }
        }
    }

    #[test]
    fn a_codec_that_knows_the_kind_needs_less_than_one_that_does_not() {
        let (learnt, plain) = (Codec::learn(&examples(), 0).unwrap(), Codec::learn(&[], 0).unwrap());
        let object = object("y", "another text");
        let size = |codec: Codec| {
            Frozen::freeze(&object, &Arc::new(codec)).map_or(usize::MAX, |frozen| frozen.bytes.len())
        };
        assert!(size(learnt) * 2 < size(plain));
    }
}
