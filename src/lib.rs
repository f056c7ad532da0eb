//! subjobs
pub mod domain;
