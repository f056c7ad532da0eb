//! The raw client for tests that start the program and have no runtime.

use std::net::SocketAddr;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

use crate::support::connection::{Connection, request};
use crate::support::response::Response;

/// The runtime of all connections of all threads.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// A [`Connection`] whose methods block.
pub(crate) struct BlockingConnection(Connection);

impl BlockingConnection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap()
    }

    /// Fails if nothing listens.
    pub(crate) fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        RUNTIME.block_on(Connection::try_open(address)).map(Self)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Fails if the peer has closed.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        RUNTIME.block_on(self.0.try_send(bytes))
    }

    /// Closes the sending side. Fails if the peer has reset the connection.
    pub(crate) fn try_end(&mut self) -> std::io::Result<()> {
        RUNTIME.block_on(self.0.try_end())
    }

    /// Reads the next response.
    pub(crate) fn response(&mut self) -> Response {
        RUNTIME.block_on(self.0.response())
    }

    /// Reads the last response. Its body ends with the peer's close or reset.
    pub(crate) fn last_response(&mut self) -> Response {
        RUNTIME.block_on(self.0.last_response())
    }

    /// Reads until the peer closes or resets the connection.
    pub(crate) fn rest(&mut self) -> String {
        RUNTIME.block_on(self.0.rest_or_reset())
    }

    /// Reads more bytes. Returns their number, 0 for the end.
    pub(crate) fn read_more(&mut self) -> std::io::Result<usize> {
        RUNTIME.block_on(self.0.read_more())
    }

    /// The received bytes that are not part of a response.
    pub(crate) fn received(&self) -> &[u8] {
        self.0.received()
    }

    /// Removes and returns those bytes.
    pub(crate) fn take_received(&mut self) -> String {
        self.0.take_received()
    }
}

/// Sends bytes on a new connection, which the client or the server closes after the response.
pub(crate) fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    let mut connection = BlockingConnection::open(address);
    connection.send(bytes);
    connection.last_response()
}

/// Sends a GET on a new connection. An empty token is omitted.
pub(crate) fn get(address: SocketAddr, path: &str, token: &str) -> Response {
    exchange(address, request("GET", path, token, &["Connection: close"]))
}

/// Sends a POST of NDJSON on a new connection.
pub(crate) fn post(address: SocketAddr, path: &str, token: &str, body: &str) -> Response {
    let length = format!("Content-Length: {}", body.len());
    let more = ["Connection: close", "Content-Type: application/x-ndjson", &length];
    exchange(address, request("POST", path, token, &more) + body)
}
