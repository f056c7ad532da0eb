//! The whole server through real sockets: one file a concern.

mod openapi;
mod program_support;
mod support;

mod commands;
mod count;
mod demo;
mod layers;
mod load;
mod program;
