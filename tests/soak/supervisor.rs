//! Starts, stops and kills the server again and again, and samples the memory, descriptors and disk that it uses.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::shared::Shared;
use crate::support::process::Process;
use crate::support::sample::Random;

/// The time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// What the server used at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) instance: u32,
    /// Seconds since that instance was ready.
    pub(crate) age: f64,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) descriptors: usize,
    /// Bytes.
    pub(crate) disk: u64,
    /// How many subtasks are stored.
    pub(crate) sub_jobs: u64,
}

pub(crate) struct Supervisor<'a> {
    shared: &'a Shared,
    command: Box<dyn Fn() -> Command + 'a>,
    data: PathBuf,
    server: Option<Process>,
    /// When the current instance was ready.
    instance_start: Instant,
    soak_start: Instant,
    pub(crate) samples: Vec<Sample>,
    /// How often the server was stopped by a signal.
    pub(crate) stops: u32,
    pub(crate) kills: u32,
    /// The longest time from the start of the process until it was ready.
    pub(crate) slowest_start: Duration,
    /// The greatest mismatch that a recount has found.
    pub(crate) max_mismatch: u64,
    /// Recounts and expired subtasks of all earlier instances, and of the current one, from their metrics.
    earlier: [u64; 2],
    current: [u64; 2],
}

impl<'a> Supervisor<'a> {
    /// Starts the server for the first time.
    pub(crate) fn new(shared: &'a Shared, data: &Path, command: impl Fn() -> Command + 'a) -> Self {
        let mut supervisor = Self {
            shared,
            command: Box::new(command),
            data: data.to_path_buf(),
            server: None,
            instance_start: Instant::now(),
            soak_start: Instant::now(),
            samples: Vec::new(),
            stops: 0,
            kills: 0,
            slowest_start: Duration::ZERO,
            max_mismatch: 0,
            earlier: [0; 2],
            current: [0; 2],
        };
        supervisor.start();
        supervisor
    }

    fn start(&mut self) {
        let server = Process::start((self.command)());
        self.slowest_start = self.slowest_start.max(server.startup_time);
        self.instance_start = Instant::now();
        self.shared.server_started(&server);
        self.server = Some(server);
        if let Err(failure) = Client::new(self.shared.instance().internal).get("/readyz") {
            self.shared.report_mismatch(&format!("not ready: {failure}"));
        }
    }

    /// Stops the server by SIGTERM, or kills it.
    pub(crate) fn stop(&mut self, kill: bool) {
        for (earlier, current) in self.earlier.iter_mut().zip(&mut self.current) {
            *earlier += std::mem::take(current);
        }
        self.shared.server_stopping();
        let Some(server) = self.server.take() else { return };
        if kill {
            server.kill();
            self.kills += 1;
        } else {
            let status = server.stop();
            self.stops += 1;
            if !status.success() {
                self.shared.report_mismatch(&format!("after SIGTERM it exited with {status}"));
            }
        }
    }

    /// Samples the server until `end`, or until a mismatch.
    pub(crate) fn sample_until(&mut self, end: Instant) {
        while Instant::now() < end && !self.shared.is_done() {
            sleep(SAMPLE_INTERVAL.min(end.saturating_duration_since(Instant::now())));
            self.sample();
        }
    }

    /// Restarts the server until `end`, each time after `seconds` to one and a half times as many; stops and kills take
    /// turns.
    pub(crate) fn restart_until(&mut self, end: Instant, seconds: f64, random: &mut Random) {
        loop {
            let uptime = Duration::from_secs_f64(seconds * (1.0 + random.below(500) as f64 / 1000.0));
            self.sample_until(end.min(Instant::now() + uptime));
            if Instant::now() >= end || self.shared.is_done() {
                return;
            }
            let (kill, number, age) =
                (self.stops > self.kills, self.shared.instance().number, self.instance_start.elapsed());
            self.stop(kill);
            self.start();
            println!(
                "{:6.1} s: instance {number} {} after {:.1} s; ready again in {:.2} s",
                self.soak_start.elapsed().as_secs_f64(),
                if kill { "killed" } else { "stopped" },
                age.as_secs_f64(),
                self.server.as_ref().unwrap().startup_time.as_secs_f64()
            );
        }
    }

    /// Takes one sample, and returns the metrics.
    pub(crate) fn sample(&mut self) -> String {
        let (Some(server), instance) = (&self.server, self.shared.instance()) else { return String::new() };
        let text = match Client::new(instance.internal).get("/metrics") {
            Ok(text) => text,
            Err(failure) => {
                self.shared.request_failed(instance, &failure);
                return String::new();
            }
        };
        let stored = text.lines().filter(|line| line.starts_with("subjobs_subtasks{"));
        self.samples.push(Sample {
            instance: instance.number,
            age: self.instance_start.elapsed().as_secs_f64(),
            memory: server.memory()[0],
            descriptors: server.descriptors(),
            // The server adds and removes files meanwhile.
            disk: disk_usage(&self.data).unwrap_or_default(),
            sub_jobs: stored.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum(),
        });
        let mismatch = metric(&text, "subjobs_recount_drift").expect("the metric exists");
        if mismatch != 0 {
            self.max_mismatch = self.max_mismatch.max(mismatch);
            self.shared.report_mismatch(&format!("a recount has found a mismatch of {mismatch}"));
        }
        self.current =
            ["subjobs_recounts_total", "subjobs_expired_total"].map(|series| metric(&text, series).unwrap_or_default());
        text
    }

    /// Recounts and expired subtasks of all instances.
    pub(crate) fn recounts_and_expired(&self) -> [u64; 2] {
        [self.earlier[0] + self.current[0], self.earlier[1] + self.current[1]]
    }
}

/// The value of one series.
pub(crate) fn metric(text: &str, series: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The bytes that a directory takes on the disk.
pub(crate) fn disk_usage(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let data = entry.metadata()?;
        sum += if data.is_dir() { disk_usage(&entry.path())? } else { 512 * data.blocks() };
    }
    Ok(sum)
}
