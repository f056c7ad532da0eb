//! The socket of a listener: TCP, or a Unix socket with its file.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{RecvFlags, recv, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio::time::timeout;

use crate::config::ListenAddress;

/// How many connections may wait in the system's accept queue, if the system allows that many. Clients of further ones try
/// again after a second.
const LISTEN_BACKLOG: u32 = 4096;

/// How long to wait for a server that may listen on a Unix socket already.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A socket that listens.
#[derive(Debug)]
pub(super) enum ListenSocket {
    Tcp(TcpListener),
    /// A socket that was passed has no file that this process removes.
    Unix {
        listener: UnixListener,
        _file: Option<SocketFile>,
    },
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl ListenSocket {
    /// Listens. Returns the address with the port that the system has chosen, if it has.
    pub(super) async fn bind(address: &ListenAddress) -> io::Result<(Self, ListenAddress)> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = bind_tcp(*address)?;
                let bound = listener.local_addr()?;
                Ok((Self::Tcp(listener), bound.into()))
            }
            ListenAddress::Unix { path, mode } => {
                let (listener, file) = bind_unix(path, *mode).await?;
                Ok((Self::Unix { listener, _file: Some(file) }, address.clone()))
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (connection, peer) = listener.accept().await?;
                Accepted::Tcp(connection, peer)
            }
            Self::Unix { listener, .. } => Accepted::Unix(listener.accept().await?.0),
        })
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        // `[::]` accepts IPv4 too, whatever the system's default is.
        sockopt::set_ipv6_v6only(&socket, false)?;
        socket
    };
    // After a restart, connections of the earlier process may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

async fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = UnixSocket::new_stream()?;
    match socket.bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path).await => {
            // A server that was killed has left it.
            fs::remove_file(path)?;
            socket.bind(path)?;
        }
        bound => bound?,
    }
    let file = SocketFile::new(path)?;
    // Before it listens, so that nobody connects with wider permissions.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((socket.listen(LISTEN_BACKLOG)?, file))
}

/// Whether a path is a socket on which no process listens.
async fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && timeout(PROBE_TIMEOUT, UnixStream::connect(path)).await.is_ok_and(|tried| tried.is_err_and(refused))
}

/// The file of a Unix socket. Dropping it removes the file, unless another has replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // The next start removes a file that is left.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The socket of a connection.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Waits for the first byte, which stays unread. `None` is the end.
    fn peek_byte(&self) -> impl Future<Output = io::Result<Option<u8>>> + Send;
}

impl Transport for TcpStream {
    async fn peek_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let read = self.peek(&mut byte).await?;
        Ok((read == 1).then_some(byte[0]))
    }
}

impl Transport for UnixStream {
    async fn peek_byte(&self) -> io::Result<Option<u8>> {
        let peek = || {
            let mut byte = [0];
            let (read, _) = recv(self, &mut byte[..], RecvFlags::PEEK)?;
            Ok((read == 1).then_some(byte[0]))
        };
        self.async_io(Interest::READABLE, peek).await
    }
}
