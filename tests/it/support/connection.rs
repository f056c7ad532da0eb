//! The raw client: it sends any bytes and returns the received bytes, also those that an HTTP client cannot send or hides.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::fixtures::{OPS, PROJECT, count_path};
use crate::support::response::Response;
use crate::support::wait::TEST_DEADLINE;

/// A head. Each header is `name: value`.
pub(crate) fn head(request_line: &str, headers: &[&str]) -> String {
    let lines = headers.iter().map(|header| format!("{header}\r\n"));
    format!("{request_line}\r\n{}\r\n", lines.collect::<String>())
}

/// The head of a request with a token and more headers. An empty token is omitted.
pub(crate) fn request(method: &str, target: &str, token: &str, more: &[&str]) -> String {
    let token = format!("X-Auth-Token: {token}");
    let headers = if token.ends_with(": ") { vec!["Host: h"] } else { vec!["Host: h", &token] };
    head(&format!("{method} {target} HTTP/1.1"), &[&headers, more].concat())
}

/// The head of a count in [`PROJECT`] that gets 200, with this query and more headers.
pub(crate) fn valid_count(query: &str, more: &[&str]) -> String {
    request("GET", &format!("{}{query}", count_path(PROJECT)), OPS, more)
}

/// Sends one request on a new connection and reads its response.
pub(crate) async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let mut connection = Connection::open(address).await;
    connection.send(request).await;
    connection.response().await
}

/// A connection, through TCP or something above it.
pub(crate) struct Connection<S = TcpStream> {
    socket: S,
    unread: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.unwrap()
    }

    /// Fails if nothing listens.
    pub(crate) async fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, unread: Vec::new() })
    }

    /// Opens a connection from another loopback address, as another peer.
    pub(crate) async fn open_from(source: &str, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        Self { socket: socket.connect(address).await.unwrap(), unread: Vec::new() }
    }

    /// Sends bytes and reads meanwhile, so that a response to the first of them is not lost if the peer then closes.
    pub(crate) async fn send_and_read(&mut self, bytes: &[u8]) {
        let (mut reader, mut writer) = self.socket.split();
        let mut sent = pin!(timeout(TEST_DEADLINE, writer.write_all(bytes)));
        loop {
            tokio::select! {
                sent = &mut sent => return drop(sent.expect("the server stopped reading")),
                Ok(1..) = reader.read_buf(&mut self.unread) => {}
            }
        }
    }

    /// Writes bytes to the socket at once, before another task of this thread runs.
    pub(crate) fn send_now(&self, bytes: impl AsRef<[u8]>) {
        assert_eq!(self.socket.try_write(bytes.as_ref()).unwrap(), bytes.as_ref().len());
    }

    /// Whether no byte and no end arrives within this time.
    pub(crate) async fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.unread.is_empty() && timeout(time, self.socket.readable()).await.is_err()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection of this socket.
    pub(crate) fn of(socket: S) -> Self {
        Self { socket, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Fails if the peer has closed.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        timeout(TEST_DEADLINE, self.socket.write_all(bytes.as_ref())).await.expect("the server stopped reading")
    }

    /// Closes the sending side.
    pub(crate) async fn end(&mut self) {
        self.try_end().await.unwrap();
    }

    /// Fails if the peer has reset the connection.
    pub(crate) async fn try_end(&mut self) -> std::io::Result<()> {
        self.socket.shutdown().await
    }

    /// Reads the next response.
    pub(crate) async fn response(&mut self) -> Response {
        let mut response = self.response_to_head().await;
        if response.status >= 200 {
            let length = response.header("content-length").expect("Content-Length").parse().unwrap();
            while self.unread.len() < length {
                assert_ne!(self.read().await, 0, "closed within a body");
            }
            response.body = self.unread.drain(..length).collect();
        }
        response
    }

    /// Reads the next response, which has no body because the request is a HEAD.
    pub(crate) async fn response_to_head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert_ne!(self.read().await, 0, "closed without an answer: {:?}", String::from_utf8_lossy(&self.unread));
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        Response::parse_head(&String::from_utf8(head).unwrap())
    }

    /// Reads until the peer closes the connection, which it must do without a reset.
    pub(crate) async fn rest(&mut self) -> String {
        while self.read().await != 0 {}
        self.take_received()
    }

    /// Reads the last response. Its body ends with the peer's close or reset.
    pub(crate) async fn last_response(&mut self) -> Response {
        let mut response = self.response_to_head().await;
        response.body = self.rest_or_reset().await.into_bytes();
        response
    }

    /// Reads this number of bytes of a body.
    pub(crate) async fn body(&mut self, length: usize) -> String {
        while self.unread.len() < length {
            assert_ne!(self.read().await, 0, "closed within a body");
        }
        String::from_utf8(self.unread.drain(..length).collect()).unwrap()
    }

    /// Reads the next chunk of a chunked body. Returns `None` after the last one.
    pub(crate) async fn chunk(&mut self) -> Option<String> {
        let end = loop {
            match self.unread.windows(2).position(|window| window == b"\r\n") {
                Some(end) => break end,
                None => assert_ne!(self.read().await, 0, "closed within a chunk"),
            }
        };
        let size = usize::from_str_radix(self.body(end + 2).await.trim(), 16).unwrap();
        let mut data = self.body(size + 2).await;
        data.truncate(size);
        (size > 0).then_some(data)
    }

    /// Reads until the peer closes or resets the connection.
    pub(crate) async fn rest_or_reset(&mut self) -> String {
        loop {
            match self.read_more().await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    break;
                }
            }
        }
        self.take_received()
    }

    /// The received bytes that are not part of a response.
    pub(crate) fn received(&self) -> &[u8] {
        &self.unread
    }

    /// Removes and returns those bytes.
    pub(crate) fn take_received(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// Reads more bytes. Returns their number, 0 for the end.
    pub(crate) async fn read_more(&mut self) -> std::io::Result<usize> {
        timeout(TEST_DEADLINE, self.socket.read_buf(&mut self.unread)).await.expect("nothing comes")
    }

    async fn read(&mut self) -> usize {
        self.read_more().await.expect("a reset")
    }
}
