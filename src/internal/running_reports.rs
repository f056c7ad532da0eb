//! Counts the reports that are being processed, so that the shutdown can wait for them.

use tokio::sync::watch;

/// The number of reports that are being processed.
#[derive(Debug, Default)]
pub struct RunningReports(watch::Sender<usize>);

impl RunningReports {
    /// Counts one more report until the guard is dropped.
    pub fn begin(&self) -> RunningReport<'_> {
        self.0.send_modify(|running| *running += 1);
        RunningReport(self)
    }

    /// Waits until no report is being processed.
    pub async fn ended(&self) {
        // This fails only if the sender is dropped, and `self` is the sender.
        let _ = self.0.subscribe().wait_for(|running| *running == 0).await;
    }
}

/// Keeps a report counted.
#[derive(Debug)]
pub struct RunningReport<'a>(&'a RunningReports);

impl Drop for RunningReport<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|running| *running -= 1);
    }
}
