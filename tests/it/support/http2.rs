//! Clients that speak HTTP/2: one that follows the rules, and one that writes frames.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::fixtures::OPS;
use crate::support::response::Response;
use crate::support::tls::Certificates;
use crate::support::wait::TEST_DEADLINE;

/// A connection of a client that follows the rules.
pub(crate) struct Http2 {
    address: SocketAddr,
    requests: SendRequest<Bytes>,
    pings: PingPong,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    pub(crate) async fn open(certificates: &Certificates, address: SocketAddr) -> Self {
        let stream = certificates.client().offering("h2").connect(address).await.unwrap();
        Self::of(stream, address).await
    }

    pub(crate) async fn of(stream: TlsStream<TcpStream>, address: SocketAddr) -> Self {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        // As the standard recommends and other clients do, until the server's settings arrive.
        let (requests, mut connection) = Builder::new().initial_max_send_streams(100).handshake(stream).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        Self { address, requests, pings, connection: tokio::spawn(connection) }
    }

    /// A GET of this target with a token. An empty token is omitted.
    pub(crate) fn get(&self, target: &str, token: &str) -> Request<()> {
        let request = Request::get(format!("https://{}{target}", self.address));
        let request = if token.is_empty() { request } else { request.header("x-auth-token", token) };
        request.body(()).unwrap()
    }

    /// A POST of NDJSON for the account.
    pub(crate) fn post(&self, target: &str) -> Request<()> {
        let request = Request::post(format!("https://{}{target}", self.address)).header("x-auth-token", OPS);
        request.header("content-type", "application/x-ndjson").body(()).unwrap()
    }

    /// Sends a request without a body, as soon as the limit of open streams allows.
    pub(crate) async fn begin(&self, request: Request<()>) -> Result<ResponseFuture, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        Ok(requests.send_request(request, true)?.0)
    }

    /// Sends the head of a request.
    pub(crate) async fn begin_with_body(&self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        self.requests.clone().ready().await.unwrap().send_request(request, false).unwrap()
    }

    /// Sends a request without a body, and reads the response.
    pub(crate) async fn ask(&self, request: Request<()>) -> Result<Response, h2::Error> {
        read(self.begin(request).await?).await
    }

    /// Sends a request with a body, and reads the response.
    pub(crate) async fn send(&self, request: Request<()>, body: &[u8]) -> Response {
        let (response, mut stream) = self.begin_with_body(request).await;
        let mut left = Bytes::copy_from_slice(body);
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
            stream.send_data(left.split_to(capacity.min(left.len())), left.is_empty()).unwrap();
        }
        read(response).await.unwrap()
    }

    /// Waits until the server has answered everything that it received before.
    pub(crate) async fn ping(&mut self) -> Result<(), h2::Error> {
        self.pings.ping(Ping::opaque()).await.map(drop)
    }

    /// Waits for the end. Returns why the server ended the connection, `None` for the loss of the connection.
    pub(crate) async fn ended(self) -> Option<Reason> {
        // Without requests the client would end the connection by itself.
        let Self { requests: _requests, connection, .. } = self;
        match timeout(TEST_DEADLINE, connection).await.expect("it does not end").unwrap() {
            Ok(()) => Some(Reason::NO_ERROR),
            Err(error) => error.reason(),
        }
    }
}

/// Reads a response.
pub(crate) async fn read(response: ResponseFuture) -> Result<Response, h2::Error> {
    let (head, mut body) = timeout(TEST_DEADLINE, response).await.expect("no response")?.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = timeout(TEST_DEADLINE, body.data()).await.expect("no body") {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend(data);
    }
    Ok(Response { status: head.status.as_u16(), headers: headers(&head.headers), body: bytes })
}

fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The error code of a GOAWAY or RST_STREAM.
    pub(crate) fn reason(&self) -> Reason {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()).into()
    }
}

/// Headers as a block of literals that change no table.
pub(crate) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, value) in headers {
        all.push(0);
        for text in [name, value] {
            all.extend(string(text));
        }
    }
    all
}

fn string(text: &str) -> Vec<u8> {
    let (mut bytes, length) = (Vec::new(), text.len());
    if length < 127 {
        bytes.push(length as u8);
    } else {
        bytes.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// The head of a GET with a token and more headers.
pub(crate) fn get_block(target: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let all = [(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", target), ("x-auth-token", OPS)];
    block(&[&all[..], more].concat())
}

/// A connection whose client writes any frames.
pub(crate) struct RawHttp2 {
    stream: TlsStream<TcpStream>,
    unread: Vec<u8>,
}

impl RawHttp2 {
    /// Connects, and sends the preface and empty settings.
    pub(crate) async fn open(certificates: &Certificates, address: SocketAddr) -> Self {
        let mut connection = Self::connect(certificates, address).await;
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        connection.send(&Frame::bytes(SETTINGS, 0, 0, &[])).await;
        connection
    }

    /// Connects, and sends nothing.
    pub(crate) async fn connect(certificates: &Certificates, address: SocketAddr) -> Self {
        let stream = certificates.client().offering("h2").connect(address).await.unwrap();
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    /// Fails if the server has closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        timeout(TEST_DEADLINE, self.stream.write_all(bytes)).await.expect("the server stopped reading")?;
        self.stream.flush().await
    }

    /// The next frame, or `None` at the end or a reset.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, _flags, stream @ ..] = &self.unread[..]
                && stream.len() >= 4
            {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if self.unread.len() >= 9 + length {
                    let kind = *kind;
                    let stream = u32::from_be_bytes(stream[..4].try_into().unwrap());
                    let payload = self.unread[9..9 + length].to_vec();
                    self.unread.drain(..9 + length);
                    return Some(Frame { kind, stream, payload });
                }
            }
            match timeout(TEST_DEADLINE, self.stream.read_buf(&mut self.unread)).await.expect("nothing comes") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame of this kind.
    pub(crate) async fn frame_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            match self.frame().await {
                Some(frame) if frame.kind != kind => {}
                frame => return frame,
            }
        }
    }

    /// Whether no frame but those that answer settings arrives within this time.
    pub(crate) async fn is_open_after(&mut self, time: std::time::Duration) -> bool {
        timeout(time, async { while self.frame().await.is_some_and(|frame| frame.kind != GOAWAY) {} }).await.is_err()
    }
}
