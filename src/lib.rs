//! subjobs
pub mod access;
pub mod domain;
pub mod store;
