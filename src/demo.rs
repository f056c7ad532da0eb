//! The demo: its own token, two projects, and subtasks of every type and status whose statuses change over time.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use crate::access::{Token, random_token};
use crate::domain::{JobId, JobType, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};
use crate::store::{Store, StoreError};

/// The demo's projects.
pub const PROJECTS: [&str; 2] = ["0f5c1e7a9b3d42c68e1f7a2b4c6d8e90", "7c02d94be8f14a5d9c3b6a1e0f2d4c58"];

/// How many subtasks of each type a project has: at first one in every status.
const SUB_JOBS_PER_TYPE: usize = Status::COUNT;

/// The most subtasks in a job.
const JOB_SIZE: usize = 4;

/// The time between two steps.
const STEP_INTERVAL: Duration = Duration::from_millis(500);

/// How many subtasks of a project change in a step.
const MOVES_PER_STEP: usize = 5;

/// The demo before it has started.
#[derive(Clone)]
pub struct Demo {
    token: String,
}

impl std::fmt::Debug for Demo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Demo(…)")
    }
}

impl Demo {
    /// Makes a demo with a random token.
    ///
    /// # Errors
    ///
    /// The system has no random bytes.
    pub fn new() -> io::Result<Self> {
        random_token().map(Self::with_token)
    }

    /// Makes a demo with the given token, which must not be empty.
    pub fn with_token(token: String) -> Self {
        Self { token }
    }

    /// The token of the demo's only principal.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The text of the demo's access file: one account and two projects.
    pub fn access(&self) -> String {
        let digest = Token::new(self.token.as_bytes()).map(|token| token.digest().to_string()).unwrap_or_default();
        format!(
            "projects = {PROJECTS:?}\n\
             [[principal]]\n\
             name = \"demo\"\n\
             kind = \"account\"\n\
             projects = [\"*\"]\n\
             tokens = [{{ sha256 = \"{digest}\" }}]\n"
        )
    }

    /// Stores the subtasks.
    ///
    /// # Errors
    ///
    /// The store refuses them.
    pub fn start(self, store: &Store, job_types: &JobTypes) -> Result<RunningDemo, StoreError> {
        let mut running = RunningDemo { sub_jobs: Vec::new(), random: Random(0x005e_ed0f_de30) };
        for name in PROJECTS {
            // The fixed names are valid project ids.
            let Ok(project) = ProjectId::parse(name) else { continue };
            let batch = sub_jobs(&project, job_types);
            store.report(&project, batch.clone())?;
            running.sub_jobs.push((project, batch));
        }
        Ok(running)
    }
}

/// The initial subtasks of a project.
fn sub_jobs(project: &ProjectId, job_types: &JobTypes) -> Vec<SubJob> {
    let of_type = |job_type: JobType| {
        (0..SUB_JOBS_PER_TYPE).filter_map(move |at| {
            let id = format!("{}-{}-{at}", &project.as_str()[..8], job_type.index());
            let job = format!("{}-{}-job{}", &project.as_str()[..8], job_type.index(), at / JOB_SIZE);
            Some(SubJob {
                id: SubJobId::parse(&id).ok()?,
                job_id: JobId::parse(&job).ok()?,
                job_type,
                status: Status::ALL[at],
                version: Version::default(),
                details: None,
            })
        })
    };
    job_types.iter().flat_map(of_type).collect()
}

/// The demo after it has started.
pub struct RunningDemo {
    sub_jobs: Vec<(ProjectId, Vec<SubJob>)>,
    random: Random,
}

impl RunningDemo {
    /// Waits for half a second, then changes the statuses of five subtasks of each project.
    ///
    /// # Errors
    ///
    /// The store refuses them.
    pub async fn step(&mut self, store: &Store) -> Result<(), StoreError> {
        sleep(STEP_INTERVAL).await;
        for (project, sub_jobs) in &mut self.sub_jobs {
            let batch = (0..MOVES_PER_STEP).map(|_| {
                let at = self.random.below(sub_jobs.len());
                let moved = &mut sub_jobs[at];
                moved.status = next_status(moved.status, &mut self.random);
                // A demo cannot run long enough to reach the largest version.
                moved.version = Version::try_from(moved.version.get() + 1).unwrap_or_default();
                moved.clone()
            });
            store.report(project, batch.collect())?;
        }
        Ok(())
    }
}

/// The status that follows. A subtask that has ended waits again, so that the demo goes on.
fn next_status(status: Status, random: &mut Random) -> Status {
    match status {
        Status::Waiting => Status::Running,
        Status::Running => match random.below(10) {
            0 => Status::Failed,
            1 => Status::Abnormal,
            2 => Status::Rollback,
            3 => Status::Aborting,
            _ => Status::Success,
        },
        Status::Rollback | Status::Aborting => Status::Failed,
        Status::Success | Status::Failed | Status::Abnormal => Status::Waiting,
    }
}

/// SplitMix64: a deterministic generator, so that every demo runs the same way.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::domain::CountFilter;
    use futures_util::FutureExt as _;

    #[test]
    fn the_demo_starts_with_every_type_in_every_status() {
        let (types, store) = (JobTypes::default(), Store::in_memory(JobTypes::default().len()));
        Demo::with_token("t".into()).start(&store, &types).unwrap();
        for job_type in types.iter() {
            for status in Status::ALL {
                assert_eq!(store.total(job_type, status), Ok(2), "{job_type:?} {status}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn statuses_change_and_no_subtask_is_lost() {
        let (types, store) = (JobTypes::default(), Store::in_memory(JobTypes::default().len()));
        let mut running = Demo::with_token("t".into()).start(&store, &types).unwrap();
        let project = ProjectId::parse(PROJECTS[0]).unwrap();
        let by_status = || {
            let filter = |status| CountFilter { status: Some(status), ..CountFilter::default() };
            Status::ALL.map(|status| store.count(&project, &filter(status)).now_or_never().unwrap().unwrap())
        };
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            running.step(&store).await.unwrap();
            assert_eq!(by_status().iter().sum::<u64>(), (types.len() * Status::COUNT) as u64);
            seen.insert(by_status());
        }
        assert!(seen.len() > 100, "the counts hardly change");
    }

    #[tokio::test]
    async fn the_access_file_of_the_demo_is_valid_and_its_token_is_not_printed() {
        let demo = Demo::with_token("secret".into());
        let access = Access::parse(&demo.access()).unwrap();
        let token = Token::new(b"secret").unwrap();
        assert!(access.authenticate(token).await.is_ok());
        assert!(!access.project_exists(&ProjectId::parse("other").unwrap()));
        assert!(!format!("{demo:?}{}", demo.access()).contains("secret"));
        assert_eq!(Demo::new().unwrap().token().len(), 43);
    }
}
