//! How far something long has come: a bar for people, lines in the log for everybody else.

mod terminal;

use std::io::{IsTerminal as _, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::terminal::Terminal;

/// How often a line is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How many subtasks of a file go by before the clock or the bar is looked at.
const RECORDS_PER_UPDATE: u64 = 4096;

/// What the log calls it to take subtasks in.
const LOADING_MESSAGES: [&str; 2] = ["loading", "loaded"];

/// The bar of reading a file.
const BYTES_TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";

/// The bar of anything else.
const SUB_JOBS_TEMPLATE: &str = "{msg} {wide_bar} {human_pos}/{human_len} subtasks {eta}";

/// The progress of taking subtasks in, or out.
pub struct Progress {
    /// How the log calls it while it goes on, and in the end.
    messages: [&'static str; 2],
    from: String,
    /// How far it goes, in bytes or in subtasks.
    size: u64,
    position: u64,
    sub_jobs: u64,
    start: Instant,
    logged_at: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of reading a file, measured in bytes.
    pub fn of_file(path: &Path) -> Self {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        Self::start(LOADING_MESSAGES, path, size, BYTES_TEMPLATE)
    }

    /// Of taking in a data directory, measured in subtasks.
    pub fn of_recovery(dir: &Path) -> Self {
        Self::start(LOADING_MESSAGES, dir, 0, SUB_JOBS_TEMPLATE)
    }

    /// Of writing down a data directory, measured in subtasks.
    pub fn of_export(dir: &Path) -> Self {
        Self::start(["exporting", "exported"], dir, 0, SUB_JOBS_TEMPLATE)
    }

    fn start(messages: [&'static str; 2], from: &Path, size: u64, template: &str) -> Self {
        let from = from.display().to_string();
        let bar = stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::term_like(Box::new(Terminal));
            let bar = ProgressBar::with_draw_target(Some(size), target).with_message(from.clone());
            // The templates are right, as the test shows; were they not, the default style would do.
            let style = ProgressStyle::with_template(template);
            style.map(|style| bar.set_style(style)).map_or(bar.clone(), |()| bar)
        });
        let now = Instant::now();
        Self { messages, from, size, position: 0, sub_jobs: 0, start: now, logged_at: now, bar }
    }

    /// One more subtask of a file, after so many bytes.
    pub fn add(&mut self, bytes: u64) {
        self.position += bytes;
        self.sub_jobs += 1;
        if self.sub_jobs.is_multiple_of(RECORDS_PER_UPDATE) {
            self.update();
        }
    }

    /// So many subtasks of so many.
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

    /// All of it is done; how many subtasks it was stands in the log.
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
    fn the_templates_are_right() {
        for template in [BYTES_TEMPLATE, SUB_JOBS_TEMPLATE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
