//! The bytes that a connection has written and not yet sent: those of one turn of its task go out in one write.
//!
//! The HTTP layer flushes after each response, so sixteen pipelined requests would cost sixteen writes. Its own option against
//! that (`pipeline_flush`) keeps a response back for as long as any byte of a next request is unread.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// The most bytes that are gathered. Beyond that a write waits for the peer.
const MAX_GATHERED: usize = 64 * 1024;

/// The fewest bytes of a write that are not gathered: a copy of them would cost more than a write of their own.
const MIN_UNGATHERED: usize = 16 * 1024;

/// The most capacity that is kept while nothing is gathered.
const MAX_KEPT: usize = 4 * 1024;

/// Bytes that are written and not sent.
#[derive(Debug, Default)]
pub(super) struct Gather {
    bytes: Vec<u8>,
    /// How many of them have been sent.
    sent: usize,
    /// Whether the socket may hold bytes back until it is flushed, as TLS does.
    is_unflushed: bool,
}

impl Gather {
    /// Takes bytes, as many as there is space for. When there is none, it waits for the peer.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length >= MIN_UNGATHERED || self.bytes.len() + length > MAX_GATHERED {
            ready!(self.poll_send(socket, cx))?;
        }
        self.is_unflushed = true;
        if length >= MIN_UNGATHERED {
            return Pin::new(socket).poll_write_vectored(cx, bufs);
        }
        bufs.iter().for_each(|buf| self.bytes.extend_from_slice(buf));
        Poll::Ready(Ok(length))
    }

    /// Sends what is gathered.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut *socket).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.sent = 0;
        self.bytes.clear();
        if self.bytes.capacity() > MAX_KEPT {
            self.bytes = Vec::new();
        }
        if self.is_unflushed {
            ready!(Pin::new(socket).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
