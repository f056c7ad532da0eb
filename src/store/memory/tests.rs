//! The store against a plain list.

mod readers;

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{Details, JobId, JobTypeSet, JobTypes, SubJob, SubJobId, Version};
use crate::store::ended::Ended;
use crate::store::journal::DetailsInMemory;
use crate::store::{Dropped, Outcome};

/// A store in memory with its details, as small steps as a test wants, and a clock that a test sets.
struct Tested {
    memory: MemoryStore,
    details: Mutex<DetailsInMemory>,
}

/// Seconds since 1970.
fn at(seconds: u32) -> Ended {
    Ended::from_bytes(seconds.to_le_bytes())
}

impl MemoryStore {
    /// Makes tallies of jobs wrong, by so many each, and those of their project by the sum.
    fn distort(&self, project: &ProjectId, cell: tally::Cell, of: &[(&str, i32)]) {
        let mut tallies = self.write_tallies().unwrap();
        let job = |name| tallies.job(project, &JobId::parse(name).unwrap()).unwrap();
        let deltas = of.iter().map(|&(name, change)| tallies::Delta { job: job(name), cell, change });
        let (deltas, owner) = (deltas.collect(), tallies.owner(job(of[0].0)));
        tallies.publish(Changes::sum(owner, deltas));
        assert!(tallies.fold(100).is_some());
    }

    /// The same, of a subtask's own job and where it is counted.
    pub(in crate::store) fn distort_as(&self, project: &ProjectId, sub_job: &SubJob, job: &str, by: i32) {
        self.distort(project, tally::Cell::new(sub_job.job_type, sub_job.status), &[(job, by)]);
    }
}

impl Tested {
    fn new() -> Self {
        Self::with_step(STEP)
    }

    fn with_step(step: usize) -> Self {
        Self { memory: MemoryStore::with_step(types().len(), step), details: Mutex::default() }
    }

    fn report(&self, project: &ProjectId, batch: Vec<SubJob>) -> Result<Outcome, StoreError> {
        self.report_at(1, project, batch)
    }

    fn report_at(&self, now: u32, project: &ProjectId, batch: Vec<SubJob>) -> Result<Outcome, StoreError> {
        let mut transaction = self.memory.begin()?;
        let rules = Rules { now: at(now), settled: 0 };
        let outcome = transaction.report(project, batch, rules, &mut *self.details.lock().unwrap())?;
        transaction.commit()?;
        Ok(outcome)
    }

    fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        self.memory.count(project, filter)
    }

    /// Drops all that ended before that moment.
    fn expire(&self, moment: u32) -> u64 {
        let mut transaction = self.memory.begin().unwrap();
        let end = transaction.end();
        let Dropped { next, count } =
            transaction.expire(at(moment), 0..end, &mut *self.details.lock().unwrap()).unwrap();
        assert_eq!(next, end);
        transaction.commit().unwrap();
        count
    }

    /// Recounts in steps of `most` from the beginning to the end.
    fn recount(&self, most: usize) -> u64 {
        loop {
            if let Some(drift) = self.memory.recount(most).unwrap() {
                return drift;
            }
        }
    }
}

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
#[derive(Default, Clone)]
struct Naive(HashMap<(ProjectId, SubJobId), (SubJob, u32)>);

impl Naive {
    fn report(&mut self, now: u32, project: &ProjectId, batch: &[SubJob]) -> Outcome {
        let mut outcome = Outcome::default();
        for new in batch {
            let key = (project.clone(), new.id.clone());
            let mut ended = now;
            match self.0.get(&key) {
                None => outcome.created += 1,
                Some((stored, _)) if new.version < stored.version => {
                    outcome.stale += 1;
                    continue;
                }
                Some((stored, _)) if stored == new => {
                    outcome.unchanged += 1;
                    continue;
                }
                Some((stored, since)) => {
                    outcome.updated += 1;
                    ended = if stored.status.has_ended() { *since } else { now };
                }
            }
            self.0.insert(key, (new.clone(), ended));
        }
        outcome
    }

