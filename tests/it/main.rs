//! The whole server through real sockets: one file a concern.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

mod openapi;
mod signer;
mod support;

mod count;
mod projects;
mod sdk;
mod signed;
