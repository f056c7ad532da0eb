//! Subtasks in memory: records, in the order of their first report, for pages and plans; counters for counts.
//!
//! Each module uses only those before it in this list:
//!
//! - [`segments`], [`index`]: a list and a hash index that grow in steps of bounded length
//! - [`counters`], [`deltas`]: the counters of a project or a job, and what a report changes of them
//! - [`block`], [`block_counts`], [`project`], [`members`], [`records`]: the records of a project and of a job
//! - [`counter_table`]: the counters of all projects and jobs
//! - [`verifier`]: compares the counters with the records
//! - [`locks`]: the store, which is these three behind a lock each
//! - [`view`], [`read`], [`apply`], [`verify`]: what is done with the store
//!
//! Only one thread at a time applies changes. It holds the records for one report; it holds the counters only in steps of
//! [`locks::STEP`] changes, one of which makes the whole report visible. So a count waits for one step at most, a page for one report,
//! and neither for a disk.

mod apply;
mod block;
mod block_counts;
mod counter_table;
mod counters;
mod deltas;
mod image_jobs;
mod index;
mod jobs;
mod locks;
mod members;
mod project;
mod read;
mod records;
mod segments;
mod verifier;
mod verify;
mod view;

pub(super) use self::jobs::{ImageJobPage, ImageJobRow, JobRows};
pub(super) use self::locks::MemoryStore;
pub(super) use self::read::{Row, RowPage, Slice};
pub(super) use self::view::{DetailsReader, View};

#[cfg(test)]
mod tests;
