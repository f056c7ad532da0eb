//! Tests of the internals of a store in memory.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::counters::CounterKey;
use super::deltas::{CounterChanges, Delta};
use super::image_jobs::{ImageJob, is_image};
use super::*;
use crate::domain::{CountFilter, JobId, JobTypes, ProjectId, Status, StatusCounts, SubJob, SubJobId, Version};
use crate::store::core::{Changes, Draft, Rules};
use crate::store::end_time::EndTime;
use crate::store::types::StoreError;

impl MemoryStore {
    /// Asserts that all data derived from the records matches them, and that removed records left none.
    pub(in crate::store) fn assert_sound(&self) {
        let (records, counters) = (self.read_records().unwrap(), self.read_counters().unwrap());
        records.assert_sound();
        let (mut projects, mut jobs) = (0, std::collections::BTreeSet::new());
        for (_, number) in counters.projects() {
            projects += 1;
            let of = records.project(number).unwrap();
            // A project without subtasks keeps its revision only.
            assert!(of.live() > 0 || of.end() == 0);
            let mut image_jobs = std::collections::BTreeMap::new();
            for (place, job, key) in of.jobs_and_keys(0).filter(|(_, _, key)| is_image(*key)) {
                let first = (place, key.job_type(), StatusCounts::default());
                image_jobs.entry(job).or_insert(first).2.add(key.status(), 1);
            }
            let image_jobs = image_jobs.into_iter().map(|(job, (place, job_type, counts))| {
                (job, ImageJob { place, key: CounterKey::new(job_type, counts.job_status().as_status()) })
            });
            assert_eq!(records.image_jobs.of_project(number), image_jobs.collect());
            jobs.extend(of.jobs_and_keys(0).map(|(_, job, _)| job));
        }
        assert_eq!((counters.projects().count(), counters.jobs()), (projects, jobs.len()));
    }

    /// Adds these numbers to counters of jobs, and their sum to the counters of the project.
    fn distort(&self, project: &ProjectId, key: CounterKey, of: &[(&str, i32)]) {
        let mut counters = self.write_counters().unwrap();
        let owner = counters.project(project).unwrap();
        let job = |name| counters.find_job(owner, &JobId::parse(name).unwrap()).unwrap();
        let deltas = of.iter().map(|&(name, change)| Delta { job: job(name), key, change }).collect();
        let revision = counters.revision(project);
        counters.publish(CounterChanges::sum(owner, deltas), revision);
        assert!(counters.fold(100).is_some());
    }

    /// The same for the counters of `job`, by the type and status of a subtask.
    pub(in crate::store) fn distort_as(&self, project: &ProjectId, sub_job: &SubJob, job: &str, by: i32) {
        self.distort(project, CounterKey::new(sub_job.job_type, sub_job.status), &[(job, by)]);
    }

    fn report(&self, project: &ProjectId, batch: Vec<SubJob>) -> Result<(), StoreError> {
        let changes = {
            let view = self.view(None)?;
            let mut draft = Draft::new(&view, 1);
            let rules = Rules { now: EndTime::from_bytes([1, 0, 0, 0]).unwrap(), only_new: false };
            draft.report(project, batch, rules)?;
            draft.into_changes()
        };
        changes.into_iter().try_for_each(|changes| self.apply(changes))
    }

    fn drop_ended(&self, most: u32) -> u64 {
        let (mut from, mut count) = (0, 0);
        loop {
            let (changes, next) = {
                let (moment, view) = (EndTime::from_bytes([2, 0, 0, 0]).unwrap(), self.view(None).unwrap());
                let (due, next) = view.ended_before(moment, from, most, 100);
                let mut draft = Draft::new(&view, 1);
                count += due.into_iter().map(|(project, ids)| draft.expire(&project, ids, moment)).sum::<u64>();
                (draft.into_changes(), next)
            };
            changes.into_iter().for_each(|changes| self.apply(changes).unwrap());
            from = next;
            if from == 0 {
                return count;
            }
        }
    }

    fn verify_all(&self, most: u32) -> u64 {
        std::iter::repeat_with(|| self.verify(most).unwrap()).flatten().next().unwrap()
    }

    fn ids(&self, project: &ProjectId) -> Vec<String> {
        let page = self.page(project, &CountFilter::default(), 0, usize::MAX).unwrap();
        page.items.into_iter().map(|found| found.sub_job.id.to_string()).collect()
    }
}

fn types() -> JobTypes {
    JobTypes::default()
}

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn sub_job(id: &str, job: &str, status: Status) -> SubJob {
    SubJob {
        id: SubJobId::parse(id).unwrap(),
        job_id: JobId::parse(job).unwrap(),
        job_type: types().iter().next().unwrap(),
        status,
        version: Version::default(),
        details: None,
    }
}

