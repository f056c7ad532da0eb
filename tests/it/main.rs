//! The whole server through real sockets: one file a concern.

mod openapi;
mod support;

mod count;
mod keystone;
