//! A bare socket, for what a well-behaved client does not send and does not show.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::server::{OPS, PROJECT};

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The path of a count in a project, written as it is to be sent.
pub(crate) fn count_path(project: &str) -> String {
    format!("/v1/{project}/app-server-sub-jobs/actions/count")
}

/// The path of a report to a project, written as it is to be sent.
pub(crate) fn report_path(project: &str) -> String {
    format!("/v1/{project}/app-server-sub-jobs/actions/report")
}

/// A whole head; each header is `name: value`, as it is to be sent.
pub(crate) fn head(request_line: &str, headers: &[&str]) -> String {
    let lines = headers.iter().map(|header| format!("{header}\r\n"));
    format!("{request_line}\r\n{}\r\n", lines.collect::<String>())
}

/// The head of a good count in [`PROJECT`], with a query or none and more headers.
pub(crate) fn good(query: &str, more: &[&str]) -> String {
    let token = format!("X-Auth-Token: {OPS}");
    let headers: Vec<_> = ["Host: h", &token].into_iter().chain(more.iter().copied()).collect();
    head(&format!("GET {}{query} HTTP/1.1", count_path(PROJECT)), &headers)
}

/// Sends one request on a connection of its own and reads its answer.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::open(address).await;
    wire.send(request).await;
    wire.answer().await
}

/// A connection.
pub(crate) struct Wire {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, unread: Vec::new() }
    }

    /// A connection from an address of this machine, as from another peer.
    pub(crate) async fn open_from(source: &str, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        Self { socket: socket.connect(address).await.unwrap(), unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Fails if the peer has closed.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        timeout(PATIENCE, self.socket.write_all(bytes.as_ref())).await.expect("the server stopped reading")
    }

    /// Sends bytes that the socket has space for, before anything else of this thread's runtime goes on.
    pub(crate) fn send_now(&self, bytes: impl AsRef<[u8]>) {
        assert_eq!(self.socket.try_write(bytes.as_ref()).unwrap(), bytes.as_ref().len());
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn end(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    /// The next answer, whole.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.answer_to_head().await;
        if answer.status >= 200 {
            let length = answer.header("content-length").expect("Content-Length").parse().unwrap();
            while self.unread.len() < length {
                assert_ne!(self.read().await, 0, "closed within a body");
            }
            answer.body = self.unread.drain(..length).collect();
        }
        answer
    }

    /// The next answer, which has no body as it is one to HEAD.
    pub(crate) async fn answer_to_head(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert_ne!(self.read().await, 0, "closed without an answer: {:?}", String::from_utf8_lossy(&self.unread));
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        Answer::parse(&String::from_utf8(head).unwrap())
    }

    /// What the peer still sends until it closes, which it must do in order, without a reset.
    pub(crate) async fn rest(&mut self) -> String {
        while self.read().await != 0 {}
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// Whether for so long nothing comes, not even the end.
    pub(crate) async fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.unread.is_empty() && timeout(time, self.socket.readable()).await.is_err()
    }

    async fn read(&mut self) -> usize {
        timeout(PATIENCE, self.socket.read_buf(&mut self.unread)).await.expect("nothing comes").expect("a reset")
    }
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(head: &str) -> Self {
        let (line, rest) = head.trim_end().split_once("\r\n").unwrap_or((head, ""));
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        };
        Self { status, headers: rest.lines().map(header).collect(), body: Vec::new() }
    }

    /// A header's value, which must stand at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} stands twice");
        first
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The count that a 200 has as its only field.
    pub(crate) fn count(&self) -> u64 {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.assert_common();
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1);
        body["count"].as_u64().unwrap()
    }

    /// Asserts that this is an error of the server's own, in form and in code; its message.
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.assert_common();
        assert_eq!(self.header("retry-after").is_some(), status == 503);
        assert_eq!(self.header("allow").is_some(), status == 405);
        let body = self.json();
        let fields: Vec<_> =
            body.as_object().unwrap().iter().map(|(name, value)| (&**name, value.is_string())).collect();
        assert_eq!(fields, [("error_code", true), ("error_msg", true)]);
        assert_eq!(body["error_code"], code);
        let message = body["error_msg"].as_str().unwrap();
        assert!((1..=255).contains(&message.chars().count()), "{message}");
        message.to_owned()
    }

    /// Asserts that the HTTP layer itself refused: without a word, and for good.
    pub(crate) fn assert_refused_by_the_http_layer(&self, status: u16) {
        assert_eq!((self.status, &*self.body), (status, &b""[..]));
        assert_eq!(self.header("connection"), Some("close"));
    }

    fn assert_common(&self) {
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()));
    }
}

/// The error codes that the tests expect, by status.
pub(crate) mod code {
    pub(crate) const INPUT: &str = "WKS.00211102";
    pub(crate) const CREDENTIAL: &str = "WKS.00211302";
    pub(crate) const PERMISSION: &str = "WKS.00081102";
    pub(crate) const NOT_FOUND: &str = "WKS.00211902";
    pub(crate) const METHOD: &str = "WKS.00000405";
    pub(crate) const TOO_LARGE: &str = "WKS.00000413";
    pub(crate) const MEDIA_TYPE: &str = "WKS.00000415";
    pub(crate) const UNAVAILABLE: &str = "WKS.00050902";
}
