//! What the server is measured beside: the same path on axum as its own examples have it, with a constant for an answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

/// Starts this program again as that server.
pub(crate) fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("plain");
    command
}

/// Serves until the process is ended. With `has_nodelay`, no small answer waits for the acknowledgement of the one before.
#[tokio::main]
pub(crate) async fn serve(has_nodelay: bool) {
    let app = Router::new().route("/v1/{project_id}/app-server-sub-jobs/actions/count", get(async || r#"{"count":0}"#));
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    announce(socket.local_addr().unwrap());
    if has_nodelay {
        axum::serve(socket.tap_io(|stream| stream.set_nodelay(true).unwrap()), app).await.unwrap();
    } else {
        axum::serve(socket, app).await.unwrap();
    }
}

/// Says that a server is ready, in the form of the server's own log.
pub(crate) fn announce(address: SocketAddr) {
    eprintln!(r#"{{"message":"listening","listener":"public","address":"{address}"}}"#);
    eprintln!(r#"{{"message":"ready"}}"#);
}
