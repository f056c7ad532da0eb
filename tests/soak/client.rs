//! An HTTP client with one keep-alive connection and one request at a time.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::filter::Filter;
use crate::model::Outcome;
use crate::record::Record;
use crate::support::process::ACCOUNT_TOKEN;

/// How long a response may take, even on a busy machine.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection was closed, or could not be opened.
    ConnectionLost(io::Error),
    /// The status is another than 200; the body beside it.
    ErrorStatus(u16, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionLost(error) => write!(f, "{error}"),
            Self::ErrorStatus(status, body) => write!(f, "{status} {body}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::ConnectionLost(error)
    }
}

impl Failure {
    /// Whether a request may fail like this while the server stops.
    pub(crate) fn is_expected_at_shutdown(&self) -> bool {
        matches!(self, Self::ConnectionLost(_) | Self::ErrorStatus(503, _))
    }
}

pub(crate) struct Client {
    address: SocketAddr,
    socket: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Connects on the first request.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, socket: None }
    }

    /// Sends CountSubJobs.
    pub(crate) fn count(&mut self, project: &str, filter: &Filter) -> Result<u64, Failure> {
        let query = filter.query();
        let response = self.send("GET", &format!("/v1/{project}/app-server-sub-jobs/actions/count?{query}"), "", "")?;
        Ok(parse_json(&response)?["count"].as_u64().ok_or_else(|| invalid_data(&response))?)
    }

    /// Sends a report, as NDJSON or as a JSON array.
    pub(crate) fn report(&mut self, project: &str, batch: &[Record], as_ndjson: bool) -> Result<Outcome, Failure> {
        let records: Vec<_> = batch.iter().map(Record::json).collect();
        let (kind, body) = match as_ndjson {
            true => ("application/x-ndjson", records.join("\n")),
            false => ("application/json", format!("[{}]", records.join(","))),
        };
        let path = format!("/v1/{project}/app-server-sub-jobs/actions/report");
        let response = self.send("POST", &path, &format!("Content-Type: {kind}\r\n"), &body)?;
        let value = parse_json(&response)?;
        let field = |name: &str| value[name].as_u64().ok_or_else(|| invalid_data(&response));
        Ok(Outcome {
            created: field("created")?,
            updated: field("updated")?,
            unchanged: field("unchanged")?,
            stale: field("stale")?,
            uncertain: 0,
        })
    }

    /// Sends a GET for a path of the server itself, as `/metrics`.
    pub(crate) fn get(&mut self, path: &str) -> Result<String, Failure> {
        self.send("GET", path, "", "")
    }

    fn send(&mut self, method: &str, path: &str, extra_headers: &str, body: &str) -> Result<String, Failure> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(self.address)?,
        };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: subjobs.example.com\r\nX-Auth-Token: {ACCOUNT_TOKEN}\r\n\
             Content-Length: {length}\r\n{extra_headers}\r\n{body}"
        );
        socket.get_mut().write_all(request.as_bytes())?;
        let (status, keep_alive, text) = read_response(&mut socket)?;
        // After an error the connection is dropped, and the next request opens another.
        self.socket = keep_alive.then_some(socket);
        if status == 200 { Ok(text) } else { Err(Failure::ErrorStatus(status, text)) }
    }
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    socket.set_write_timeout(Some(RESPONSE_TIMEOUT))?;
    Ok(BufReader::new(socket))
}

/// Reads a response: its status, whether the connection stays open, its body.
fn read_response(socket: &mut BufReader<TcpStream>) -> io::Result<(u16, bool, String)> {
    let (mut status, mut keep_alive, mut length) = (0, true, 0);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().map_err(|_| invalid_data(&line))?,
            Some(("connection", value)) => keep_alive = value != "close",
            Some(_) => {}
            None if line.is_empty() => break,
            None => status = line.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(|| invalid_data(&line))?,
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok((status, keep_alive, String::from_utf8_lossy(&body).into_owned()))
}

fn parse_json(text: &str) -> io::Result<Value> {
    serde_json::from_str(text).map_err(|_| invalid_data(text))
}

fn invalid_data(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
