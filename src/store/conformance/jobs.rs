//! Jobs of a store against the model: one with its subtasks, and pages of image jobs.

use super::*;
use crate::domain::{Family, JobFilter, JobStatus, StatusCounts, TimeRange};

/// The jobs of a family in the order of their first subtasks, each with its subtasks.
fn jobs_of(list: &[(SubJob, bool)], family: Family) -> Vec<Vec<&SubJob>> {
    let mut jobs: Vec<Vec<&SubJob>> = Vec::new();
    for (sub_job, _) in list.iter().filter(|(sub_job, _)| sub_job.job_type.family() == family) {
        match jobs.iter_mut().find(|job| job[0].job_id == sub_job.job_id) {
            Some(job) => job.push(sub_job),
            None => jobs.push(vec![sub_job]),
        }
    }
    jobs
}

fn counts_of(job: &[&SubJob]) -> StatusCounts {
    let mut counts = StatusCounts::default();
    job.iter().for_each(|sub_job| counts.add(sub_job.status, 1));
    counts
}

fn times_of(job: &[&SubJob]) -> TimeRange {
    let mut times = TimeRange::default();
    job.iter().filter_map(|sub_job| sub_job.details.as_deref()).for_each(|details| times.include(details));
    times
}

/// Compares the jobs of a project with those of the model.
pub(super) fn compare(store: &Store, project: &ProjectId, list: &[(SubJob, bool)]) -> Result<(), TestCaseError> {
    for family in Family::ALL {
        let jobs = jobs_of(list, family);
        let shown = |id: &JobId, limit| wait(store.job(project, id, JobTypeSet::of_family(family), limit)).unwrap();
        for id in ["j0", "j1", "j2", "j3", "unknown"].map(|id| JobId::parse(id).unwrap()) {
            let expected = jobs.iter().find(|job| job[0].job_id == id);
            for limit in [1, 3, 1000] {
                let expected = expected.map(|job| Job {
                    counts: counts_of(job),
                    sub_jobs: job.iter().take(limit).map(|sub_job| (*sub_job).clone()).collect(),
                    failed_later: job
                        .iter()
                        .position(|sub_job| sub_job.status.has_failed())
                        .filter(|at| *at >= limit)
                        .map(|at| job[at].clone()),
                });
                prop_assert_eq!(shown(&id, limit), expected, "{} of {:?}", id, family);
            }
        }
    }
    compare_image_jobs(store, project, &jobs_of(list, Family::Image))
}

fn compare_image_jobs(store: &Store, project: &ProjectId, jobs: &[Vec<&SubJob>]) -> Result<(), TestCaseError> {
    let types: Vec<_> = types().of_family(Family::Image).collect();
    for status in [None].into_iter().chain(JobStatus::ALL.map(Some)) {
        for job_types in [JobTypeSet::IMAGE, [types[0]].into_iter().collect(), [types[1]].into_iter().collect()] {
            let matches = |job: &&Vec<&SubJob>| {
                status.is_none_or(|status| status == counts_of(job).job_status())
                    && job_types.contains(job[0].job_type.index())
            };
            let matching: Vec<_> = jobs.iter().filter(matches).collect();
            for (offset, limit, most_timed) in [(0, 100, 100), (1, 1, 2), (matching.len(), 1, 0)] {
                let items = matching.iter().skip(offset).take(limit).map(|job| ImageJob {
                    id: job[0].job_id.clone(),
                    job_type: job[0].job_type,
                    counts: counts_of(job),
                    times: if job.len() as u64 <= most_timed { times_of(job) } else { TimeRange::default() },
                });
                let expected = JobPage { total: matching.len() as u64, jobs: items.collect() };
                let filter = JobFilter { status, job_types };
                let page = wait(store.image_jobs(project, filter, offset as u64, limit, most_timed));
                prop_assert_eq!(page, Ok(expected), "{:?} from {}", filter, offset);
            }
        }
    }
    Ok(())
}
