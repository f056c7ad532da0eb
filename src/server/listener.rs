//! One listener: accepts connections up to a limit, and ends them when it is drained.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::connection;
use super::drain::Drain;
use super::listen_socket::{Accepted, ListenSocket, Transport};
use super::peer_limit::{PeerConnection, PeerLimit};
use super::reserve::Reserve;
use super::state::{ConnectionState, Timeouts};
use super::tls;
use crate::config::ListenAddress;
use crate::metrics::Listener;
use crate::tls::TlsHandle;
use crate::web::instrument::App;

/// How long to wait after `accept` has failed, for example for lack of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The shortest time between two log lines about refused connections.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A bound socket and what serves its connections.
pub(super) struct BoundListener {
    pub(super) kind: Listener,
    pub(super) socket: ListenSocket,
    pub(super) address: ListenAddress,
    /// Its certificate. Without it there is no TLS.
    pub(super) tls: Option<Arc<TlsHandle>>,
    pub(super) app: App,
    /// What serves connections beyond `max_connections`. Without it they are not accepted.
    pub(super) reserve_app: Option<App>,
    pub(super) timeouts: Timeouts,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_address: Option<u32>,
    pub(super) open: IntGauge,
}

impl BoundListener {
    /// Accepts connections until the drain begins, then waits until all have ended, at the drain's deadline at the latest.
    /// Returns how many of them had a request aborted.
    pub(super) async fn serve(self, drain: Arc<Drain>) -> usize {
        let Self { kind, socket, tls, app, reserve_app, timeouts, .. } = self;
        let permits = Arc::new(Semaphore::new(self.max_connections));
        let peer_limit = PeerLimit::new(self.max_connections_per_address);
        let mut refusals = RefusalLog { kind, count: 0, logged_at: None };
        let mut reserve = reserve_app.map(|app| (app, Reserve::new()));
        let mut connections = JoinSet::new();
        let mut aborted = 0;
        // A connection may be aborted after the drain has begun and before this loop notices the drain.
        let mut count = |ended: Result<usize, JoinError>| aborted += ended.unwrap_or(0);
        loop {
            let (connection, permit) = tokio::select! {
                () = drain.wait_until_begun() => break,
                Some(ended) = connections.join_next() => {
                    count(ended);
                    continue;
                }
                accepted = accept(&socket, &permits, reserve.is_some()) => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(listener = kind.as_str(), %error, "cannot accept a connection");
                        sleep(ACCEPT_BACKOFF).await;
                        continue;
                    }
                },
            };
            let peer = match &connection {
                Accepted::Tcp(connection, address) => {
                    let Some(peer) = peer_limit.try_connect(address.ip()) else {
                        refusals.record(*address);
                        continue;
                    };
                    // Small responses are sent at once. Without the option the socket still works.
                    let _ = connection.set_nodelay(true);
                    peer
                }
                Accepted::Unix(_) => PeerConnection::unlimited(),
            };
            let serve = |permit, app: &App, timeouts| {
                let state = ConnectionState::new(timeouts, drain.clone());
                let open_connection = OpenConnection::new(permit, peer, &self.open);
                let served =
                    Served { tls: &tls, app: app.for_connection(), state: state.clone(), drain: drain.clone() };
                let task = match connection {
                    Accepted::Tcp(socket, _) => served.spawn(socket, open_connection, &mut connections),
                    Accepted::Unix(socket) => served.spawn(socket, open_connection, &mut connections),
                };
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

/// What a connection is served with.
struct Served<'a> {
    tls: &'a Option<Arc<TlsHandle>>,
    app: App,
    state: Arc<ConnectionState>,
    drain: Arc<Drain>,
}

impl Served<'_> {
    /// Serves a connection in a task.
    fn spawn<S: Transport>(self, socket: S, open: OpenConnection, connections: &mut JoinSet<usize>) -> AbortHandle {
        let Self { tls, app, state, drain } = self;
        // Two futures, so that a connection without TLS needs no memory for it.
        match tls {
            None => connections.spawn(open.hold(connection::serve(socket, app, state, drain))),
            Some(tls) => connections.spawn(open.hold(tls::serve(socket, tls.clone(), app, state, drain))),
        }
    }
}

/// An open connection: its permits, and its part of the gauge.
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

    /// Serves the connection, and holds the permits until it has ended.
    async fn hold(self, served: impl Future<Output = usize>) -> usize {
        let aborted = served.await;
        drop(self);
        aborted
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The next connection and its permit. Without `has_reserve` the permit is acquired first, so that a connection beyond the
/// limit waits in the system's queue. With it the connection is accepted in any case, and may have no permit.
async fn accept(
    socket: &ListenSocket,
    permits: &Arc<Semaphore>,
    has_reserve: bool,
) -> io::Result<(Accepted, Option<OwnedSemaphorePermit>)> {
    let permit =
        if has_reserve { None } else { Some(permits.clone().acquire_owned().await.map_err(io::Error::other)?) };
    loop {
        match socket.accept().await {
            Ok(connection) => return Ok((connection, permit.or_else(|| permits.clone().try_acquire_owned().ok()))),
            // The peer closed the connection before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How many connections were closed for `--max-connections-per-address` since the last log line about them, and when that was.
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
            "connections closed: their peers have --max-connections-per-address open already"
        );
        (self.count, self.logged_at) = (0, Some(Instant::now()));
    }
}
