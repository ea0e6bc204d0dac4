//! Holds back what a connection of HTTP/2 writes until it has written all that it has.
//!
//! HTTP/2 flushes after each DATA frame of more than a few hundred bytes, which over TLS is a record and a system call each:
//! most of what an event costs that goes to a hundred watchers of one connection. A [`Corked`] stream takes such
//! frames in and lets them be flushed; the task of the connection, which knows when no more is to come, has its [`Cork`]
//! and writes them out together.
//!
//! What never happens: more than [`MOST`] and one write are held, or something stays held while the task sleeps (it
//! must release after each poll of what writes).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is held, in bytes, before it is written anyway: four records of TLS, and what rustls takes at a time.
const MOST: usize = 64 * 1024;
/// A buffer that grew beyond this, in bytes, is given back once it is empty.
const KEPT: usize = 4 * 1024;

/// The stream as the connection has it.
pub(super) struct Corked<I>(Arc<Mutex<State<I>>>);

/// The means to write out what is held.
pub(super) struct Cork<I>(Arc<Mutex<State<I>>>);

struct State<I> {
    io: I,
    held: Vec<u8>,
    /// So much of `held` has been written.
    written: usize,
    /// Something has been written since the stream was flushed.
    unflushed: bool,
}

/// Corks a stream.
pub(super) fn cork<I>(io: I) -> (Corked<I>, Cork<I>) {
    let state = Arc::new(Mutex::new(State { io, held: Vec::new(), written: 0, unflushed: false }));
    (Corked(Arc::clone(&state)), Cork(state))
}

impl<I: AsyncWrite + Unpin> Cork<I> {
    /// Writes what is held and flushes the stream. Where that is not possible at once the caller's task is woken.
    pub fn poll_release(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_release(cx)
    }
}

impl<I: AsyncWrite + Unpin> State<I> {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            let rest = &self.held[self.written..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
            self.unflushed = true;
        }
        self.held.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        if self.held.capacity() > KEPT {
            self.held = Vec::new();
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Corked<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Corked<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.held.len() >= MOST {
            ready!(state.poll_write_out(cx))?;
        }
        let length = bufs.iter().map(|buf| buf.len()).sum();
        state.held.reserve(length);
        for buf in bufs {
            state.held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: whoever has the cork flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        ready!(state.poll_release(cx))?;
        Pin::new(&mut state.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_written_and_flushed_waits_for_the_release() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut corked, cork) = cork(near);
        for _ in 0..3 {
            corked.write_all(b"frame ").await.unwrap();
            corked.flush().await.unwrap();
        }
        let mut seen = [0; 18];
        assert!(futures::poll!(std::pin::pin!(far.read(&mut seen))).is_pending());
        poll_fn(|cx| cork.poll_release(cx)).await.unwrap();
        far.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"frame frame frame ");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_keep_up_holds_up_the_writer() {
        let (near, mut far) = tokio::io::duplex(10);
        let (mut corked, cork) = cork(near);
        let text = vec![b'x'; 2 * MOST + 1];
        let mut written = 0;
        {
            let mut writing = std::pin::pin!(async {
                for chunk in text.chunks(1000) {
                    corked.write_all(chunk).await.unwrap();
                    written += chunk.len();
                }
            });
            assert!(futures::poll!(writing.as_mut()).is_pending());
        }
        assert!((MOST..MOST + 1000).contains(&written), "{written}");
        let mut seen = vec![0; written];
        let (released, _) =
            tokio::join!(poll_fn(|cx| cork.poll_release(cx)), async { far.read_exact(&mut seen).await });
        released.unwrap();
        assert_eq!(seen, text[..written]);
    }

    #[tokio::test]
    async fn a_shutdown_loses_nothing() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut corked, _cork) = cork(near);
        corked.write_all(b"the end").await.unwrap();
        corked.shutdown().await.unwrap();
        let mut seen = Vec::new();
        drop(corked);
        drop(_cork);
        far.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"the end");
    }
}
