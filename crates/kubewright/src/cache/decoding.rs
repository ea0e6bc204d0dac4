//! Many objects as a type at once, on all cores where that pays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::DeserializeOwned;

use super::object::{Cached, DecodeError};

/// So many objects are decoded faster than a thread is started for half of them.
const WORTH_A_THREAD: usize = 256;
/// So many are decoded between two looks at what is left.
const PART: usize = 32;

/// Many objects as a type, in their order; on all cores when there are very many.
pub fn decode_all<K>(objects: &[Arc<Cached>]) -> Vec<Result<Arc<K>, DecodeError>>
where
    K: DeserializeOwned + Send + Sync + 'static,
{
    decode_each(objects, |decoded| decoded)
}

/// What `look` makes of each of many objects as a type, in their order; on all cores when there are very many. A type
/// takes about eight times the memory of its JSON: what `look` does not keep makes room for the next, which takes half
/// the time of keeping all.
pub fn decode_each<K, T>(
    objects: &[Arc<Cached>],
    look: impl Fn(Result<Arc<K>, DecodeError>) -> T + Sync,
) -> Vec<T>
where
    K: DeserializeOwned + Send + Sync + 'static,
    T: Send,
{
    let threads = objects.len() / WORTH_A_THREAD;
    let threads = threads.min(std::thread::available_parallelism().map_or(1, usize::from));
    let decode = |object| look(Cached::typed(object));
    if threads < 2 {
        return objects.iter().map(decode).collect();
    }
    // Each thread takes the next part when it is done with one: on a core that others use as well it takes fewer.
    let next = AtomicUsize::new(0);
    let parts: Vec<_> = objects.chunks(PART).collect();
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(number) else { return done };
            done.push((number, part.iter().map(decode).collect::<Vec<_>>()));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(parts) => done.extend(parts),
                // Decoding does not panic of itself; if somebody's own code does, it does so where it is caught.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().flat_map(|(_, part)| part).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::kind::Kind;

    #[test]
    fn many_objects_are_decoded_in_their_order_and_each_with_its_own_error() {
        let objects: Vec<Arc<Cached>> = (0..WORTH_A_THREAD * 3)
            .map(|number| {
                let data = if number == 300 { "7" } else { "{}" };
                let text = format!(r#"{{"metadata":{{"name":"c{number}"}},"data":{data}}}"#);
                Arc::new(Cached::read(text.as_bytes(), &Kind::of::<ConfigMap>()).unwrap())
            })
            .collect();
        let decoded = decode_all::<ConfigMap>(&objects);
        assert_eq!(decoded.len(), objects.len());
        for (number, decoded) in decoded.iter().enumerate() {
            match decoded {
                Ok(decoded) => assert_eq!(decoded.metadata.name, Some(format!("c{number}"))),
                Err(error) => assert_eq!((number, error.key.name()), (300, "c300")),
            }
        }
        assert!(decoded[300].is_err());
    }
}
