//! The bodies of questions in memory: each within a limit of its own, and all of them together within another. A body takes
//! its room as it arrives, so that a caller who only says that it will send much takes none. Where there is no room, bodies
//! wait, and one at a time goes on beyond the bound: otherwise several that have each arrived in part could wait for each
//! other.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Bytes of bodies at a time, beside those of the one that goes beyond.
const IN_FLIGHT: usize = 64 * 1024 * 1024;

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    #[error("the body could not be read")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The room for bodies.
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    beyond: Arc<Mutex<()>>,
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies::within(IN_FLIGHT)
    }
}

/// A body, which takes room until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: BytesMut,
    room: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedMutexGuard<()>>,
}

impl Held {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    fn within(bytes: usize) -> Bodies {
        Bodies { room: Arc::new(Semaphore::new(bytes)), beyond: Arc::default() }
    }

    /// Reads a body of at most so many bytes, as room permits.
    pub(super) async fn read<B>(&self, body: B, limit: usize) -> Result<Held, BodyError>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut body = pin!(body);
        let mut held = Held::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| BodyError::Broken(error.into()))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > limit - held.bytes.len() {
                return Err(BodyError::TooLarge(limit));
            }
            self.take(&mut held, data.len()).await;
            held.bytes.extend_from_slice(&data);
        }
        Ok(held)
    }

    /// Waits for room, or for being the one that needs none.
    async fn take(&self, held: &mut Held, bytes: usize) {
        if held.beyond.is_some() {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        tokio::select! {
            biased;
            Ok(more) = Arc::clone(&self.room).acquire_many_owned(bytes) => match &mut held.room {
                Some(room) => room.merge(more),
                None => held.room = Some(more),
            },
            beyond = Arc::clone(&self.beyond).lock_owned() => held.beyond = Some(beyond),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// A body of chunks of these lengths.
    fn body(
        chunks: &'static [usize],
    ) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> {
        StreamBody::new(stream::iter(chunks).map(|length| Ok(Frame::data(Bytes::from(vec![b'x'; *length])))))
    }

    #[tokio::test]
    async fn bodies_wait_for_room_and_one_at_a_time_needs_none() {
        let bodies = Bodies::within(10);
        let first = bodies.read(body(&[4, 4]), 100).await.unwrap();
        let beyond = bodies.read(body(&[2, 30, 40]), 100).await.unwrap();
        assert_eq!((first.bytes().len(), beyond.bytes().len()), (8, 72));
        let mut third = pin!(bodies.read(body(&[6]), 100));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        let third = third.await.unwrap();
        let mut fourth = pin!(bodies.read(body(&[6]), 100));
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(beyond);
        assert_eq!((fourth.await.unwrap().bytes().len(), third.bytes().len()), (6, 6));
        assert_eq!(bodies.room.available_permits(), 4);
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused_and_takes_no_room() {
        let bodies = Bodies::within(10);
        assert!(bodies.read(body(&[5, 5]), 10).await.is_ok());
        let error = bodies.read(body(&[5, 6]), 10).await.unwrap_err();
        assert_eq!(error.to_string(), "the body is longer than 10 bytes");
        assert_eq!(bodies.room.available_permits(), 10);
    }
}
