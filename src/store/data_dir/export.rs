//! Shows all that a data directory has.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::codec::{Codec, decode_details};
use super::directory::DataDir;
use super::{OpenError, open};
use crate::domain::{JobTypes, ProjectId, SubJob};
use crate::store::memory::{Found, MemoryStore};

/// How many subtasks are shown at once.
const SLICE: u32 = 4096;

/// Shows every subtask in a data directory, of one project after the other, in the order of their first reports. `progress` is told
/// how many have been shown of how many. Fails before if what is there is not what was stored.
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
    let with_details = |Found { mut sub_job, details, .. }: Found| {
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
