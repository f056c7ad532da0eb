//! The store against a plain list, and against readers who look while a report is being taken in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::domain::{Details, JobId, JobTypeSet, JobTypes, SubJobId, Version};

fn types() -> JobTypes {
    JobTypes::default()
}

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn sub_job(id: &str, job: &str, job_type: usize, status: Status, version: u64) -> SubJob {
    SubJob {
        id: SubJobId::parse(id).unwrap(),
        job_id: JobId::parse(job).unwrap(),
        job_type: types().iter().nth(job_type).unwrap(),
        status,
        version: Version::try_from(version).unwrap(),
        details: None,
    }
}

fn outcome(created: u64, updated: u64, unchanged: u64, stale: u64) -> Outcome {
    Outcome { created, updated, unchanged, stale }
}

/// The contract of a store, done the slow way.
#[derive(Default)]
struct Naive(HashMap<(ProjectId, SubJobId), SubJob>);

impl Naive {
    fn report(&mut self, project: &ProjectId, batch: &[SubJob]) -> Outcome {
        let mut outcome = Outcome::default();
        for new in batch {
            let key = (project.clone(), new.id.clone());
            match self.0.get(&key) {
                None => outcome.created += 1,
                Some(stored) if new.version < stored.version => {
                    outcome.stale += 1;
                    continue;
                }
                Some(stored) if stored == new => outcome.unchanged += 1,
                Some(_) => outcome.updated += 1,
            }
            self.0.insert(key, new.clone());
        }
        outcome
    }

    fn count(&self, project: &ProjectId, filter: &CountFilter) -> u64 {
        let matches = |((of, _), stored): &(&(ProjectId, _), &SubJob)| {
            of == project
                && filter.status.is_none_or(|status| status == stored.status)
                && filter.job_types.contains(stored.job_type.index())
                && filter.job_id.as_ref().is_none_or(|job| *job == stored.job_id)
        };
        self.0.iter().filter(matches).count() as u64
    }
}

fn filters() -> Vec<CountFilter> {
    let types: Vec<_> = types().iter().collect();
    let mut filters = Vec::new();
    for status in Status::ALL.into_iter().map(Some).chain([None]) {
        for job_types in [JobTypeSet::ALL, types[..1].iter().copied().collect(), types[1..3].iter().copied().collect()]
        {
            for job_id in [None, Some("j0"), Some("j1"), Some("j2"), Some("nobody's")] {
                let job_id = job_id.map(|id| JobId::parse(id).unwrap());
                filters.push(CountFilter { status, job_types, job_id });
            }
        }
    }
    filters
}

fn arbitrary_sub_job() -> impl Strategy<Value = SubJob> {
    (0..12u8, 0..3u8, 0..3usize, 0..7usize, 0..3u64, 0..3u8).prop_map(|(id, job, job_type, status, version, code)| {
        let details = Details { error_code: Some(code.to_string().into()), ..Details::default() };
        SubJob {
            details: (code > 0).then(|| Box::new(details)),
            ..sub_job(&format!("s{id}"), &format!("j{job}"), job_type, Status::ALL[status], version)
        }
    })
}

proptest! {
    #[test]
    fn agrees_with_the_naive_store(
        step in 1..4usize,
        batches in proptest::collection::vec((0..2u8, proptest::collection::vec(arbitrary_sub_job(), 0..12)), 0..10),
    ) {
        let (store, mut naive) = (MemoryStore::with_step(types().len(), step), Naive::default());
        for (of, batch) in batches {
            let of = project(&format!("p{of}"));
            prop_assert_eq!(naive.report(&of, &batch), store.report(&of, batch).unwrap());
            for of in ["p0", "p1", "p2"].map(project) {
                for filter in filters() {
                    prop_assert_eq!(store.count(&of, &filter), Ok(naive.count(&of, &filter)), "{:?}", filter);
                }
            }
            for job_type in types().iter() {
                for status in Status::ALL {
                    let stored = |s: &&SubJob| s.job_type == job_type && s.status == status;
                    let truth = naive.0.values().filter(stored).count() as u64;
                    prop_assert_eq!(store.total(job_type, status), Ok(truth));
                }
            }
        }
    }
}