fn batch(ids: std::ops::Range<usize>, status: Status) -> Vec<SubJob> {
    ids.map(|at| sub_job(&format!("s{at}"), &format!("j{}", at / 10), status)).collect()
}

#[test]
fn verification_finds_every_mismatch() {
    let store = MemoryStore::new(types().len());
    let (p, q) = (project("p"), project("q"));
    for (of, n) in [(&p, 30), (&q, 20)] {
        let one = |i| sub_job(&format!("s{i}"), &format!("j{}", i % 3), Status::Running);
        store.report(of, (0..n).map(one).collect()).unwrap();
    }
    assert_eq!((store.verify_all(7), store.verify_all(u32::MAX)), (0, 0));
    let key = CounterKey::new(types().iter().next().unwrap(), Status::Running);
    let change = |project: &ProjectId, of: &[(&str, i32)]| store.distort(project, key, of);
    // First the sum is wrong by five. Then only the counters of single jobs are wrong, at last in two projects.
    change(&p, &[("j0", 5)]);
    assert_eq!((store.verify_all(7), store.verify_all(1000)), (5, 5));
    change(&p, &[("j1", -5)]);
    assert_eq!(store.verify_all(7), 1);
    change(&p, &[("j0", -5), ("j1", 5)]);
    assert_eq!(store.verify_all(7), 0);
    change(&p, &[("j2", 1)]);
    change(&q, &[("j2", -1)]);
    assert_eq!(store.verify_all(7), 1);
}

#[test]
fn expired_subtasks_leave_no_records_and_counters() {
    let store = MemoryStore::new(types().len());
    let p = project("p");
    for round in 0..5 {
        store.report(&p, batch(0..3000, Status::Success)).unwrap();
        store.report(&p, batch(0..3, Status::Running)).unwrap();
        assert_eq!(store.drop_ended(500 + round), 2997);
        assert_eq!(store.ids(&p), ["s0", "s1", "s2"]);
        store.assert_sound();
        assert_eq!(store.verify_all(100), 0);
    }
    store.report(&p, batch(0..3, Status::Success)).unwrap();
    assert_eq!(store.drop_ended(1000), 3);
    store.assert_sound();
    assert_eq!(store.count(&p, &CountFilter::default()), Ok(0));
}

#[test]
fn positions_are_renumbered_when_none_or_few_are_in_use() {
    let store = MemoryStore::new(types().len());
    let p = project("p");
    store.report(&p, batch(0..2000, Status::Success)).unwrap();
    store.report(&p, batch(100..110, Status::Running)).unwrap();
    store.drop_ended(u32::MAX);
    // A verification is under way.
    assert_eq!(store.verify(500), Ok(None));
    let number = store.read_counters().unwrap().project(&p).unwrap();
    store.write_records().unwrap().use_up_places(number);
    store.report(&p, batch(5000..5010, Status::Success)).unwrap();
    let expected = (100..110).chain(5000..5010).map(|at| format!("s{at}"));
    assert!(store.ids(&p).into_iter().eq(expected));
    assert_eq!(
        (store.read_records().unwrap().renumbered(), store.read_records().unwrap().project(number).unwrap().end()),
        (1, 20)
    );
    assert_eq!(store.verify_all(7), 0);
    store.assert_sound();
}

#[test]
fn effects_that_are_applied_again_change_nothing() {
    let store = MemoryStore::new(types().len());
    let p = project("p");
    let plan = |store: &MemoryStore, revision, batch| {
        let view = store.view(None).unwrap();
        let mut draft = Draft::new(&view, revision);
        draft.report(&p, batch, Rules { now: EndTime::from_bytes([1, 0, 0, 0]).unwrap(), only_new: false }).unwrap();
        draft.into_changes().pop().unwrap()
    };
    let mut all: Vec<Changes> = Vec::new();
    for (revision, (ids, status)) in (1..).zip([
        (0..30, Status::Running),
        (20..50, Status::Success),
        (0..10, Status::Failed),
        (60..70, Status::Running),
    ]) {
        let changes = plan(&store, revision, batch(ids, status));
        all.push(changes.clone());
        store.apply(changes).unwrap();
    }
    let before = (store.ids(&p), store.summary(&p, None).unwrap());
    for from in 0..4 {
        all[from..].iter().for_each(|changes| store.apply_again(changes.clone()).unwrap());
        assert_eq!((store.ids(&p), store.summary(&p, None).unwrap()), before);
    }
    store.assert_sound();
    assert_eq!(store.verify_all(7), 0);
}

impl MemoryStore {
    /// Poisons the counters, as a panic while they are changed does.
    pub(in crate::store) fn poison(&self) {
        let panicked = std::thread::scope(|scope| {
            let work = || {
                let _counters = self.write_counters();
                panic!("on purpose");
            };
            scope.spawn(work).join().is_err()
        });
        assert!(panicked);
    }
}

