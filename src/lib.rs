//! subjobs
pub mod domain;
pub mod store;
