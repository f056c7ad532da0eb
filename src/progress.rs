//! How far loading has come: a bar for people, lines in the log for everybody else.

use std::io::{IsTerminal as _, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is logged.
const EVERY: Duration = Duration::from_secs(1);

/// How many subtasks go by before the clock or the bar is looked at.
const STRIDE: u64 = 4096;

/// The progress of one file.
pub(super) struct Progress {
    file: String,
    size: u64,
    bytes: u64,
    sub_jobs: u64,
    start: Instant,
    logged: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn start(path: &Path) -> Self {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
            let bar = ProgressBar::new(size).with_message(path.display().to_string());
            // The template is right, as the test shows; were it not, the default style would do.
            style.map(|style| bar.set_style(style)).map_or(bar.clone(), |()| bar)
        });
        let now = Instant::now();
        Self { file: path.display().to_string(), size, bytes: 0, sub_jobs: 0, start: now, logged: now, bar }
    }

    /// One more subtask, after so many bytes.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.sub_jobs += 1;
        if !self.sub_jobs.is_multiple_of(STRIDE) {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_position(self.bytes),
            None if self.logged.elapsed() >= EVERY => {
                self.logged = Instant::now();
                let percent = (self.bytes * 100).checked_div(self.size).unwrap_or(100);
                tracing::info!(file = self.file, sub_jobs = self.sub_jobs, percent, "loading");
            }
            None => {}
        }
    }

    pub(super) fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let milliseconds = self.start.elapsed().as_millis() as u64;
        tracing::info!(file = self.file, sub_jobs = self.sub_jobs, milliseconds, "loaded");
    }
}
