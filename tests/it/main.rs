//! The whole server through real sockets: one file a concern.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod openapi;
mod support;
mod wire;

mod clocks;
mod count;
mod credentials;
mod errors;
mod framing;
mod inputs;
mod intake;
mod limits;
mod metrics;
mod order;
mod projects;
mod readiness;
mod records;
mod report;
