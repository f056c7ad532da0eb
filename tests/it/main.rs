//! The whole server through real sockets: one file a concern.

#![expect(clippy::unwrap_used, reason = "a helper that panics fails the test that called it")]

mod openapi;
mod program_support;
mod support;

mod commands;
mod count;
mod demo;
mod gateway;
mod layers;
mod load;
mod program;
