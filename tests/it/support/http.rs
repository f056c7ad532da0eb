//! Requests over sockets of their own, and answers as they came.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::support::program::{BOUND, event, text};

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Takes an answer apart.
    pub(crate) fn parse(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        Self { status: status.unwrap_or_else(|| panic!("no status: {head}")), head: head.into(), body: body.into() }
    }

    /// The one value of a header, which is named in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands twice: {}", self.head);
        value
    }

    pub(crate) fn json(&self) -> Value {
        event(&self.body)
    }

    /// Asserts that it is an error of ours, or of the gateway in our form.
    pub(crate) fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()), "{self:?}");
        assert_eq!(self.header("retry-after").is_some(), status == 503, "{self:?}");
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 2, "{self:?}");
        assert_eq!(body["error_code"], code, "{self:?}");
        assert!((1..=255).contains(&body["error_msg"].as_str().unwrap().chars().count()), "{self:?}");
    }
}

/// A GET on a connection of its own; an empty token is none.
pub(crate) fn get(address: SocketAddr, path: &str, token: &str) -> Answer {
    let mut socket = connect(address);
    socket.write_all(head("GET", path, token, "Connection: close\r\n").as_bytes()).unwrap();
    Answer::parse(&rest(&mut socket))
}

/// A POST of NDJSON on a connection of its own.
pub(crate) fn post(address: SocketAddr, path: &str, token: &str, body: &str) -> Answer {
    let more = format!("Connection: close\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n", body.len());
    let mut socket = connect(address);
    socket.write_all((head("POST", path, token, &more) + body).as_bytes()).unwrap();
    Answer::parse(&rest(&mut socket))
}

/// A request's head.
pub(crate) fn head(method: &str, path: &str, token: &str, more: &str) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{more}");
    if !token.is_empty() {
        write!(head, "X-Auth-Token: {token}\r\n").unwrap();
    }
    head + "\r\n"
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket
}

/// Everything up to the peer's close; a reset is one too.
pub(crate) fn rest(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => text(&answer),
    }
}

/// One answer of a connection that goes on.
pub(crate) fn one_answer(socket: &mut TcpStream) -> Answer {
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).unwrap(), 1, "closed after {:?}", text(&answer));
        answer.push(byte[0]);
        if answer.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let mut answer = Answer::parse(&text(&answer));
    let mut body = vec![0; answer.header("content-length").unwrap().parse().unwrap()];
    socket.read_exact(&mut body).unwrap();
    answer.body = text(&body);
    answer
}
