//! The jobs of image subtasks, by their own type and status, in the order of their first image subtasks.
//!
//! A job belongs to the block of its first subtask, so that pages of jobs pass blocks as pages of subtasks do. App subtasks, however
//! many, are passed by the numbers of their blocks.

use hashbrown::HashMap;

use super::block::PLACES;
use super::block_counts::BlockCounts;
use super::counters::{CounterKey, KeySet};
use super::deltas::{JobNumber, ProjectNumber};
use super::project::ProjectRecords;
use crate::domain::Family;

/// The position of a job, and its own type and status as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ImageJob {
    pub(super) place: u32,
    pub(super) key: CounterKey,
}

/// The image jobs of all projects.
#[derive(Debug, Default)]
pub(super) struct ImageJobs(HashMap<ProjectNumber, OfProject>);

#[derive(Debug, Default)]
struct OfProject {
    jobs: HashMap<JobNumber, ImageJob>,
    counts: BlockCounts,
}

impl OfProject {
    fn count(&mut self, job: ImageJob, change: i16) {
        self.counts.add(job.place as usize / PLACES, job.key, change);
    }
}

/// Whether a key is of an image subtask.
pub(super) fn is_image(key: CounterKey) -> bool {
    key.job_type().family() == Family::Image
}

impl ImageJobs {
    /// Says what has become of a job: none if it has no image subtask any more.
    pub(super) fn set(&mut self, project: ProjectNumber, number: JobNumber, job: Option<ImageJob>) {
        let of = self.0.entry(project).or_default();
        let old = match job {
            Some(job) => of.jobs.insert(number, job),
            None => of.jobs.remove(&number),
        };
        if old != job {
            old.into_iter().for_each(|old| of.count(old, -1));
            job.into_iter().for_each(|job| of.count(job, 1));
        }
        if of.jobs.is_empty() {
            self.0.remove(&project);
        }
    }

    /// Takes over the places that the records of a project have now. A job that has none is forgotten.
    pub(super) fn renumber(&mut self, project: ProjectNumber, records: &ProjectRecords) {
        let Some(old) = self.0.remove(&project) else { return };
        let mut new = OfProject::default();
        for (place, number, key) in records.jobs_and_keys(0) {
            if is_image(key)
                && !new.jobs.contains_key(&number)
                && let Some(job) = old.jobs.get(&number)
            {
                let job = ImageJob { place, ..*job };
                new.jobs.insert(number, job);
                new.count(job, 1);
            }
        }
        if !new.jobs.is_empty() {
            self.0.insert(project, new);
        }
    }

    /// How many jobs of the project have a key of the set; and these jobs, but for the first `skip`, at most `limit`.
    pub(super) fn page(
        &self,
        project: ProjectNumber,
        records: &ProjectRecords,
        keys: &KeySet,
        mut skip: u64,
        limit: usize,
    ) -> (u64, Vec<(JobNumber, ImageJob)>) {
        let Some(OfProject { jobs, counts }) = self.0.get(&project) else { return (0, Vec::new()) };
        let (mut found, mut from) = (Vec::new(), 0);
        while found.len() < limit
            && let Some(block) = counts.find(keys, from, &mut skip)
        {
            let places = block * PLACES..(block + 1) * PLACES;
            let of_block = records.jobs_and_keys(places.start as u32);
            let of_block = of_block.take_while(|(place, ..)| places.contains(&(*place as usize)));
            let first_ones = of_block.filter_map(|(place, number, _)| {
                let job = jobs.get(&number).filter(|job| job.place == place)?;
                keys.contains(job.key).then_some((number, *job))
            });
            found.extend(first_ones.skip(skip as usize).take(limit - found.len()));
            (skip, from) = (0, block + 1);
        }
        (counts.total(keys), found)
    }

    /// Every job of the project with that number.
    #[cfg(test)]
    pub(super) fn of_project(&self, project: ProjectNumber) -> std::collections::BTreeMap<JobNumber, ImageJob> {
        let of = self.0.get(&project);
        if let Some(of) = of {
            let mut fresh = OfProject::default();
            of.jobs.values().for_each(|job| fresh.count(*job, 1));
            let [mut fresh, mut counts]: [Vec<_>; 2] = [&fresh, of].map(|of| of.counts.iter().collect());
            fresh.sort_unstable();
            counts.sort_unstable();
            assert_eq!(fresh, counts);
        }
        of.into_iter().flat_map(|of| of.jobs.iter().map(|(number, job)| (*number, *job))).collect()
    }
}
