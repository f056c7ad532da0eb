//! A connection's socket. It reports reads and writes to the connection's state, and lingers when it is closed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::linger::Linger;
use super::state::{ConnectionPhase, ConnectionState};

pin_project! {
    /// A socket that updates its connection's state, and whose shutdown does not lose the last response.
    #[derive(Debug)]
    pub(super) struct TrackedSocket<S> {
        #[pin]
        socket: S,
        state: Arc<ConnectionState>,
        linger: Linger,
    }
}

impl<S> TrackedSocket<S> {
    pub(super) fn new(socket: S, state: Arc<ConnectionState>) -> Self {
        Self { socket, state, linger: Linger::default() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TrackedSocket<S> {
    /// Writes the last bytes, and waits for the peer to read them and close. The socket is closed even if that fails or takes
    /// longer than `limit`.
    pub(super) async fn close(mut self, final_bytes: &[u8], limit: Duration) {
        let closing = async {
            if !final_bytes.is_empty() {
                // Few bytes have been written before, so the socket's buffer has space for these.
                poll_fn(|cx| Pin::new(&mut self).poll_write(cx, final_bytes)).await?;
            }
            poll_fn(|cx| Pin::new(&mut self).poll_shutdown(cx)).await
        };
        let _: Result<io::Result<()>, _> = timeout(limit, closing).await;
    }
}

impl<S: AsyncRead> AsyncRead for TrackedSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        this.state.fragment_detector.before_read(buf.filled().as_ptr().addr() + before);
        ready!(this.socket.poll_read(cx, buf))?;
        this.state.has_read(&buf.filled()[before..]);
        this.state.fragment_detector.after_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for TrackedSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = this.socket.poll_write(cx, buf);
        this.state.has_unsent.store(written.is_pending(), Relaxed);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = this.socket.poll_write_vectored(cx, bufs);
        this.state.has_unsent.store(written.is_pending(), Relaxed);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let flushed = this.socket.poll_flush(cx);
        // TLS has a buffer of its own, which a flush writes to the socket.
        this.state.has_unsent.store(flushed.is_pending(), Relaxed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let state = &*this.state;
        this.linger.poll_close(this.socket, cx, || state.set_phase(ConnectionPhase::Lingering))
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
