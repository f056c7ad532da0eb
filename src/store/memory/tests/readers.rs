//! Readers who look while a report is being taken in.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Tested, project, sub_job};
use crate::domain::{CountFilter, JobId, Status};

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
        let store = Tested::with_step(7);
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
