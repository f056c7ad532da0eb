//! Counts the subtasks of a project's asynchronous jobs: the published operation CountSubJobs, self-hosted.
//!
//! The package is a program, `subjobs`. As a library it runs the same server inside a process, which is what tests want:
//! [`Server::bind`] takes a [`Config`] and gives real addresses, [`Server::run`] serves until it is told to stop.
//! `examples/embedded.rs` is a whole program.
//!
//! ```
//! use subjobs::{AccessSource, Config, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let access = "[[principal]]\nname = \"tests\"\nkind = \"account\"\nprojects = [\"*\"]\n\
//!               tokens = [{ sha256 = \"4c5dc9b7708905f77f5e5d16316b5dfb425e68cb326dcd55a860e90a7707031e\" }]";
//! let server = Server::bind(Config::on_any_port(AccessSource::Text(access.into()))).await?;
//! println!("count at {}, report at {}", server.public_addr(), server.internal_addr());
//! let aborted_requests = server.run(async { /* until this ends */ }).await?;
//! assert_eq!(aborted_requests, 0);
//! # Ok(())
//! # }
//! ```
//!
//! What this page lists is the library's interface. The modules are public for the program, the tests and the benches of
//! this package only.

// How data flows: one way, and a request passes each module once.
//
// bytes -> server -> web::instrument -> router -> web::authorize (authenticate, authorize) -> query -> handler
//       -> store.count(project, filter) -> {"count":N}
//
// A module may use those above it in this list and none below; a test holds that.
//
// - `domain`: projects, jobs, subtasks, and the filter of a count
// - `output`: standard output and standard error; `input`: the end of standard input
// - `bounded_read`: files that the operator names, read with limits
// - `priority`: the scheduling priority of threads
// - `shards`: copies for each core of what each request changes
// - `store`: stores and counts subtasks
// - `metrics`: the Prometheus metrics
// - `reload`: reloads files on a signal
// - `tls`: certificates of the listeners
// - `http_client`: what the HTTP clients of other services share
// - `access`: authentication and authorization
// - `record`: a subtask as JSON
// - `readiness`: loading, ready, draining
// - `progress`: the progress of a long task
// - `load`: files of subtasks; `demo`: sample subtasks; `ephemeral`: a server for one run of tests
// - `maintenance`: verification of the counters, and retention
// - `config`: the command line and the environment
// - `web`: request handling that both listeners share
// - `overview`: the state of the server at one moment, and its history
// - `api`: the public operations
// - `page`: the page for operators, and its numbers
// - `internal`: health, metrics and workers' reports
// - `server`: listeners, connections, start and shutdown
// - `service_manager`: messages to systemd
// - `cli`: the commands that do not serve; `telemetry`: the log
// Clippy sees them as documented, so that its lints hold for them too.
#[cfg_attr(not(clippy), doc(hidden))]
pub mod access;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod api;
mod bounded_read;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod cli;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod config;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod demo;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod domain;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod ephemeral;
mod http_client;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod input;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod internal;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod load;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod maintenance;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod metrics;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod output;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod overview;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod page;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod priority;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod progress;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod readiness;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod record;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod reload;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod server;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod service_manager;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod shards;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod store;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod telemetry;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod tls;
#[cfg_attr(not(clippy), doc(hidden))]
pub mod web;

pub use self::access::{AccessError, AccessHandle, AccessSource, PublicHost, Token, TokenDigest};
pub use self::config::{Config, TraceSettings};
pub use self::demo::Demo;
pub use self::domain::{JobTypeError, JobTypes};
pub use self::ephemeral::Ephemeral;
pub use self::load::LoadError;
pub use self::server::{Server, ServerError};
pub use self::store::{OpenError, StoreUrl, Target, TargetError};
pub use self::tls::{TlsError, TlsFiles};

/// Compiles and runs the example for callers.
#[cfg(doctest)]
#[doc = include_str!("../docs/clients.md")]
struct CallersExample;

/// Compiles and runs the example for testers.
#[cfg(doctest)]
#[doc = include_str!("../docs/testing.md")]
struct TestingExample;
