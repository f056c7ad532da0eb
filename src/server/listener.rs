//! One listener: takes connections, at most so many at once, and ends them when drained.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use super::clock::Limits;
use super::connection;
use super::drain::Drain;
use crate::metrics::Listener;
use crate::web::observe::Observed;

/// How long to wait when the system has no connection to give, as when it is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound socket and what its connections are served with.
pub(super) struct Bound {
    pub(super) which: Listener,
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) app: Observed,
    pub(super) limits: Limits,
    pub(super) max_connections: usize,
    pub(super) open: IntGauge,
}

impl Bound {
    /// Takes connections until the drain begins, then waits for theirs to end, as they do at its deadline. Returns how many
    /// of them had a request cut.
    pub(super) async fn serve(self, drain: Arc<Drain>) -> usize {
        let Self { which, socket, app, limits, max_connections, open, .. } = self;
        let places = Arc::new(Semaphore::new(max_connections));
        let mut connections = JoinSet::new();
        let mut cut = 0;
        // Until the drain none is cut, but once it has begun, one may have ended before this loop has noticed.
        let mut count = |ended: Result<bool, JoinError>| cut += usize::from(ended.unwrap_or(false));
        loop {
            tokio::select! {
                () = drain.begun() => break,
                Some(ended) = connections.join_next() => count(ended),
                accepted = accept(&socket, &places) => match accepted {
                    Ok((socket, place)) => {
                        let place = Place { _permit: place, open: open.clone() };
                        place.open.inc();
                        let (app, drain) = (app.clone(), drain.clone());
                        connections.spawn(async move {
                            let is_cut = connection::serve(socket, app, limits, drain).await;
                            drop(place);
                            is_cut
                        });
                    }
                    Err(error) => {
                        tracing::warn!(listener = which.as_str(), %error, "cannot take a connection");
                        sleep(PAUSE).await;
                    }
                },
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
    open: IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The next connection, once there is a place for it; until then it waits in the system's queue.
async fn accept(socket: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match socket.accept().await {
            Ok((connection, _)) => return Ok((connection, place)),
            // The peer has gone before its turn: no fault of the listener's.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}
