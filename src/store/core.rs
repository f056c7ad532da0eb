//! What a change does to the subtasks, whatever keeps them: the rules stand in [`plan`], and nowhere else.
//!
//! A plan reads what is stored and yields effects, which are what subtasks become rather than what was asked; so it makes no
//! difference whether an effect is applied once or, after a crash, again.

mod effect;
mod plan;

pub(super) use effect::{Changes, Effect, Put};
pub use plan::NotDeletable;
pub(super) use plan::{Draft, Known, KnownDetails, Rules, Stored};