#[test]
fn a_panic_in_a_report_poisons_the_store() {
    let store = MemoryStore::new(types().len());
    store.poison();
    assert_eq!(store.check(), Err(StoreError::Broken));
    assert_eq!(store.count(&project("p"), &CountFilter::default()), Err(StoreError::Broken));
    assert_eq!(store.report(&project("p"), batch(0..1, Status::Running)), Err(StoreError::Broken));
}

#[test]
fn a_project_of_one_subtask_is_small() {
    assert!(size_of::<super::project::ProjectRecords>() <= 64, "{}", size_of::<super::project::ProjectRecords>());
}

/// Folds in steps of seven, so that most of a report is pending while readers read. A reader that sees one changed subtask must see
/// all of them, also later.
#[test]
fn a_change_that_was_seen_stays_visible() {
    const SUB_JOBS: usize = 600;
    let p = project("p");
    let in_status = |status, job: Option<usize>| CountFilter {
        status: Some(status),
        job_id: job.map(|job| JobId::parse(&format!("j{job}")).unwrap()),
        ..CountFilter::default()
    };
    for _ in 0..30 {
        let store = MemoryStore::with_step(types().len(), 7);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|reader| {
                    let (store, p, is_over) = (&store, &p, &is_over);
                    scope.spawn(move || {
                        let count = |status, job| store.count(p, &in_status(status, job)).unwrap() as usize;
                        let (mut at, mut looks) = (0, 0);
                        loop {
                            // Loaded before the read, so that the last read sees the end.
                            let is_last = is_over.load(Ordering::Acquire);
                            let job = (looks * 31 + reader) % (SUB_JOBS / 10);
                            at = (at..7).rfind(|&next| count(Status::ALL[next], None) != 0).unwrap_or(at);
                            for status in &Status::ALL[..at] {
                                assert_eq!((count(*status, None), count(*status, Some(job))), (0, 0), "{status}");
                            }
                            for status in Status::ALL {
                                let (all, of_job) = (count(status, None), count(status, Some(job)));
                                assert!(all == 0 || all == SUB_JOBS, "half a report: {all} in {status}");
                                assert!(of_job == 0 || of_job == 10, "half a report in a job: {of_job}");
                            }
                            looks += 1;
                            if is_last {
                                return (at, looks);
                            }
                        }
                    })
                })
                .collect();
            Status::ALL.into_iter().for_each(|status| store.report(&p, batch(0..SUB_JOBS, status)).unwrap());
            is_over.store(true, Ordering::Release);
            for reader in readers {
                let (at, looks) = reader.join().unwrap();
                assert!(looks > 0);
                assert_eq!(at, 6, "the last look sees the last report");
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Projects and jobs of several blocks, whose subtasks are removed and changed at random.
    #[test]
    fn pages_of_large_projects_equal_a_plain_list(seed in any::<u64>()) {
        let store = MemoryStore::new(types().len());
        let p = project("p");
        let mut random = seed;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % bound
        };
        let mut model: Vec<(usize, usize, Status)> = Vec::new();
        for _ in 0..40 {
            let mut list = Vec::new();
            for _ in 0..300 {
                // Most subtasks belong to one job.
                let (at, job, status) = (below(9000), if below(8) == 0 { below(20) } else { 0 }, Status::ALL[below(7)]);
                list.push(sub_job(&format!("s{at}"), &format!("j{job}"), status));
                match model.iter_mut().find(|(known, _, _)| *known == at) {
                    Some(known) => (known.1, known.2) = (job, status),
                    None => model.push((at, job, status)),
                }
            }
            store.report(&p, list).unwrap();
            if below(4) == 0 {
                prop_assert_eq!(store.drop_ended(u32::MAX) as usize, model.iter().filter(|of| of.2.has_ended()).count());
                model.retain(|(_, _, status)| !status.has_ended());
            }
        }
        store.assert_sound();
        for status in [None, Some(Status::Running)] {
            for job in [None, Some(0), Some(3)] {
                let job_id = job.map(|job: usize| JobId::parse(&format!("j{job}")).unwrap());
                let filter = CountFilter { status, job_id, ..CountFilter::default() };
                let matches = |of: &&(usize, usize, Status)| status.is_none_or(|s| s == of.2) && job.is_none_or(|j| j == of.1);
                let expected: Vec<_> = model.iter().filter(matches).map(|(at, _, _)| format!("s{at}")).collect();
                for offset in [0, 1, 500, expected.len() / 2, expected.len().saturating_sub(50)] {
                    let page = store.page(&p, &filter, offset as u64, 100).unwrap();
                    let found = page.items.into_iter().map(|found| found.sub_job.id.to_string());
                    prop_assert!(found.eq(expected.iter().skip(offset).take(100).cloned()), "{:?} from {}", filter, offset);
                }
            }
        }
    }
}
