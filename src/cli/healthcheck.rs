//! Asks a running server whether it is ready.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use crate::config::{HealthcheckFlags, connect_address};
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
    let server = TcpStream::connect_timeout(&connect_address(address), HEALTHCHECK_TIMEOUT)?;
    server.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    server.set_write_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    match tls {
        None => ask(server, address),
        Some(files) => ask(encrypt(server, address, &files)?, address),
    }
}

fn encrypt(
    server: TcpStream,
    address: SocketAddr,
    files: &TlsFiles,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let config = probe_config(files).map_err(invalid)?;
    let client = ClientConnection::new(Arc::new(config), address.ip().into()).map_err(io::Error::other)?;
    Ok(StreamOwned::new(client, server))
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

fn ask(mut server: impl Read + Write, address: SocketAddr) -> io::Result<()> {
    write!(server, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    server.read_exact(&mut head)?;
    if &head == b"HTTP/1.1 200" {
        Ok(())
    } else {
        Err(io::Error::other(format!("not ready: {}", String::from_utf8_lossy(&head))))
    }
}
