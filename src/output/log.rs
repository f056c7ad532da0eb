//! The way of the log to standard error: a bounded queue and one thread that writes it.
//!
//! Whoever logs only appends to the queue. When standard error takes nothing, the queue fills, and further lines are dropped
//! and counted. `tracing-appender` does the same, but the end of its worker prints to standard error itself, which can panic
//! or wait for ever.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::write_some;

/// The most bytes of lines that wait; as many again may be on their way out.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// What is kept free for the last words of a program that fails.
const FATAL_ERROR_BYTES: usize = 64 * 1024;

/// The lines of this process for standard error.
static QUEUE: Queue = Queue::new();

/// Where the log is written; each write is one line, or several.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        QUEUE.push(lines, MAX_QUEUED_BYTES, start_writer);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the reason for which the program ends, which still finds a place when the queue is full.
pub fn write_fatal_error(text: &str) {
    QUEUE.push(text.as_bytes(), MAX_QUEUED_BYTES + FATAL_ERROR_BYTES, start_writer);
}

/// Waits until everything has been written, at most so long.
pub fn flush(at_most: Duration) {
    QUEUE.flush(at_most);
}

/// How many lines have not been written.
pub fn dropped_lines() -> u64 {
    QUEUE.dropped.load(Ordering::Relaxed)
}

/// Starts the thread that writes; without one nothing is written.
fn start_writer() -> bool {
    thread::Builder::new().name("log".into()).spawn(|| QUEUE.run_writer(write)).is_ok()
}

/// Writes one line, or says that a part of it is missing.
fn write(mut line: &[u8]) -> Option<()> {
    while !line.is_empty() {
        match write_some(rustix::stdio::stderr(), line) {
            Ok(0) | Err(_) => return None,
            Ok(written) => line = &line[written..],
        }
    }
    Some(())
}

/// Lines that wait to be written.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    not_empty: Condvar,
    /// Everything has been written.
    idle: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    has_writer: bool,
    /// How many lines did not fit since the last time that a line of the log said so.
    overflowed: u64,
}

impl Queue {
    const fn new() -> Self {
        let state = State { waiting: Vec::new(), is_writing: false, has_writer: false, overflowed: 0 };
        Self { state: Mutex::new(state), not_empty: Condvar::new(), idle: Condvar::new(), dropped: AtomicU64::new(0) }
    }

    /// A panic elsewhere leaves at worst half a line.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends lines if they fit below the limit, and drops them otherwise.
    fn push(&self, lines: &[u8], limit: usize, start_writer: impl FnOnce() -> bool) {
        let mut state = self.state();
        state.has_writer = state.has_writer || start_writer();
        if state.has_writer && state.waiting.len() + lines.len() <= limit {
            state.waiting.extend_from_slice(lines);
            self.not_empty.notify_one();
        } else {
            state.overflowed += count_lines(lines);
            self.dropped.fetch_add(count_lines(lines), Ordering::Relaxed);
        }
    }

    /// Writes line by line for ever, since a pipe keeps a short write whole.
    fn run_writer(&self, mut write: impl FnMut(&[u8]) -> Option<()>) {
        let mut writing = Vec::new();
        loop {
            let overflowed = self.next(&mut writing);
            for line in writing.split_inclusive(|byte| *byte == b'\n') {
                if write(line).is_none() {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            writing.clear();
            if overflowed > 0 {
                tracing::warn!(lines = overflowed, "the log was full: lines were dropped");
            }
        }
    }

    /// Waits for lines and takes all of them; how many did not fit meanwhile.
    fn next(&self, writing: &mut Vec<u8>) -> u64 {
        let mut state = self.state();
        state.is_writing = false;
        while state.waiting.is_empty() {
            self.idle.notify_all();
            state = self.not_empty.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        std::mem::swap(&mut state.waiting, writing);
        std::mem::take(&mut state.overflowed)
    }

    fn flush(&self, at_most: Duration) {
        let is_busy = |state: &mut State| state.has_writer && (state.is_writing || !state.waiting.is_empty());
        // Whether it was long enough changes nothing for whoever ends the program.
        drop(self.idle.wait_timeout_while(self.state(), at_most, is_busy));
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
