//! Runs the server inside another program: `cargo run --example embedded`, and Ctrl-C to stop it.
//!
//! It listens on free ports of 127.0.0.1, knows one token, and keeps subtasks in memory.

use std::error::Error;
use std::io::{self, Write as _};

use subjobs::{AccessSource, Config, Server, Token};

const TOKEN: &str = "test-token";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let digest = Token::new(TOKEN.as_bytes()).ok_or("the token is empty")?.digest();
    let access = format!(
        r#"
        [[principal]]
        name = "tests"
        kind = "account"
        projects = ["*"]
        tokens = [{{ sha256 = "{digest}" }}]
        "#
    );
    // The defaults of the command line; every field of a `Config` can be set.
    let config = Config { max_in_flight: 64, ..Config::on_any_port(AccessSource::Text(access)) };
    let server = Server::bind(config).await?;

    let path = "v1/p1/app-server-sub-jobs/actions";
    let (public, internal) = (server.public_addr(), server.internal_addr());
    writeln!(
        io::stdout(),
        "curl -H 'X-Auth-Token: {TOKEN}' -H 'Content-Type: application/json' http://{internal}/{path}/report \\\n  \
         -d '[{{\"id\":\"s1\",\"job_id\":\"j1\",\"job_type\":\"CREATE_SERVER\",\"status\":\"RUNNING\"}}]'\n\
         curl -H 'X-Auth-Token: {TOKEN}' 'http://{public}/{path}/count?status=RUNNING'"
    )?;

    // Ends when Ctrl-C is pressed, after running requests have been answered.
    let aborted_requests = server.run(async { _ = tokio::signal::ctrl_c().await }).await?;
    writeln!(io::stdout(), "stopped, {aborted_requests} requests aborted")?;
    Ok(())
}
