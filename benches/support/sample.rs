//! Subtasks to measure with, the same in every run: UUIDs as ids, half of them in one project, most jobs small.

/// One subtask.
pub(crate) struct Subtask {
    /// The number of its project, see [`project_id`].
    pub(crate) project: usize,
    pub(crate) job_id: String,
    pub(crate) id: String,
    pub(crate) job_type: &'static str,
    pub(crate) status: &'static str,
}

impl Subtask {
    /// The fields of a report's record, as JSON.
    pub(crate) fn fields(&self) -> String {
        let Self { job_id, id, job_type, status, .. } = self;
        format!(r#""id":"{id}","job_id":"{job_id}","job_type":"{job_type}","status":"{status}""#)
    }
}

/// How many projects there are. The first one has half of the subtasks.
pub(crate) const PROJECTS: usize = 100;

/// Of eight subtasks, six have succeeded.
const STATUSES: [&str; 8] = ["SUCCESS", "SUCCESS", "RUNNING", "SUCCESS", "SUCCESS", "FAILED", "SUCCESS", "SUCCESS"];
const JOB_TYPES: [&str; 4] = ["CREATE_SERVER", "CREATE_SERVER", "DELETE_SERVER", "REINSTALL_OS"];

/// The identifier of a project, as 32 hexadecimal digits.
pub(crate) fn project_id(project: usize) -> String {
    format!("2b31ed520ab14c7bebedb6e5{project:08x}")
}

/// Endless subtasks, job by job. Jobs have 1 to 511 subtasks, each power of two as likely as the next, and 56 on average.
pub(crate) fn skewed() -> impl Iterator<Item = Subtask> {
    let mut random = Random(1);
    std::iter::repeat_with(move || {
        let octave = 1 << random.below(9);
        let size = octave + random.below(octave);
        job(&mut random, size)
    })
    .flatten()
}

/// Endless subtasks, each of a job of its own: the most that a subtask can cost.
pub(crate) fn one_job_each() -> impl Iterator<Item = Subtask> {
    let mut random = Random(1);
    std::iter::repeat_with(move || job(&mut random, 1)).flatten()
}

/// Endless subtasks, each of a project of its own: the most that a project can cost.
pub(crate) fn one_project_each() -> impl Iterator<Item = Subtask> {
    one_job_each().enumerate().map(|(project, subtask)| Subtask { project, ..subtask })
}

fn job(random: &mut Random, size: usize) -> Vec<Subtask> {
    let project = random.below(2) * random.below(PROJECTS);
    let job_id = random.uuid();
    let job_type = JOB_TYPES[random.below(JOB_TYPES.len())];
    let subtask = |_| {
        let status = STATUSES[random.below(STATUSES.len())];
        Subtask { project, job_id: job_id.clone(), id: random.uuid(), job_type, status }
    };
    (0..size).map(subtask).collect()
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        )
    }
}
