//! A verification under way, a slice at a time.

use super::deltas::{JobNumber, ProjectNumber};
use super::locks::MemoryStore;
use super::verifier::Phase;
use crate::store::types::StoreError;

impl MemoryStore {
    /// Verifies at most `most` further records or counters. When all have been verified, returns by how many subtasks the counters
    /// are off; 0 is right.
    pub(in crate::store) fn verify(&self, most: u32) -> Result<Option<u64>, StoreError> {
        let mut verifier = self.lock_verifier()?;
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let from = verifier.position();
        match verifier.phase() {
            Phase::Records => {
                let next = records.walk(verifier.cursor(), most, |project, of, places| {
                    for (at, job, key) in of.jobs_and_keys(places.start) {
                        if at >= places.end {
                            break;
                        }
                        verifier.visit_record(project, job, key);
                    }
                    None
                });
                match next {
                    Some(cursor) => verifier.set_cursor(cursor),
                    None => verifier.enter(Phase::Jobs),
                }
            }
            Phase::Jobs => {
                let slice = counters.jobs_from(from).take(most as usize);
                slice.for_each(|(job, counters)| verifier.visit_job(JobNumber(job), counters));
                verifier.move_to(from.saturating_add(most));
                if counters.jobs_from(verifier.position()).next().is_none() {
                    verifier.enter(Phase::Projects);
                }
            }
            Phase::Projects => {
                let slice = counters.projects_from(from).take(most as usize);
                slice.for_each(|(project, counters)| verifier.visit_project(ProjectNumber(project), counters));
                verifier.move_to(from.saturating_add(most));
                if counters.projects_from(verifier.position()).next().is_none() {
                    return Ok(Some(verifier.finish(counters.totals())));
                }
            }
        }
        Ok(None)
    }
}
