//! Bodies of answers: a buffer, chunks made on demand, or a stream of events.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Frame, SizeHint};

/// How much of a buffer is handed to the connection at a time. An HTTP/1.1 connection copies what it gets into a buffer
/// that stays as large as the largest piece ever was, for as long as the client keeps the connection.
const CHUNK: usize = 128 * 1024;

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
            Self::Full(bytes) => {
                let next = match bytes {
                    Some(rest) if rest.len() > CHUNK => Some(rest.split_to(CHUNK)),
                    _ => bytes.take(),
                };
                Poll::Ready(next.map(|b| Ok(Frame::data(b))))
            }
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

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_large_buffer_goes_out_in_pieces_and_keeps_its_length() {
        let text = vec![7; 3 * CHUNK + 1];
        let mut body = ServerBody::from(text.clone());
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), CHUNK);
        assert_eq!(body.size_hint().exact(), Some((text.len() - CHUNK) as u64));
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(first.len() + rest.len(), text.len());
    }
}
