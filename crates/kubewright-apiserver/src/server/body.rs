//! Bodies of answers: a buffer, chunks made on demand, or a stream of events.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Frame, SizeHint};

/// The body of every answer.
pub enum ServerBody {
    /// One buffer, or none any more.
    Full(Option<Bytes>),
    /// Chunks, made when the client is ready for them. An error cuts the connection.
    Stream(BoxStream<'static, Result<Bytes, std::io::Error>>),
}

impl ServerBody {
    /// No body.
    pub fn empty() -> Self {
        Self::Full(None)
    }

    /// A body that is made chunk by chunk.
    pub fn stream(chunks: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Self {
        Self::Stream(Box::pin(chunks))
    }
}

impl From<Bytes> for ServerBody {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Some(bytes).filter(|b| !b.is_empty()))
    }
}

impl From<String> for ServerBody {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Vec<u8>> for ServerBody {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl http_body::Body for ServerBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(chunks) => {
                chunks.as_mut().poll_next(cx).map(|next| next.map(|c| c.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
