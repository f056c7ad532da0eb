//! The output of a program, line by line.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::support::wait::TEST_DEADLINE;

/// The lines of a stream, which a thread reads.
#[derive(Default)]
pub(crate) struct Lines {
    /// The lines so far, and whether the stream has ended.
    so_far: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Lines {
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let writer = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                writer.so_far.lock().unwrap().0.push(line.unwrap());
                writer.more.notify_all();
            }
            writer.so_far.lock().unwrap().1 = true;
            writer.more.notify_all();
        });
        lines
    }

    /// Waits until `look` finds something in the lines.
    pub(crate) fn await_in<T>(&self, what: &str, look: impl Fn(&[String]) -> Option<T>) -> T {
        let mut found = None;
        let search = |so_far: &mut (Vec<String>, bool)| {
            found = look(&so_far.0);
            found.is_none() && !so_far.1
        };
        let guard = self.more.wait_timeout_while(self.so_far.lock().unwrap(), TEST_DEADLINE, search).unwrap().0;
        found.unwrap_or_else(|| panic!("there is no {what} in\n{}", guard.0.join("\n")))
    }

    /// The lines so far.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.so_far.lock().unwrap().0.clone()
    }

    /// Every line, once the stream has ended.
    pub(crate) fn all(&self) -> Vec<String> {
        let guard = self.so_far.lock().unwrap();
        let (guard, waited) = self.more.wait_timeout_while(guard, TEST_DEADLINE, |so_far| !so_far.1).unwrap();
        assert!(!waited.timed_out(), "the stream goes on");
        guard.0.clone()
    }
}