#[test]
fn late_and_repeated_reports_change_nothing() {
    let (store, p) = (MemoryStore::new(types().len()), project("p"));
    let report = |status, version| store.report(&p, vec![sub_job("a", "j", 0, status, version)]).unwrap();
    assert_eq!(report(Status::Success, 7), outcome(1, 0, 0, 0));
    assert_eq!(report(Status::Running, 6), outcome(0, 0, 0, 1));
    assert_eq!(report(Status::Success, 7), outcome(0, 0, 1, 0));
    assert_eq!(report(Status::Success, 8), outcome(0, 1, 0, 0));
    assert_eq!(report(Status::Failed, 8), outcome(0, 1, 0, 0));
    let failed = CountFilter { status: Some(Status::Failed), ..CountFilter::default() };
    assert_eq!((store.count(&p, &failed), store.count(&p, &CountFilter::default())), (Ok(1), Ok(1)));
}

#[test]
fn one_id_in_two_projects_is_two_subtasks() {
    let store = MemoryStore::new(types().len());
    for name in ["p", "q"] {
        let batch = vec![sub_job("a", "j", 0, Status::Running, 0)];
        assert_eq!(store.report(&project(name), batch), Ok(outcome(1, 0, 0, 0)));
        assert_eq!(store.count(&project(name), &CountFilter::default()), Ok(1));
    }
}

#[test]
fn an_empty_report_leaves_no_trace() {
    let store = MemoryStore::new(types().len());
    assert_eq!(store.report(&project("p"), vec![]), Ok(Outcome::default()));
    assert_eq!(store.lock_records().unwrap().jobs(), 0);
}

#[test]
fn a_panic_in_a_report_is_never_counted_over() {
    let store = MemoryStore::new(types().len());
    let panicked = std::thread::scope(|scope| {
        let work = || {
            let _tallies = store.write_tallies();
            panic!("on purpose");
        };
        scope.spawn(work).join().is_err()
    });
    assert!(panicked);
    assert_eq!(store.check(), Err(StoreError::Broken));
    assert_eq!(store.count(&project("p"), &CountFilter::default()), Err(StoreError::Broken));
    let batch = vec![sub_job("a", "j", 0, Status::Running, 0)];
    assert_eq!(store.report(&project("p"), batch), Err(StoreError::Broken));
}

/// Each report moves all subtasks on to the next status; whoever sees one of them moved must see all of them moved, in
/// the project as in each job, and must never see one move back.
#[test]
fn readers_never_see_half_a_report() {
    const SUB_JOBS: usize = 600;
    const JOBS: usize = 200;
    let p = project("p");
    let in_status = |status, job: Option<usize>| CountFilter {
        status: Some(status),
        job_id: job.map(|job| JobId::parse(&format!("j{job}")).unwrap()),
        ..CountFilter::default()
    };
    for _ in 0..30 {
        // Steps of seven, so that nearly all of a report is still pending while readers look.
        let store = MemoryStore::with_step(types().len(), 7);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|reader| {
                    let (store, p, over) = (&store, &p, &over);
                    scope.spawn(move || {
                        let count = |status, job| store.count(p, &in_status(status, job)).unwrap() as usize;
                        let (mut at, mut looks) = (0, 0);
                        loop {
                            // Taken before the look: the last look sees the end.
                            let last = over.load(Ordering::Acquire);
                            let job = (looks * 31 + reader) % JOBS;
                            at = (at..7).rfind(|&next| count(Status::ALL[next], None) != 0).unwrap_or(at);
                            for status in &Status::ALL[..at] {
                                assert_eq!(
                                    count(*status, None),
                                    0,
                                    "what has been seen to move is back in the project"
                                );
                                assert_eq!(count(*status, Some(job)), 0, "what has been seen to move is back in a job");
                            }
                            for status in Status::ALL {
                                let (all, of_job) = (count(status, None), count(status, Some(job)));
                                assert!(all == 0 || all == SUB_JOBS, "half a report: {all} of {SUB_JOBS} in {status}");
                                assert!(of_job == 0 || of_job == SUB_JOBS / JOBS, "half a report in a job: {of_job}");
                            }
                            looks += 1;
                            if last {
                                return (at, looks);
                            }
                        }
                    })
                })
                .collect();
            for status in Status::ALL {
                let id = |i: usize| (format!("s{i}"), format!("j{}", i % JOBS));
                let batch = (0..SUB_JOBS).map(id).map(|(id, job)| sub_job(&id, &job, 0, status, 0)).collect();
                store.report(&p, batch).unwrap();
            }
            over.store(true, Ordering::Release);
            for reader in readers {
                let (at, looks) = reader.join().unwrap();
                assert!(looks > 0);
                assert_eq!(at, 6, "the last look sees the last report");
            }
        });
    }
}
