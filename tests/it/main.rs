//! The whole server through real sockets: one file a concern.

mod openapi;
mod support;
mod wire;

mod clocks;
mod count;
mod credentials;
mod errors;
mod framing;
mod inputs;
mod limits;
mod metrics;
mod order;
mod readiness;
mod report;
