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
                let mut visited = 0;
                for (job, counters) in counters.jobs_from(from).take(most as usize) {
                    verifier.visit_job(JobNumber(job), counters);
                    visited += 1;
                }
                verifier.move_to(from + visited);
                if visited < most {
                    verifier.enter(Phase::Projects);
                }
            }
            Phase::Projects => {
                let mut visited = 0;
                for (project, counters) in counters.projects_from(from).take(most as usize) {
                    verifier.visit_project(ProjectNumber(project), counters);
                    visited += 1;
                }
                verifier.move_to(from + visited);
                if visited < most {
                    return Ok(Some(verifier.finish(counters.totals())));
                }
            }
        }
        Ok(None)
    }
}
