//! What several programs that measure or try the server share.

#![allow(dead_code, reason = "each program uses its part")]

pub(crate) mod figures;
pub(crate) mod process;
pub(crate) mod sample;
#[path = "../../tests/it/support/wait.rs"]
pub(crate) mod wait;
