//! One listener: takes connections, at most so many at once, and ends them when drained.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::connection;
use super::drain::Drain;
use super::peer_limit::{PeerConnection, PeerLimit};
use super::reserve::Reserve;
use super::state::{ConnectionState, Timeouts};
use crate::metrics::Listener;
use crate::web::instrument::App;

/// How long to wait when the system has no connection to give, as when it is out of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How often at most it is logged that peers have connections refused.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A bound socket and what its connections are served with.
pub(super) struct BoundListener {
    pub(super) kind: Listener,
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) app: App,
    /// What connections beyond `max_connections` are served with; without it they wait unaccepted.
    pub(super) reserve_app: Option<App>,
    pub(super) timeouts: Timeouts,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_address: Option<u32>,
    pub(super) open: IntGauge,
}

impl BoundListener {
    /// Takes connections until the drain begins, then waits for theirs to end, as they do at its deadline. Returns how many
    /// of them had a request cut.
    pub(super) async fn serve(self, drain: Arc<Drain>) -> usize {
        let Self { kind, socket, app, reserve_app, timeouts, .. } = self;
        let permits = Arc::new(Semaphore::new(self.max_connections));
        let peer_limit = PeerLimit::new(self.max_connections_per_address);
        let mut refusals = RefusalLog { kind, count: 0, logged_at: None };
        let mut reserve = reserve_app.map(|app| (app, Reserve::new()));
        let mut connections = JoinSet::new();
        let mut aborted = 0;
        // Until the drain none is cut, but once it has begun, one may have ended before this loop has noticed.
        let mut count = |ended: Result<bool, JoinError>| aborted += usize::from(ended.unwrap_or(false));
        loop {
            let (connection, address, permit) = tokio::select! {
                () = drain.wait_until_begun() => break,
                Some(ended) = connections.join_next() => {
                    count(ended);
                    continue;
                }
                accepted = accept(&socket, &permits, reserve.is_some()) => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(listener = kind.as_str(), %error, "cannot take a connection");
                        sleep(ACCEPT_BACKOFF).await;
                        continue;
                    }
                },
            };
            let Some(peer) = peer_limit.try_connect(address.ip()) else {
                drop(connection);
                refusals.record(address);
                continue;
            };
            // Small answers should leave at once; a socket that cannot promise that still works.
            let _ = connection.set_nodelay(true);
            let serve = |permit, app: &App, timeouts| {
                let (open_connection, state) =
                    (OpenConnection::new(permit, peer, &self.open), ConnectionState::new(timeouts, drain.clone()));
                let served = connection::serve(connection, app.clone(), state.clone(), drain.clone());
                let task = connections.spawn(async move {
                    let is_aborted = served.await;
                    drop(open_connection);
                    is_aborted
                });
                (task, state)
            };
            match (permit, &mut reserve) {
                (Some(permit), _) => drop(serve(permit, &app, timeouts)),
                (None, Some((app, reserve))) => {
                    // The semaphore is never closed.
                    let Ok(permit) = reserve.acquire().await else { continue };
                    let (task, state) = serve(permit, app, Timeouts { is_single_request: true, ..timeouts });
                    reserve.push(task, state);
                }
                (None, None) => {}
            }
        }
        drop(socket);
        while let Some(ended) = connections.join_next().await {
            count(ended);
        }
        aborted
    }
}

/// A connection's place among those that may be open.
struct OpenConnection {
    _permit: OwnedSemaphorePermit,
    _peer: PeerConnection,
    open: IntGauge,
}

impl OpenConnection {
    fn new(permit: OwnedSemaphorePermit, peer: PeerConnection, open: &IntGauge) -> Self {
        open.inc();
        Self { _permit: permit, _peer: peer, open: open.clone() }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The next connection and its place. When there is none, the connection waits in the system's queue, unless `has_reserve`.
async fn accept(
    socket: &TcpListener,
    permits: &Arc<Semaphore>,
    has_reserve: bool,
) -> io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    let permit =
        if has_reserve { None } else { Some(permits.clone().acquire_owned().await.map_err(io::Error::other)?) };
    loop {
        match socket.accept().await {
            Ok((connection, peer)) => {
                return Ok((connection, peer, permit.or_else(|| permits.clone().try_acquire_owned().ok())));
            }
            // The peer has gone before its turn: no fault of the listener's.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Connections closed because their peers had as many as they may, and when that was last logged.
struct RefusalLog {
    kind: Listener,
    count: u64,
    logged_at: Option<Instant>,
}

impl RefusalLog {
    fn record(&mut self, peer: SocketAddr) {
        self.count += 1;
        if self.logged_at.is_some_and(|at| at.elapsed() < REFUSAL_LOG_INTERVAL) {
            return;
        }
        tracing::warn!(
            listener = self.kind.as_str(),
            count = self.count,
            latest_peer = %peer.ip(),
            "closed connections of peers that have --max-connections-per-address open"
        );
        (self.count, self.logged_at) = (0, Some(Instant::now()));
    }
}
