//! The lingering close of a socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that are read and discarded while lingering.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// How far the close of a socket has got.
#[derive(Debug, Default)]
pub(super) struct Linger {
    is_shut_down: bool,
    discarded: usize,
}

impl Linger {
    /// Shuts down writing, calls `on_shutdown`, then reads and discards until the peer closes. Closing a socket that has unread
    /// bytes resets the connection, and the peer may lose the last response.
    pub(super) fn poll_close<S: AsyncRead + AsyncWrite>(
        &mut self,
        mut socket: Pin<&mut S>,
        cx: &mut Context<'_>,
        on_shutdown: impl FnOnce(),
    ) -> Poll<io::Result<()>> {
        if !self.is_shut_down {
            ready!(socket.as_mut().poll_shutdown(cx))?;
            self.is_shut_down = true;
            on_shutdown();
        }
        let mut scratch = [0; 4096];
        while self.discarded < MAX_LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(socket.as_mut().poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => break,
                more => self.discarded += more,
            }
        }
        Poll::Ready(Ok(()))
    }
}
