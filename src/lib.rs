//! Counts the subtasks of a project's asynchronous jobs: the published operation CountSubJobs, self-hosted.
//!
//! Data flows one way; a request passes each module once.
//!
//! ```text
//! bytes -> server -> web::instrument -> router -> web::authorize (authenticate, authorize) -> query -> handler
//!       -> store.count(project, filter) -> {"count":N}
//! ```
//!
//! A module may use those above it in this list and none below; a test holds that.
//!
//! - [`domain`]: projects, jobs, subtasks, and the filter of a count
//! - [`output`]: standard output and standard error
//! - [`priority`]: which threads go first
//! - [`store`]: where subtasks are kept and counted
//! - [`metrics`]: what the server measures of itself
//! - [`access`]: who calls, and what they may do
//! - [`record`]: a subtask as JSON
//! - [`readiness`]: loading, ready, draining
//! - [`progress`]: how far something long has come
//! - [`load`]: files of subtasks; [`demo`]: sample subtasks
//! - [`upkeep`]: recounting, and dropping what ended long ago
//! - [`config`]: what the operator says
//! - [`web`]: what both listeners share
//! - [`api`]: the public operations
//! - [`internal`]: health, metrics and workers' reports
//! - [`server`]: listeners, connections, start and end
//! - [`cli`]: what the program does beside serving; [`telemetry`]: its log

pub mod access;
pub mod api;
pub mod cli;
pub mod config;
pub mod demo;
pub mod domain;
pub mod internal;
pub mod load;
pub mod metrics;
pub mod output;
pub mod priority;
pub mod progress;
pub mod readiness;
pub mod record;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upkeep;
pub mod web;

/// Compiles and runs the example for callers.
#[cfg(doctest)]
#[doc = include_str!("../docs/clients.md")]
struct CallersExample;

/// Compiles and runs the example for testers.
#[cfg(doctest)]
#[doc = include_str!("../docs/testing.md")]
struct TestingExample;
