//! What counts are asked for.

use crate::model::{Cells, Project};
use crate::record::{Record, STATUSES, TYPES, job_id};
use crate::support::sample::Random;

/// Which subtasks are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filter {
    status: Option<u8>,
    /// A bit for each type; no bit set means all.
    types: u8,
    job: Option<u32>,
}

impl Filter {
    /// Any, but for jobs.
    pub(crate) fn any(random: &mut Random) -> Self {
        let status = (random.below(2) == 0).then(|| random.below(STATUSES.len()) as u8);
        let types = if random.below(2) == 0 { random.below(1 << TYPES.len()) as u8 } else { 0 };
        Self { status, types, job: None }
    }

    /// Any, perhaps of one of the project's jobs, of those before them or of one to come.
    pub(crate) fn any_in(project: &Project, random: &mut Random) -> Self {
        let job =
            (random.below(2) == 0).then(|| (project.newest_job + 2).saturating_sub(random.below(32) as u32).max(1));
        Self { job, ..Self::any(random) }
    }

    /// All that together tell of every type, status and job in any of the projects.
    pub(crate) fn all(projects: &[&Project]) -> Vec<Self> {
        let (statuses, types) = (0..STATUSES.len() as u8, (0..TYPES.len()).map(|number| 1 << number));
        let whole = Self::default();
        let mut all = vec![whole, Self { types: 0b101, ..whole }, Self { types: 0b11111, ..whole }];
        all.extend(statuses.clone().map(|status| Self { status: Some(status), ..whole }));
        all.extend(types.clone().map(|types| Self { types, ..whole }));
        all.extend(
            types.flat_map(|types| statuses.clone().map(move |status| Self { status: Some(status), types, job: None })),
        );
        let stored = projects.iter().flat_map(|project| project.slots().iter().flatten());
        let mut of_jobs: Vec<_> = stored.map(|stored| (stored.record.job, stored.record.status)).collect();
        of_jobs.sort_unstable();
        of_jobs.dedup_by_key(|(job, _)| *job);
        for (job, status) in of_jobs {
            let of_job = Self { job: Some(job), ..whole };
            all.extend([of_job, Self { status: Some(status), ..of_job }]);
        }
        all
    }

    pub(crate) fn matches(&self, record: &Record) -> bool {
        self.has_type(record.job_type.into())
            && self.status.is_none_or(|status| status == record.status)
            && self.job.is_none_or(|job| job == record.job)
    }

    fn has_type(&self, job_type: usize) -> bool {
        self.types == 0 || self.types >> job_type & 1 == 1
    }

    /// How many of these match in all jobs.
    pub(crate) fn sum(&self, cells: &Cells) -> u64 {
        let of_type = |statuses: &[u64; 7]| match self.status {
            Some(status) => statuses[status as usize],
            None => statuses.iter().sum(),
        };
        cells.iter().enumerate().filter(|(job_type, _)| self.has_type(*job_type)).map(|(_, row)| of_type(row)).sum()
    }

    /// The query's text.
    pub(crate) fn query(&self) -> String {
        let types: Vec<_> = (0..TYPES.len()).filter(|number| self.types >> number & 1 == 1).map(|n| TYPES[n]).collect();
        let status = self.status.map_or("", |status| STATUSES[status as usize]);
        format!("status={status}&job_type={}&job_id={}", types.join(","), self.job.map(job_id).unwrap_or_default())
    }
}
