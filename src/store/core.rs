//! The rules of a report, a deletion and retention: all of them are in [`plan`], for every kind of store.
//!
//! A plan reads what is stored and returns effects. An effect is the new state of a subtask rather than a command, so replaying it is
//! idempotent.

mod effect;
mod plan;

pub(super) use effect::{Changes, Effect, Put};
pub use plan::NotDeletable;
pub(super) use plan::{Draft, Known, KnownDetails, Rules, Stored};
