//! The metrics of reloading the access file.

use prometheus::IntGauge;

use super::register::metrics;
use super::unix_time;

metrics! {
    /// Whether the last reload of the access file succeeded, and when the last successful one was.
    pub struct ReloadMetrics {
        is_good: IntGauge = "subjobs_access_reload_success" []
            "1 if the last reading of the access file succeeded, the start's included, else 0.",
        last_good: IntGauge = "subjobs_access_last_reload_timestamp_seconds" []
            "When the access file was last read with success, in Unix time.",
    }
}

impl ReloadMetrics {
    /// Records the result of a reload.
    pub fn reloaded(&self, is_good: bool) {
        self.is_good.set(is_good.into());
        if is_good {
            self.last_good.set(unix_time());
        }
    }
}
