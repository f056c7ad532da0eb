//! The record of each subtask that decides, where files have several.
//!
//! A store that keeps what is loaded before an interruption is given only these. So no subtask has an earlier record of its files, and a
//! restart, which leaves stored subtasks unchanged, completes the load.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

use super::LoadError;
use super::source::Source;
use crate::domain::{JobTypes, ProjectId, SubJob, SubJobId};

/// The deciding records of the subtasks that have several.
#[derive(Debug, Default)]
pub(super) struct LastRecords {
    hasher: RandomState,
    /// The hashes of subtasks with several records. Another subtask may have one of them, and is then among the records too.
    repeated: HashSet<u64>,
    records: HashMap<(ProjectId, SubJobId), SubJob>,
}

impl LastRecords {
    /// Reads all files, which checks them too; and once more if a subtask has several records.
    ///
    /// # Errors
    ///
    /// A file cannot be read, a line breaks a rule, or the load was cancelled.
    pub(super) fn read(
        sources: &[Source<'_>],
        job_types: &JobTypes,
        cancelled: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let go_on = || if cancelled.load(Ordering::Relaxed) { Err(LoadError::Cancelled) } else { Ok(()) };
        let (mut last, mut seen) = (Self::default(), HashSet::new());
        for source in sources {
            source.for_each_record(job_types, |project, sub_job, _| {
                let hash = last.hasher.hash_one((&project, &sub_job.id));
                if !seen.insert(hash) {
                    last.repeated.insert(hash);
                }
                go_on()
            })?;
        }
        drop(seen);
        let again = if last.repeated.is_empty() { &[] } else { sources };
        for source in again {
            source.for_each_record(job_types, |project, sub_job, _| {
                last.include(project, sub_job);
                go_on()
            })?;
        }
        Ok(last)
    }

    fn is_repeated(&self, project: &ProjectId, id: &SubJobId) -> bool {
        !self.repeated.is_empty() && self.repeated.contains(&self.hasher.hash_one((project, id)))
    }

    /// By the rule of every report: a record with a lower version than the one before it is stale.
    fn include(&mut self, project: ProjectId, sub_job: SubJob) {
        if !self.is_repeated(&project, &sub_job.id) {
            return;
        }
        match self.records.entry((project, sub_job.id.clone())) {
            Entry::Occupied(known) if known.get().version > sub_job.version => {}
            Entry::Occupied(mut known) => drop(known.insert(sub_job)),
            Entry::Vacant(unknown) => drop(unknown.insert(sub_job)),
        }
    }

    /// What is stored for a record: at the first of a subtask the one that decides, so that the subtask has the place of its first record;
    /// then nothing.
    pub(super) fn take(&mut self, project: &ProjectId, sub_job: SubJob) -> Option<SubJob> {
        if self.is_repeated(project, &sub_job.id) {
            self.records.remove(&(project.clone(), sub_job.id))
        } else {
            Some(sub_job)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn line(project: &str, id: &str, status: &str, version: u64) -> String {
        format!(
            r#"{{"project_id":"{project}","id":"{id}","job_id":"j","job_type":"CREATE_SERVER","status":"{status}","version":{version}}}"#
        ) + "\n"
    }

    #[test]
    fn a_subtask_is_stored_once_with_its_last_record_at_the_place_of_its_first() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = [
            line("p", "a", "RUNNING", 1) + &line("p", "b", "RUNNING", 1) + &line("p", "a", "SUCCESS", 2),
            line("q", "a", "WAITING", 1) + &line("p", "a", "FAILED", 2) + &line("p", "a", "RUNNING", 1),
        ]
        .into_iter()
        .enumerate()
        .map(|(at, text)| {
            let path = dir.path().join(at.to_string());
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
        let (types, go_on) = (JobTypes::default(), AtomicBool::new(false));
        let sources: Vec<_> = files.iter().map(|path| Source::read_again(path).unwrap()).collect();
        let mut last = LastRecords::read(&sources, &types, &go_on).unwrap();
        let mut stored = Vec::new();
        for source in &sources {
            let take = |project: ProjectId, sub_job, _| {
                let taken = last.take(&project, sub_job);
                stored.extend(taken.map(|one| format!("{project} {} {:?} {}", one.id, one.status, one.version.get())));
                Ok(())
            };
            source.for_each_record(&types, take).unwrap();
        }
        assert_eq!(stored, ["p a Failed 2", "p b Running 1", "q a Waiting 1"]);
        let cancelled = LastRecords::read(&sources, &types, &AtomicBool::new(true));
        assert!(matches!(cancelled, Err(LoadError::Cancelled)));
    }
}
