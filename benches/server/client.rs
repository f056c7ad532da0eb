//! A client that does as little as possible: bytes out, and as many bytes in as the first answer had.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::process::USER;
use crate::support::sample::{project_id, skewed};

/// What is asked of both servers, byte for byte: a count with all three filters.
pub(crate) fn count_request() -> Vec<u8> {
    let project = project_id(0);
    let job = skewed().find(|subtask| subtask.project == 0).unwrap();
    let (job_id, job_type) = (job.job_id, job.job_type);
    let query = format!("status=SUCCESS&job_type={job_type}&job_id={job_id}");
    format!(
        "GET /v1/{project}/app-server-sub-jobs/actions/count?{query} HTTP/1.1\r\n\
         Host: subjobs.example.com\r\nUser-Agent: bench/1\r\nAccept: */*\r\nX-Auth-Token: {USER}\r\n\r\n"
    )
    .into_bytes()
}

/// A connection that is kept alive, and how long an answer to the one request is.
pub(crate) struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects and asks once.
    pub(crate) async fn open(address: SocketAddr, request: &[u8]) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(request).await.unwrap();
        let mut answer = vec![0; 4096];
        let length = socket.read(&mut answer).await.unwrap();
        answer.truncate(length);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with('}'), "{text}");
        Self { socket, request: request.to_vec(), answer }
    }

    /// The first answer.
    pub(crate) fn first_answer(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask(&mut self) {
        self.socket.write_all(&self.request).await.unwrap();
        self.socket.read_exact(&mut self.answer).await.unwrap();
        assert!(self.answer.starts_with(b"HTTP/1.1 200 ") && self.answer.ends_with(b"}"), "{}", self.first_answer());
    }
}

/// Connections that stay open from round to round.
pub(crate) async fn open(address: SocketAddr, connections: usize) -> Vec<Connection> {
    let request = count_request();
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(address, &request).await);
    }
    open
}

/// Asks `requests` times, each connection its share one after the other; returns how long that took.
pub(crate) async fn round(connections: Vec<Connection>, requests: usize) -> (Duration, Vec<Connection>) {
    let share = requests / connections.len();
    let start = Instant::now();
    let mut tasks: JoinSet<Connection> = connections
        .into_iter()
        .map(|mut connection| async move {
            for _ in 0..share {
                connection.ask().await;
            }
            connection
        })
        .collect();
    let mut connections = Vec::new();
    while let Some(connection) = tasks.join_next().await {
        connections.push(connection.unwrap());
    }
    (start.elapsed(), connections)
}
