//! The last ten minutes, in a ring.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::reading::Rates;
use crate::domain::Status;
use crate::metrics::Activity;

/// The time between two samples.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// The most samples that are kept: those of ten minutes.
pub(super) const MAX_SAMPLES: usize = 120;

/// The counters of which the history has rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) reports: u64,
    pub(super) counts: u64,
    pub(super) requests: u64,
    pub(super) refusals: u64,
}

impl Counters {
    pub(super) fn of(activity: &Activity) -> Self {
        let Activity { reports, counts, requests, .. } = *activity;
        Self { reports, counts, requests, refusals: activity.refused() }
    }
}

/// The numbers of one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// How many subtasks are in each status, if that is known.
    pub(super) by_status: Option<[u64; Status::COUNT]>,
    pub(super) counters: Counters,
}

/// The latest samples.
#[derive(Debug)]
pub(super) struct History {
    /// Oldest first, with the rates since the sample before.
    samples: VecDeque<(Sample, Rates)>,
    /// How many samples there have been.
    count: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { samples: VecDeque::with_capacity(MAX_SAMPLES), count: 0 }
    }
}

impl History {
    /// Adds a sample, and removes the oldest if there are too many.
    pub(super) fn push(&mut self, sample: Sample) {
        let rates = match self.samples.back() {
            Some((last, _)) => Rates::between(&last.counters, &sample.counters, sample.at - last.at),
            None => Rates::between(&Counters::default(), &sample.counters, SAMPLE_INTERVAL),
        };
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((sample, rates));
        self.count += 1;
    }

    /// The counters that the rates of `now` begin with, and how long ago they were read: at least one interval, if there are samples
    /// that old. Before the first of them the counters were zero, at `started`.
    pub(super) fn before(&self, now: Instant, started: Instant) -> (Duration, Counters) {
        let is_old = |(sample, _): &&(Sample, Rates)| now - sample.at >= SAMPLE_INTERVAL;
        match self.samples.iter().rev().find(is_old) {
            Some((sample, _)) => (now - sample.at, sample.counters),
            None => (now - started, Counters::default()),
        }
    }

    /// The samples, oldest first.
    pub(super) fn samples(&self) -> impl Iterator<Item = &(Sample, Rates)> {
        self.samples.iter()
    }

    /// How many samples there have been.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, reports: u64) -> Sample {
        Sample { at, by_status: None, counters: Counters { reports, ..Counters::default() } }
    }

    #[test]
    fn the_ring_keeps_ten_minutes() {
        let (mut history, start) = (History::default(), Instant::now());
        for n in 0..200 {
            history.push(sample(start + n * SAMPLE_INTERVAL, n.into()));
        }
        let kept: Vec<_> = history.samples().map(|(sample, _)| sample.counters.reports).collect();
        assert_eq!((kept.len(), kept[0], kept[119]), (MAX_SAMPLES, 80, 199));
        assert_eq!(history.count(), 200);
        assert!(history.samples.capacity() < 2 * MAX_SAMPLES);
    }

    #[test]
    fn rates_begin_with_a_sample_that_is_an_interval_old() {
        let (mut history, start) = (History::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(history.before(start + 3 * second, start), (3 * second, Counters::default()));
        history.push(sample(start + 5 * second, 10));
        history.push(sample(start + 10 * second, 30));
        let before = |seconds| {
            let (since, counters) = history.before(start + seconds * second, start);
            (since.as_secs(), counters.reports)
        };
        assert_eq!(before(9), (9, 0));
        assert_eq!(before(10), (5, 10));
        assert_eq!(before(14), (9, 10));
        assert_eq!(before(15), (5, 30));
        let rates: Vec<_> = history.samples().map(|(_, rates)| rates.reports).collect();
        assert_eq!(rates, [2.0, 4.0]);
    }
}
