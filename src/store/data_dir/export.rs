//! Exports all subtasks of a data directory.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::codec::Codec;
use super::details_codec::decode_details;
use super::directory::DataDir;
use super::error::OpenError;
use super::open;
use crate::domain::{JobTypes, ProjectId, SubJob};
use crate::store::memory::{MemoryStore, Row};

/// How many subtasks are read at once.
const SLICE: u32 = 4096;

/// Calls `each` with every subtask of a data directory, project by project, in the order of their first reports. Calls `progress` with
/// the number of subtasks so far and in all.
///
/// # Errors
///
/// If the directory cannot be recovered; then no subtask has been exported. If details cannot be read, or `each` fails.
///
/// # Errors
///
/// If the directory is corrupt, or what `show` fails with.
pub fn export<E: From<OpenError>>(
    dir: DataDir,
    job_types: &JobTypes,
    mut each: impl FnMut(&ProjectId, SubJob) -> Result<(), E>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), E> {
    let memory = Arc::new(MemoryStore::new(job_types.len()));
    let path = dir.path().to_owned();
    let opened = open::open(dir, &Codec::new(job_types.clone()), &memory, |_, _| (), &AtomicBool::new(false))?;
    let all = memory.sub_jobs().map_err(OpenError::from)?;
    let with_details = |Row { mut sub_job, details, .. }: Row| {
        if details > 0 {
            let encoded = opened.files.read_encoded(details).ok();
            let decoded = encoded.and_then(|encoded| decode_details(&encoded).ok());
            let decoded =
                decoded.ok_or_else(|| OpenError::damaged(&path, "the details of a subtask cannot be read"))?;
            sub_job.details = Some(Box::new(decoded));
        }
        Ok::<_, OpenError>(sub_job)
    };
    let (mut projects, mut done) = (memory.projects().map_err(OpenError::from)?, 0);
    projects.sort_unstable();
    for (project, number) in projects {
        let mut from = u64::from(number) << 32;
        loop {
            let (slice, next, _) = memory.slice(from, SLICE).map_err(OpenError::from)?;
            let slice = slice.filter(|slice| slice.project == project);
            for found in slice.into_iter().flat_map(|slice| slice.items) {
                done += 1;
                each(&project, with_details(found)?)?;
            }
            progress(done, all);
            from = next;
            if from == 0 || (from >> 32) as u32 != number {
                break;
            }
        }
    }
    Ok(())
}
