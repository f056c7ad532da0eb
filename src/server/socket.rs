//! A connection's socket. It gathers what a turn writes, reports reads and writes to the connection's state, and lingers when it is
//! closed.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::gather::Gather;
use super::linger::Linger;
use super::state::{ConnectionPhase, ConnectionState};

/// A socket that sends what was written to it when [`TrackedSocket::poll_send`] is called, and whose shutdown does not lose the last
/// response. A clone is the same socket: the HTTP layer has one, and the connection's task has the other. Only that task uses
/// either, so their lock is always free.
#[derive(Debug)]
pub(super) struct TrackedSocket<S> {
    inner: Arc<Mutex<Inner<S>>>,
    state: Arc<ConnectionState>,
}

#[derive(Debug)]
struct Inner<S> {
    socket: S,
    gather: Gather,
    linger: Linger,
}

impl<S> Clone for TrackedSocket<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), state: self.state.clone() }
    }
}

impl<S> TrackedSocket<S> {
    pub(super) fn new(socket: S, state: Arc<ConnectionState>) -> Self {
        let inner = Inner { socket, gather: Gather::default(), linger: Linger::default() };
        Self { inner: Arc::new(Mutex::new(inner)), state }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // Bytes and a socket are valid after a panic too.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TrackedSocket<S> {
    /// Sends what has been written. Called at the end of each turn in which the connection waits.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Inner { socket, gather, .. } = &mut *self.lock();
        let sent = gather.poll_send(socket, cx);
        self.state.has_unsent.store(sent.is_pending(), Relaxed);
        sent
    }

    /// Writes the last bytes, and waits for the peer to read them and close. The socket is closed even if that fails or takes
    /// longer than `limit`.
    pub(super) async fn close(mut self, final_bytes: &[u8], limit: Duration) {
        let closing = async {
            if !final_bytes.is_empty() {
                // Few bytes have been written before, so there is space for these.
                poll_fn(|cx| Pin::new(&mut self).poll_write(cx, final_bytes)).await?;
            }
            poll_fn(|cx| Pin::new(&mut self).poll_shutdown(cx)).await
        };
        let _: Result<io::Result<()>, _> = timeout(limit, closing).await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        self.state.fragment_detector.before_read(buf.filled().as_ptr().addr() + before);
        ready!(Pin::new(&mut self.lock().socket).poll_read(cx, buf))?;
        self.state.has_read(&buf.filled()[before..]);
        self.state.fragment_detector.after_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TrackedSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Inner { socket, gather, .. } = &mut *self.lock();
        let written = gather.poll_write(socket, cx, bufs);
        self.state.has_unsent.store(written.is_pending(), Relaxed);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the connection sends at the end of its turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        let Inner { socket, linger, .. } = &mut *self.lock();
        linger.poll_close(Pin::new(socket), cx, || self.state.set_phase(ConnectionPhase::Lingering))
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{
        LINGER_TIMEOUT,
        tests::{TIMEOUTS, seconds_left},
    };
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_the_peer_until_the_linger_timeout() {
        let (near, far) = tokio::io::duplex(64);
        let state = ConnectionState::new(TIMEOUTS, Arc::default());
        let mut socket = TrackedSocket::new(near, state.clone());
        let shutdown = std::future::poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx));
        tokio::pin!(shutdown);
        tokio::select! {
            biased;
            _ = &mut shutdown => panic!("the peer has not closed yet"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(seconds_left(&state), Some(LINGER_TIMEOUT.as_secs()));
        drop(far);
        assert!(shutdown.await.is_ok());
    }
}
