//! Bounded queues of log lines: the log for standard error, and the access log for standard output. One thread writes each.
//!
//! A thread that logs only appends to the queue. If standard error blocks, the queue fills, and further lines are dropped and
//! counted. `tracing-appender` does the same, but its shutdown prints to standard error, which can panic or block for ever.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::write_some;

/// The most bytes in the queue; the writer thread may hold as many again.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// The bytes that are reserved for the error with which the program ends.
const FATAL_ERROR_BYTES: usize = 64 * 1024;

/// The log of this process.
static QUEUE: Queue = Queue::new();

/// The access log of this process.
static ACCESS_LOG: Queue = Queue::new();

/// The writer for `tracing`; each write is one or several lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        QUEUE.push(lines, MAX_QUEUED_BYTES, || start_writer(&QUEUE, "log", rustix::stdio::stderr));
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Queues the error with which the program ends. It fits even if the queue is full of lines.
pub fn write_fatal_error(text: &str) {
    let start = || start_writer(&QUEUE, "log", rustix::stdio::stderr);
    QUEUE.push(text.as_bytes(), MAX_QUEUED_BYTES + FATAL_ERROR_BYTES, start);
}

/// Queues a line of the access log, which ends with a line feed.
pub fn write_access_line(line: &[u8]) {
    ACCESS_LOG.push(line, MAX_QUEUED_BYTES, || start_writer(&ACCESS_LOG, "access log", rustix::stdio::stdout));
}

/// Waits until each queue has been written, for at most that time.
pub fn flush(at_most: Duration) {
    ACCESS_LOG.flush(at_most);
    QUEUE.flush(at_most);
}

/// The number of lines that were dropped, of both logs.
pub fn dropped_lines() -> u64 {
    QUEUE.dropped.load(Ordering::Relaxed) + ACCESS_LOG.dropped.load(Ordering::Relaxed)
}

/// Starts the thread that writes a queue to a stream; false if there is none.
fn start_writer(queue: &'static Queue, name: &str, stream: fn() -> BorrowedFd<'static>) -> bool {
    let run = move || queue.run_writer(|line| write(stream(), line));
    thread::Builder::new().name(name.into()).spawn(run).is_ok()
}

/// Writes one line; `None` if not all of it could be written.
fn write(stream: BorrowedFd<'_>, mut line: &[u8]) -> Option<()> {
    while !line.is_empty() {
        match write_some(stream, line) {
            Ok(0) | Err(_) => return None,
            Ok(written) => line = &line[written..],
        }
    }
    Some(())
}

/// Lines to be written.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// Signals that the queue has lines.
    not_empty: Condvar,
    /// Signals that all lines have been written.
    idle: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    has_writer: bool,
    /// The number of lines that did not fit since the last warning about it.
    overflowed: u64,
}

impl Queue {
    const fn new() -> Self {
        let state = State { waiting: Vec::new(), is_writing: false, has_writer: false, overflowed: 0 };
        Self { state: Mutex::new(state), not_empty: Condvar::new(), idle: Condvar::new(), dropped: AtomicU64::new(0) }
    }

    /// Locks the state. A panic elsewhere leaves at worst an incomplete line.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends lines if they fit, and drops them otherwise.
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

    /// Writes line by line for ever, because writes of up to `PIPE_BUF` bytes to a pipe are atomic.
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
                tracing::warn!(lines = overflowed, "log lines dropped: the queue was full");
            }
        }
    }

    /// Waits for lines and moves all of them to `writing`. Returns how many did not fit since the last call.
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
        // A time-out is ignored: the program ends in any case.
        drop(self.idle.wait_timeout_while(self.state(), at_most, is_busy));
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
