//! Three replicas on one database, with writers that report the same subtasks.

use std::collections::HashMap;
use std::sync::Mutex;

use super::database::{database, replica, target};
use super::*;
use crate::domain::JobType;

const WRITERS: usize = 6;
const REPORTS: usize = 25;

/// Subtasks that every writer reports.
const HOT: usize = 30;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) % bound as u64) as usize
    }
}

/// What has been acknowledged.
#[derive(Default)]
struct Acknowledged {
    created: u64,
    /// The highest version of each hot subtask.
    versions: HashMap<String, u64>,
}

fn hot(random: &mut Random, types: &[JobType]) -> SubJob {
    let (id, job) = (format!("hot {}", random.below(HOT)), format!("j{}", random.below(4)));
    let status = Status::ALL[random.below(Status::COUNT)];
    SubJob { job_type: types[random.below(2)], ..sub_job(&id, &job, status, random.below(40) as u64) }
}

fn write(replicas: &[Store], writer: usize, acknowledged: &Mutex<Acknowledged>) {
    let (p, types, mut random) = (project("p"), types().iter().collect::<Vec<_>>(), Random(writer as u64));
    let own_job = format!("own {writer}");
    for report in 0..REPORTS {
        // With repeated identifiers.
        let mut batch: Vec<_> = (0..random.below(20)).map(|_| hot(&mut random, &types)).collect();
        batch.push(sub_job(&format!("{writer}-{report}"), &own_job, Status::Running, 0));
        let outcome = replicas[report % 3].report(&p, batch.clone()).unwrap();
        assert_eq!(
            outcome.created + outcome.updated + outcome.unchanged + outcome.stale,
            batch.len() as u64,
            "{outcome:?}"
        );
        {
            let mut acknowledged = acknowledged.lock().unwrap();
            acknowledged.created += outcome.created;
            for sub_job in batch.iter().filter(|sub_job| sub_job.job_id.to_string() != own_job) {
                let version = acknowledged.versions.entry(sub_job.id.to_string()).or_default();
                *version = sub_job.version.get().max(*version);
            }
        }
        // Through another replica, as soon as the report is acknowledged.
        let own = CountFilter { job_id: Some(JobId::parse(&own_job).unwrap()), ..CountFilter::default() };
        assert_eq!(wait(replicas[(report + 1) % 3].count(&p, &own)), Ok(report as u64 + 1));
        let known = acknowledged.lock().unwrap().created;
        assert!(wait(replicas[(report + 2) % 3].count(&p, &CountFilter::default())).unwrap() >= known);
    }
}

#[test]
fn replicas_agree_while_they_report_the_same_subtasks() {
    let database = database();
    let replicas: Vec<_> = (0..3).map(|_| replica(&database)).collect();
    let (acknowledged, is_over) = (Mutex::<Acknowledged>::default(), AtomicBool::new(false));
    let check = || wait(check_database(&target(&database))).unwrap();
    std::thread::scope(|scope| {
        let observer = scope.spawn(|| {
            let (mut last, mut looks) = (0, 0);
            while !is_over.load(Ordering::Acquire) {
                let count = wait(replicas[looks % 3].count(&project("p"), &CountFilter::default())).unwrap();
                assert!(count >= last, "{count} after {last}");
                assert!(check().is_good(), "{}", check());
                (last, looks) = (count, looks + 1);
            }
            looks
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (replicas, acknowledged) = (&replicas, &acknowledged);
                scope.spawn(move || write(replicas, writer, acknowledged))
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        is_over.store(true, Ordering::Release);
        assert!(observer.join().unwrap() > 0);
        ended.into_iter().for_each(|writer| writer.unwrap());
    });
    let Acknowledged { created, versions } = acknowledged.into_inner().unwrap();
    assert_eq!(created as usize, WRITERS * REPORTS + versions.len());
    let page = wait(replicas[0].page(&project("p"), &CountFilter::default(), 0, 1000)).unwrap();
    assert_eq!((page.total, page.sub_jobs.len() as u64), (created, created));
    for sub_job in page.sub_jobs {
        let expected = versions.get(&sub_job.id.to_string()).copied().unwrap_or_default();
        assert_eq!(sub_job.version.get(), expected, "{}", sub_job.id);
    }
    assert!(check().is_good());
}

/// What a caller has read of a list stays its beginning, however many transactions add subtasks at the same time.
#[test]
fn lists_grow_at_their_end_through_every_replica() {
    const SIZE: usize = 100;
    const SEEN: usize = 500;
    let database = database();
    let replicas: Vec<_> = (0..3).map(|_| replica(&database)).collect();
    let write = |writer: usize| {
        for report in 0..REPORTS {
            let one = |number| sub_job(&format!("{writer}-{report}-{number}"), "j", Status::Running, 0);
            replicas[writer % 3].report(&project("p"), (0..SIZE).map(one).collect()).unwrap();
        }
    };
    let (p, all) = (project("p"), CountFilter::default());
    let (mut listed, mut total) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let write = &write;
                    move || write(writer)
                })
            })
            .collect();
        let mut is_over = false;
        for look in 0.. {
            let from = listed.len().saturating_sub(SEEN);
            // A list may be refused while others add subtasks.
            let Ok(page) = wait(replicas[look % 3].page(&p, &all, from as u64, usize::MAX)) else { continue };
            let ids: Vec<_> = page.sub_jobs.into_iter().map(|sub_job| sub_job.id).collect();
            assert!(ids.starts_with(&listed[from..]), "{ids:?} after {:?}", &listed[from..]);
            listed.truncate(from);
            listed.extend(ids);
            total = page.total;
            assert_eq!(listed.len() as u64, total);
            if is_over {
                break;
            }
            is_over = writers.iter().all(|writer| writer.is_finished());
        }
    });
    assert_eq!(total as usize, WRITERS * REPORTS * SIZE);
}
