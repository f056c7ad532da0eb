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

use super::clock::{Clock, Limits};
use super::connection;
use super::drain::Drain;
use super::peers::{PeerConnection, Peers};
use super::reserve::Reserve;
use crate::metrics::Listener;
use crate::web::instrument::App;

/// How long to wait when the system has no connection to give, as when it is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How often at most it is logged that peers have connections refused.
const BETWEEN_REFUSAL_LOGS: Duration = Duration::from_secs(60);

/// A bound socket and what its connections are served with.
pub(super) struct Bound {
    pub(super) which: Listener,
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) app: App,
    /// What connections beyond `max_connections` are served with; without it they wait unaccepted.
    pub(super) reserve_app: Option<App>,
    pub(super) limits: Limits,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_address: Option<u32>,
    pub(super) open: IntGauge,
}

impl Bound {
    /// Takes connections until the drain begins, then waits for theirs to end, as they do at its deadline. Returns how many
    /// of them had a request cut.
    pub(super) async fn serve(self, drain: Arc<Drain>) -> usize {
        let Self { which, socket, app, reserve_app, limits, .. } = self;
        let places = Arc::new(Semaphore::new(self.max_connections));
        let peers = Peers::new(self.max_connections_per_address);
        let mut refused = Refused { which, count: 0, logged: None };
        let mut reserve = reserve_app.map(|app| (app, Reserve::new()));
        let mut connections = JoinSet::new();
        let mut cut = 0;
        // Until the drain none is cut, but once it has begun, one may have ended before this loop has noticed.
        let mut count = |ended: Result<bool, JoinError>| cut += usize::from(ended.unwrap_or(false));
        loop {
            let (connection, address, permit) = tokio::select! {
                () = drain.begun() => break,
                Some(ended) = connections.join_next() => {
                    count(ended);
                    continue;
                }
                accepted = accept(&socket, &places, reserve.is_some()) => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(listener = which.as_str(), %error, "cannot take a connection");
                        sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let Some(peer) = peers.try_connect(address.ip()) else {
                drop(connection);
                refused.note(address);
                continue;
            };
            // Small answers should leave at once; a socket that cannot promise that still works.
            let _ = connection.set_nodelay(true);
            let serve = |permit, app: &App, limits| {
                let (place, clock) = (Place::new(permit, peer, &self.open), Clock::new(limits, drain.clone()));
                let served = connection::serve(connection, app.clone(), clock.clone(), drain.clone());
                let task = connections.spawn(async move {
                    let is_cut = served.await;
                    drop(place);
                    is_cut
                });
                (task, clock)
            };
            match (permit, &mut reserve) {
                (Some(permit), _) => drop(serve(permit, &app, limits)),
                (None, Some((app, reserve))) => {
                    // The semaphore is never closed.
                    let Ok(permit) = reserve.acquire().await else { continue };
                    let (task, clock) = serve(permit, app, Limits { is_for_one_request: true, ..limits });
                    reserve.push(task, clock);
                }
                (None, None) => {}
            }
        }
        drop(socket);
        while let Some(ended) = connections.join_next().await {
            count(ended);
        }
        cut
    }
}

/// A connection's place among those that may be open.
struct Place {
    _permit: OwnedSemaphorePermit,
    _peer: PeerConnection,
    open: IntGauge,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, peer: PeerConnection, open: &IntGauge) -> Self {
        open.inc();
        Self { _permit: permit, _peer: peer, open: open.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The next connection and its place. When there is none, the connection waits in the system's queue, unless `at_once`.
async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
    at_once: bool,
) -> io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    let place = if at_once { None } else { Some(places.clone().acquire_owned().await.map_err(io::Error::other)?) };
    loop {
        match socket.accept().await {
            Ok((connection, peer)) => {
                return Ok((connection, peer, place.or_else(|| places.clone().try_acquire_owned().ok())));
            }
            // The peer has gone before its turn: no fault of the listener's.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Connections closed because their peers had as many as they may, and when that was last logged.
struct Refused {
    which: Listener,
    count: u64,
    logged: Option<Instant>,
}

impl Refused {
    fn note(&mut self, peer: SocketAddr) {
        self.count += 1;
        if self.logged.is_some_and(|at| at.elapsed() < BETWEEN_REFUSAL_LOGS) {
            return;
        }
        tracing::warn!(
            listener = self.which.as_str(),
            count = self.count,
            latest_peer = %peer.ip(),
            "closed connections of peers that have --max-connections-per-address open"
        );
        (self.count, self.logged) = (0, Some(Instant::now()));
    }
}
