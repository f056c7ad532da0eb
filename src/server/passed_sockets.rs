//! Listening sockets that the parent process passes in place of addresses, as systemd does for socket activation
//! (sd_listen_fds(3)). The parent keeps them, so that connections wait in their queues while no server runs.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use super::ServerError;
use super::listen_socket::ListenSocket;
use crate::config::ListenAddress;
use crate::metrics::Listener;

/// What a socket must be.
const REQUIREMENT: &str = "must be a stream socket that listens, of TCP or of a path";

/// The sockets that were passed for the listeners.
#[derive(Debug, Default)]
pub struct PassedSockets {
    pub(super) public: Option<PassedSocket>,
    pub(super) internal: Option<PassedSocket>,
}

impl PassedSockets {
    /// Takes the sockets that the environment of this process describes, and removes the variables `LISTEN_PID` and `LISTEN_FDS`.
    /// It must be called once, before other threads and before other descriptors are opened.
    ///
    /// # Errors
    ///
    /// If the variables are malformed, there is a socket with another name than `public` and `internal`, or two with one name, or
    /// a socket does not listen.
    pub fn take() -> Result<Self, ServerError> {
        Self::take_named().map_err(ServerError::PassedSockets)
    }

    fn take_named() -> Result<Self, String> {
        // Checks that there are as many descriptors as the variables say.
        let number = sd_notify::listen_fds().map_err(|error| match error.raw_os_error() {
            Some(_) => format!("a descriptor is missing: {error}"),
            None => error.to_string(),
        })?;
        // The names may be those of another process.
        if number.len() == 0 {
            return Ok(Self::default());
        }
        let names = sd_notify::listen_fds_with_names().map_err(|error| error.to_string())?;
        let mut sockets = Self::default();
        // sd-notify returns numbers, which only unsafe code could own.
        let mut descriptors = ListenFd::from_env();
        for (index, (_, name)) in names.enumerate() {
            let socket = match name.as_str() {
                "public" => &mut sockets.public,
                "internal" => &mut sockets.internal,
                _ => return Err(format!("a socket is named {name:?}: FileDescriptorName= must be public or internal")),
            };
            if socket.is_some() {
                return Err(format!("two sockets are named {name}: a listener has one"));
            }
            let taken = PassedSocket::take(&mut descriptors, index);
            *socket = Some(taken.map_err(|reason| format!("the socket {name}: {reason}"))?);
        }
        Ok(sockets)
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum PassedSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl PassedSocket {
    fn take(descriptors: &mut ListenFd, index: usize) -> Result<Self, String> {
        // An error of the first means that it is of another kind.
        let socket = match descriptors.take_tcp_listener(index) {
            Ok(Some(socket)) => Self::Tcp(socket),
            _ => match descriptors.take_unix_listener(index) {
                Ok(Some(socket)) => Self::Unix(socket),
                _ => return Err(REQUIREMENT.to_owned()),
            },
        };
        match socket_acceptconn(&socket) {
            Ok(true) => Ok(socket),
            _ => Err(REQUIREMENT.to_owned()),
        }
    }

    /// The socket for the runtime, and its address.
    pub(super) fn listen(self, kind: Listener) -> Result<(ListenSocket, ListenAddress), ServerError> {
        let listening = match self {
            Self::Tcp(socket) => listen_tcp(socket),
            Self::Unix(socket) => listen_unix(socket),
        };
        let listening =
            listening.map_err(|error| ServerError::PassedSockets(format!("the socket {}: {error}", kind.as_str())))?;
        tracing::info!(listener = kind.as_str(), "using the socket that the parent process has passed");
        Ok(listening)
    }
}

impl AsFd for PassedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

fn listen_tcp(socket: TcpListener) -> io::Result<(ListenSocket, ListenAddress)> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?.into();
    Ok((ListenSocket::Tcp(tokio::net::TcpListener::from_std(socket)?), address))
}

fn listen_unix(socket: UnixListener) -> io::Result<(ListenSocket, ListenAddress)> {
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?;
    // Clients, such as a health check, connect by its path.
    let path = bound.as_pathname().ok_or_else(|| io::Error::other(REQUIREMENT))?;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let address = ListenAddress::Unix { path: path.to_owned(), mode };
    Ok((ListenSocket::Unix { listener: tokio::net::UnixListener::from_std(socket)?, _file: None }, address))
}
