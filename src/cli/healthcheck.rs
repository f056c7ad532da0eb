//! Asks a running server whether it is ready.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::config::{HealthcheckFlags, ListenAddress, connect_address};
use crate::tls::{TlsFiles, probe_config};

/// Time limit of each step of a health check: connect, write, read.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests `/readyz` from the internal listener; a wildcard address means loopback. With a certificate it uses TLS.
///
/// # Errors
///
/// The options are invalid, the server cannot be reached, or is not ready.
pub fn healthcheck(flags: HealthcheckFlags) -> io::Result<()> {
    let address = flags.address();
    let tls = flags.tls.files().map_err(invalid)?;
    match address {
        ListenAddress::Tcp(address) => {
            let server = TcpStream::connect_timeout(&connect_address(address), HEALTHCHECK_TIMEOUT)?;
            server.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
            server.set_write_timeout(Some(HEALTHCHECK_TIMEOUT))?;
            ask_encrypted(server, address.ip().into(), &address.to_string(), tls)
        }
        ListenAddress::Unix { path, .. } => {
            let server = UnixStream::connect(path)?;
            server.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
            server.set_write_timeout(Some(HEALTHCHECK_TIMEOUT))?;
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            ask_encrypted(server, name, "localhost", tls)
        }
    }
}

/// Asks, through TLS if it is configured.
fn ask_encrypted(
    server: impl Read + Write,
    name: ServerName<'static>,
    host: &str,
    tls: Option<TlsFiles>,
) -> io::Result<()> {
    let Some(files) = tls else { return ask(server, host) };
    let config = probe_config(&files).map_err(invalid)?;
    let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    ask(StreamOwned::new(client, server), host)
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

fn ask(mut server: impl Read + Write, host: &str) -> io::Result<()> {
    write!(server, "GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    server.read_exact(&mut head)?;
    if &head == b"HTTP/1.1 200" {
        Ok(())
    } else {
        Err(io::Error::other(format!("not ready: {}", String::from_utf8_lossy(&head))))
    }
}
