//! What the server is measured beside: the same path on axum as its own examples have it, with a constant for an answer.

use std::net::Ipv4Addr;
use std::process::Command;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

/// Starts this program again as that server.
pub(crate) fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("plain");
    command
}

/// Serves until the process is ended; says so in the form of the server's own log.
#[tokio::main]
pub(crate) async fn serve() {
    let app = Router::new().route("/v1/{project_id}/app-server-sub-jobs/actions/count", get(async || r#"{"count":0}"#));
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    eprintln!(r#"{{"message":"listening","listener":"public","address":"{address}"}}"#);
    eprintln!(r#"{{"message":"ready"}}"#);
    axum::serve(socket, app).await.unwrap();
}
