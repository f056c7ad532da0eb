//! The progress of long work: a bar on a terminal, otherwise lines in the log.

mod terminal;

use std::io::{IsTerminal as _, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::terminal::Terminal;

/// The time between two lines in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How many records are read between two updates.
const RECORDS_PER_UPDATE: u64 = 4096;

/// The messages of loading: in progress, finished.
const LOADING_MESSAGES: [&str; 2] = ["loading", "loaded"];

/// The bar for a file, in bytes.
const BYTES_TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";

/// The bar for a data directory, in subtasks.
const SUB_JOBS_TEMPLATE: &str = "{msg} {wide_bar} {human_pos}/{human_len} subtasks {eta}";

/// The progress of loading or exporting subtasks.
pub struct Progress {
    /// The messages while it runs and when it is finished.
    messages: [&'static str; 2],
    from: String,
    /// The total, in bytes or in subtasks.
    size: u64,
    position: u64,
    sub_jobs: u64,
    start: Instant,
    logged_at: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts the progress of reading a file, in bytes.
    pub fn of_file(path: &Path) -> Self {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        Self::start(LOADING_MESSAGES, path, size, BYTES_TEMPLATE)
    }

    /// Starts the progress of recovering a data directory, in subtasks.
    pub fn of_recovery(dir: &Path) -> Self {
        Self::start(LOADING_MESSAGES, dir, 0, SUB_JOBS_TEMPLATE)
    }

    /// Starts the progress of exporting a data directory, in subtasks.
    pub fn of_export(dir: &Path) -> Self {
        Self::start(["exporting", "exported"], dir, 0, SUB_JOBS_TEMPLATE)
    }

    fn start(messages: [&'static str; 2], from: &Path, size: u64, template: &str) -> Self {
        let from = from.display().to_string();
        let bar = stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::term_like(Box::new(Terminal));
            let bar = ProgressBar::with_draw_target(Some(size), target).with_message(from.clone());
            // A test holds that the templates are valid; the default style is the fallback.
            let style = ProgressStyle::with_template(template);
            style.map(|style| bar.set_style(style)).map_or(bar.clone(), |()| bar)
        });
        let now = Instant::now();
        Self { messages, from, size, position: 0, sub_jobs: 0, start: now, logged_at: now, bar }
    }

    /// Adds one subtask of a file and the bytes read for it.
    pub fn add(&mut self, bytes: u64) {
        self.position += bytes;
        self.sub_jobs += 1;
        if self.sub_jobs.is_multiple_of(RECORDS_PER_UPDATE) {
            self.update();
        }
    }

    /// Sets the number of finished subtasks and the total.
    pub fn set_position(&mut self, sub_jobs: u64, of: u64) {
        (self.position, self.sub_jobs, self.size) = (sub_jobs, sub_jobs, of);
        if let Some(bar) = &self.bar {
            bar.set_length(of);
        }
        self.update();
    }

    fn update(&mut self) {
        match &self.bar {
            Some(bar) => bar.set_position(self.position),
            None if self.logged_at.elapsed() >= LOG_INTERVAL => {
                self.logged_at = Instant::now();
                let percent = (self.position * 100).checked_div(self.size).unwrap_or(100);
                tracing::info!(from = self.from, sub_jobs = self.sub_jobs, percent, "{}", self.messages[0]);
            }
            None => {}
        }
    }

    /// Removes the bar and logs the number of subtasks and the time.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let duration_seconds = self.start.elapsed().as_secs_f64();
        tracing::info!(from = self.from, sub_jobs = self.sub_jobs, duration_seconds, "{}", self.messages[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [BYTES_TEMPLATE, SUB_JOBS_TEMPLATE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
