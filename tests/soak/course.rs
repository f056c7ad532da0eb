//! The server through all its lives, and what it takes of the machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::caller::Caller;
use crate::support::process::Process;
use crate::support::sample::Random;
use crate::world::World;

/// From one sample to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// What the server took of the machine at some moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) life: u32,
    /// Seconds since that life began.
    pub(crate) age: f64,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) descriptors: usize,
    /// Bytes.
    pub(crate) disk: u64,
    /// How many subtasks are stored.
    pub(crate) sub_jobs: u64,
}

pub(crate) struct Course<'a> {
    world: &'a World,
    command: Box<dyn Fn() -> Command + 'a>,
    data: PathBuf,
    server: Option<Process>,
    born: Instant,
    start: Instant,
    pub(crate) samples: Vec<Sample>,
    /// How often it was ended as an operator does, and killed.
    pub(crate) ends: [u32; 2],
    /// The longest that a start has taken.
    pub(crate) slowest_start: Duration,
    /// The greatest that a recount has found.
    pub(crate) drift: u64,
    /// What the metrics have said of recounts and of subtasks dropped, in all lives before and in this one.
    before: [u64; 2],
    now: [u64; 2],
}

impl<'a> Course<'a> {
    /// Starts the server for the first time.
    pub(crate) fn begin(world: &'a World, data: &Path, command: impl Fn() -> Command + 'a) -> Self {
        let mut course = Self {
            world,
            command: Box::new(command),
            data: data.to_path_buf(),
            server: None,
            born: Instant::now(),
            start: Instant::now(),
            samples: Vec::new(),
            ends: [0; 2],
            slowest_start: Duration::ZERO,
            drift: 0,
            before: [0; 2],
            now: [0; 2],
        };
        course.start();
        course
    }

    fn start(&mut self) {
        let server = Process::start((self.command)());
        self.slowest_start = self.slowest_start.max(server.start);
        self.born = Instant::now();
        self.world.begins(&server);
        self.server = Some(server);
        if let Err(failure) = Caller::to(self.world.life().internal).get("/readyz") {
            self.world.differ(&format!("not ready: {failure}"));
        }
    }

    /// Ends the server, as an operator does or at once.
    pub(crate) fn end(&mut self, at_once: bool) {
        for (before, now) in self.before.iter_mut().zip(&mut self.now) {
            *before += std::mem::take(now);
        }
        self.world.ends();
        let Some(server) = self.server.take() else { return };
        if at_once {
            server.kill();
        } else {
            let status = server.stop();
            if !status.success() {
                self.world.differ(&format!("told to end, it ended with {status}"));
            }
        }
        self.ends[usize::from(at_once)] += 1;
    }

    /// Lets it live until then, or until something differs.
    pub(crate) fn live_until(&mut self, end: Instant) {
        while Instant::now() < end && !self.world.is_done() {
            sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
            self.sample();
        }
    }

    /// Ends and starts it again and again until then, after `seconds` and half as many again at most, in turns as an
    /// operator does and at once.
    pub(crate) fn restart_until(&mut self, end: Instant, seconds: f64, random: &mut Random) {
        loop {
            let life = Duration::from_secs_f64(seconds * (1.0 + random.below(500) as f64 / 1000.0));
            self.live_until(end.min(Instant::now() + life));
            if Instant::now() >= end || self.world.is_done() {
                return;
            }
            let (at_once, number, age) = (self.ends[0] > self.ends[1], self.world.life().number, self.born.elapsed());
            self.end(at_once);
            self.start();
            println!(
                "{:6.1} s: life {number} {} after {:.1} s; ready again within {:.2} s",
                self.start.elapsed().as_secs_f64(),
                if at_once { "killed" } else { "ended" },
                age.as_secs_f64(),
                self.server.as_ref().unwrap().start.as_secs_f64()
            );
        }
    }

    /// Looks at it once; what its metrics say.
    pub(crate) fn sample(&mut self) -> String {
        let (Some(server), life) = (&self.server, self.world.life()) else { return String::new() };
        let text = match Caller::to(life.internal).get("/metrics") {
            Ok(text) => text,
            Err(failure) => {
                self.world.failed(life, &failure);
                return String::new();
            }
        };
        let stored = text.lines().filter(|line| line.starts_with("subjobs_subtasks{"));
        self.samples.push(Sample {
            life: life.number,
            age: self.born.elapsed().as_secs_f64(),
            memory: server.memory()[0],
            descriptors: server.descriptors(),
            // Files come and go meanwhile.
            disk: size(&self.data).unwrap_or_default(),
            sub_jobs: stored.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum(),
        });
        let drift = metric(&text, "subjobs_recount_drift").expect("the drift is among the metrics");
        if drift != 0 {
            self.drift = self.drift.max(drift);
            self.world.differ(&format!("the counts have drifted by {drift}"));
        }
        self.now =
            ["subjobs_recounts_total", "subjobs_expired_total"].map(|series| metric(&text, series).unwrap_or_default());
        text
    }

    /// Recounts, and subtasks dropped.
    pub(crate) fn recounts_and_expired(&self) -> [u64; 2] {
        [self.before[0] + self.now[0], self.before[1] + self.now[1]]
    }
}

/// The value of one series.
pub(crate) fn metric(text: &str, series: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// How much of the disk a directory takes, in bytes.
pub(crate) fn size(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let data = entry.metadata()?;
        sum += if data.is_dir() { size(&entry.path())? } else { 512 * data.blocks() };
    }
    Ok(sum)
}