    fn expire(&mut self, moment: u32) -> u64 {
        let all = self.0.len();
        self.0.retain(|_, (sub_job, ended)| !sub_job.status.has_ended() || *ended >= moment);
        (all - self.0.len()) as u64
    }

    fn count(&self, project: &ProjectId, filter: &CountFilter) -> u64 {
        let matches = |((of, _), (stored, _)): &(&(ProjectId, _), &(SubJob, u32))| {
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

/// What is done to a store.
#[derive(Debug, Clone)]
enum Step {
    Report(u8, Vec<SubJob>),
    /// Reports that are tried and given up, as when a disk is full.
    GivenUp(Vec<(u8, Vec<SubJob>)>, u32),
    Expire(u32),
    Recount(usize),
}

fn arbitrary_step() -> impl Strategy<Value = Step> {
    let batch = || proptest::collection::vec(arbitrary_sub_job(), 0..12);
    prop_oneof![
        5 => (0..2u8, batch()).prop_map(|(of, batch)| Step::Report(of, batch)),
        2 => (proptest::collection::vec((0..3u8, batch()), 1..4), 0..12u32).prop_map(|(all, at)| Step::GivenUp(all, at)),
        2 => (0..12u32).prop_map(Step::Expire),
        3 => (1..9usize).prop_map(Step::Recount),
    ]
}

proptest! {
    #[test]
    fn agrees_with_the_naive_store(step in 1..4usize, steps in proptest::collection::vec(arbitrary_step(), 0..12)) {
        let (store, mut naive) = (Tested::with_step(step), Naive::default());
        let named = |of: u8| project(&format!("p{of}"));
        for (now, step) in (1..).zip(steps) {
            match step {
                Step::Report(of, batch) => {
                    let expected = naive.report(now, &named(of), &batch);
                    prop_assert_eq!(store.report_at(now, &named(of), batch), Ok(expected));
                }
                Step::GivenUp(all, moment) => {
                    let mut transaction = store.memory.begin().unwrap();
                    // What becomes of details here is nobody's: a store in memory gives nothing up.
                    let mut details = store.details.lock().unwrap().clone();
                    let (mut attempt, rules) = (naive.clone(), Rules { now: at(now), settled: 0 });
                    for (of, batch) in all {
                        let expected = attempt.report(now, &named(of), &batch);
                        prop_assert_eq!(transaction.report(&named(of), batch, rules, &mut details), Ok(expected));
                        let end = transaction.end();
                        let dropped = transaction.expire(at(moment), 0..end, &mut details).unwrap();
                        prop_assert_eq!(dropped, Dropped { next: end, count: attempt.expire(moment) });
                    }
                }
                Step::Expire(moment) => prop_assert_eq!(store.expire(moment), naive.expire(moment)),
                Step::Recount(most) => prop_assert!(store.memory.recount(most).unwrap().is_none_or(|drift| drift == 0)),
            }
            for of in ["p0", "p1", "p2"].map(project) {
                for filter in filters() {
                    prop_assert_eq!(store.count(&of, &filter), Ok(naive.count(&of, &filter)), "{:?}", filter);
                }
            }
            for job_type in types().iter() {
                for status in Status::ALL {
                    let stored = |(s, _): &&(SubJob, u32)| s.job_type == job_type && s.status == status;
                    let truth = naive.0.values().filter(stored).count() as u64;
                    prop_assert_eq!(store.memory.total(job_type, status), Ok(truth));
                }
            }
        }
        prop_assert_eq!(store.recount(3), 0);
        prop_assert_eq!(store.recount(100), 0);
        // Nothing is left of what has gone.
        let tallies = store.memory.read_tallies().unwrap();
        let jobs: std::collections::HashSet<_> = naive.0.iter().map(|((of, _), (s, _))| (of, &s.job_id)).collect();
        let projects: std::collections::HashSet<_> = naive.0.keys().map(|(of, _)| of).collect();
        prop_assert_eq!((tallies.jobs(), tallies.projects()), (jobs.len(), projects.len()));
    }
}

#[test]
fn a_recount_finds_what_is_wrong() {
    let store = Tested::new();
    let (p, q) = (project("p"), project("q"));
    for (of, n) in [(&p, 30), (&q, 20)] {
        let batch = (0..n).map(|i| sub_job(&format!("s{i}"), &format!("j{}", i % 3), 0, Status::Running, 0)).collect();
        store.report(of, batch).unwrap();
    }
    assert_eq!(store.recount(7), 0);
    let cell = tally::Cell::new(types().iter().next().unwrap(), Status::Running);
    let change = |project: &ProjectId, of: &[(&str, i32)]| store.memory.distort(project, cell, of);
    // Five too many; then as many as there should be, but of other jobs, and at last of another project.
    change(&p, &[("j0", 5)]);
    assert_eq!((store.recount(7), store.recount(1000)), (5, 5));
    change(&p, &[("j1", -5)]);
    assert_eq!(store.recount(7), 1);
    change(&p, &[("j0", -5), ("j1", 5)]);
    assert_eq!(store.recount(7), 0);
    change(&p, &[("j2", 1)]);
    change(&q, &[("j2", -1)]);
    assert_eq!(store.recount(7), 1);
}

#[test]
fn what_is_dropped_makes_room_for_others() {
    let store = Tested::new();
    let p = project("p");
    let batch = |round: usize, status| {
        (0..3000).map(|i| sub_job(&format!("{round}-{i}"), &format!("j{round}-{}", i / 10), 0, status, 0)).collect()
    };
    for round in 0..5 {
        store.report_at(round as u32 + 1, &p, batch(round, Status::Success)).unwrap();
        let mut transaction = store.memory.begin().unwrap();
        let end = transaction.end();
        let (mut next, mut dropped) = (0, 0);
        // No more than some at once, in memory as in what is told of them.
        while next < end {
            let step =
                transaction.expire(at(round as u32 + 2), next..end, &mut *store.details.lock().unwrap()).unwrap();
            assert!(step.next > next && step.count <= 1024, "{step:?}");
            (next, dropped) = (step.next, dropped + step.count);
        }
        assert_eq!(dropped, 3000);
        transaction.commit().unwrap();
        assert_eq!(store.count(&p, &CountFilter::default()), Ok(0));
    }
    assert_eq!(store.memory.end(), Ok(3000));
    assert_eq!(store.report(&p, batch(0, Status::Running)), Ok(outcome(3000, 0, 0, 0)));
}

#[test]
fn late_and_repeated_reports_change_nothing() {
    let (store, p) = (Tested::new(), project("p"));
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
    let store = Tested::new();
    for name in ["p", "q"] {
        let batch = vec![sub_job("a", "j", 0, Status::Running, 0)];
        assert_eq!(store.report(&project(name), batch), Ok(outcome(1, 0, 0, 0)));
        assert_eq!(store.count(&project(name), &CountFilter::default()), Ok(1));
    }
}

#[test]
fn an_empty_report_leaves_no_trace() {
    let store = Tested::new();
    assert_eq!(store.report(&project("p"), vec![]), Ok(Outcome::default()));
    assert_eq!(store.memory.read_tallies().unwrap().jobs(), 0);
}

#[test]
fn a_panic_in_a_report_is_never_counted_over() {
    let store = Tested::new();
    let panicked = std::thread::scope(|scope| {
        let work = || {
            let _tallies = store.memory.write_tallies();
            panic!("on purpose");
        };
        scope.spawn(work).join().is_err()
    });
    assert!(panicked);
    assert_eq!(store.memory.check(), Err(StoreError::Broken));
    assert_eq!(store.count(&project("p"), &CountFilter::default()), Err(StoreError::Broken));
    let batch = vec![sub_job("a", "j", 0, Status::Running, 0)];
    assert_eq!(store.report(&project("p"), batch), Err(StoreError::Broken));
}
