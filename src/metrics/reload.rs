//! The metrics of reading the access file again.

use prometheus::{IntGauge, Registry};

use super::register::Registrar;
use super::unix_time;

/// How the last reading of the access file ended, and when the last good one was.
#[derive(Debug, Clone)]
pub struct ReloadMetrics {
    is_good: IntGauge,
    last_good: IntGauge,
}

impl ReloadMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let new = Registrar(registry);
        Ok(Self {
            is_good: new.gauge(
                "subjobs_access_reload_success",
                "1 if the last reading of the access file succeeded, the start's included, else 0.",
            )?,
            last_good: new.gauge(
                "subjobs_access_last_reload_timestamp_seconds",
                "When the access file was last read with success, in Unix time.",
            )?,
        })
    }

    /// Notes how a reading has ended.
    pub fn reloaded(&self, is_good: bool) {
        self.is_good.set(is_good.into());
        if is_good {
            self.last_good.set(unix_time());
        }
    }
}
