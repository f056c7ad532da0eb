//! How many reports are being taken in, so that the end can wait for them.

use tokio::sync::watch;

/// The reports that run.
#[derive(Debug, Default)]
pub struct RunningReports(watch::Sender<usize>);

impl RunningReports {
    /// One more, until it is dropped.
    pub fn begin(&self) -> RunningReport<'_> {
        self.0.send_modify(|running| *running += 1);
        RunningReport(self)
    }

    /// Waits until none runs.
    pub async fn ended(&self) {
        // It fails only without a sender, which this is.
        let _ = self.0.subscribe().wait_for(|running| *running == 0).await;
    }
}

/// A report that runs.
#[derive(Debug)]
pub struct RunningReport<'a>(&'a RunningReports);

impl Drop for RunningReport<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|running| *running -= 1);
    }
}
