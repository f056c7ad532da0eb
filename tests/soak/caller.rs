//! One connection to the server, kept alive, on which one request follows the answer to the other.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::filter::Filter;
use crate::model::Outcome;
use crate::record::Record;
use crate::support::process::ACCOUNT;

/// How long an answer may take, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection has ended, or cannot be made.
    Lost(io::Error),
    /// It is another than 200.
    Refused(u16, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "{error}"),
            Self::Refused(status, body) => write!(f, "{status} {body}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Failure {
    /// Whether a server that is ending may fail so.
    pub(crate) fn is_of_the_end(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Refused(503, _))
    }
}

pub(crate) struct Caller {
    address: SocketAddr,
    socket: Option<BufReader<TcpStream>>,
}

impl Caller {
    /// Connects when something is asked.
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self { address, socket: None }
    }

    /// Counts.
    pub(crate) fn count(&mut self, project: &str, filter: &Filter) -> Result<u64, Failure> {
        let query = filter.query();
        let answer = self.ask("GET", &format!("/v1/{project}/app-server-sub-jobs/actions/count?{query}"), "", "")?;
        Ok(json(&answer)?["count"].as_u64().ok_or_else(|| unreadable(&answer))?)
    }

    /// Reports, in one of the two forms.
    pub(crate) fn report(&mut self, project: &str, batch: &[Record], as_lines: bool) -> Result<Outcome, Failure> {
        let records: Vec<_> = batch.iter().map(Record::json).collect();
        let (kind, body) = match as_lines {
            true => ("application/x-ndjson", records.join("\n")),
            false => ("application/json", format!("[{}]", records.join(","))),
        };
        let path = format!("/v1/{project}/app-server-sub-jobs/actions/report");
        let answer = self.ask("POST", &path, &format!("Content-Type: {kind}\r\n"), &body)?;
        let value = json(&answer)?;
        let field = |name: &str| value[name].as_u64().ok_or_else(|| unreadable(&answer));
        Ok(Outcome {
            created: field("created")?,
            updated: field("updated")?,
            unchanged: field("unchanged")?,
            stale: field("stale")?,
            open: 0,
        })
    }

    /// Asks for what is not of a project.
    pub(crate) fn get(&mut self, path: &str) -> Result<String, Failure> {
        self.ask("GET", path, "", "")
    }

    fn ask(&mut self, method: &str, path: &str, more: &str, body: &str) -> Result<String, Failure> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(self.address)?,
        };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: subjobs.example.com\r\nX-Auth-Token: {ACCOUNT}\r\n\
             Content-Length: {length}\r\n{more}\r\n{body}"
        );
        socket.get_mut().write_all(request.as_bytes())?;
        let (status, goes_on, answer) = read(&mut socket)?;
        // After an error or the last answer there is no other on this connection.
        self.socket = goes_on.then_some(socket);
        if status == 200 { Ok(answer) } else { Err(Failure::Refused(status, answer)) }
    }
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(socket))
}

/// An answer: its status, whether the connection goes on, its body.
fn read(socket: &mut BufReader<TcpStream>) -> io::Result<(u16, bool, String)> {
    let (mut status, mut goes_on, mut length) = (0, true, 0);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().map_err(|_| unreadable(&line))?,
            Some(("connection", value)) => goes_on = value != "close",
            Some(_) => {}
            None if line.is_empty() => break,
            None => status = line.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(|| unreadable(&line))?,
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok((status, goes_on, String::from_utf8_lossy(&body).into_owned()))
}

fn json(text: &str) -> io::Result<Value> {
    serde_json::from_str(text).map_err(|_| unreadable(text))
}

fn unreadable(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
