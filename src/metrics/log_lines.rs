//! The number of dropped log lines, which the log itself counts.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Opts};

use crate::output::log;

const NAME: &str = "subjobs_log_lines_dropped_total";
const HELP: &str = "Lines of the log that were dropped, since standard error did not take them.";

/// The metric of dropped lines.
pub(super) struct DroppedLines(IntCounter);

impl DroppedLines {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self(IntCounter::with_opts(Opts::new(NAME, HELP))?))
    }
}

impl Collector for DroppedLines {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // A new counter for each scrape, so that concurrent scrapes are both right.
        let Ok(Self(counter)) = Self::new() else { return Vec::new() };
        counter.inc_by(log::dropped_lines());
        counter.collect()
    }
}
