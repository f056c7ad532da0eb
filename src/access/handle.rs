//! The current [`Access`], which a reload replaces as a whole.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};

use super::identity::IdentityService;
use super::public_host::PublicHosts;
use super::{Access, AccessError, PublicHost};
use crate::domain::Clock;
use crate::metrics::{IdentityMetrics, ReloadMetrics};
use crate::reload::{Reload, ReloadOrder};

/// Where an access file's text comes from.
#[derive(Debug, Clone)]
pub enum AccessSource {
    /// A file that each reload reads.
    File(PathBuf),
    /// The text itself, for tests and the demo. A reload changes nothing.
    Text(String),
}

/// Holds the current [`Access`] and reloads it.
#[derive(Debug)]
pub struct AccessHandle {
    source: AccessSource,
    metrics: IdentityMetrics,
    hosts: Arc<PublicHosts>,
    clock: Clock,
    current: ArcSwap<Access>,
    order: ReloadOrder,
    /// Counts successes and failures, once it is set.
    reload_metrics: OnceLock<ReloadMetrics>,
}

impl AccessHandle {
    /// Reads the source for the first time. Signatures are also verified with each of `hosts` in place of Host.
    ///
    /// # Errors
    ///
    /// The source cannot be read, or breaks a rule.
    pub fn open(source: AccessSource, hosts: Vec<PublicHost>, metrics: IdentityMetrics) -> Result<Self, AccessError> {
        Self::open_with_clock(source, hosts, metrics, Clock::default())
    }

    /// The same with a clock by which the tokens of the source expire.
    ///
    /// # Errors
    ///
    /// Those of [`AccessHandle::open`].
    pub fn open_with_clock(
        source: AccessSource,
        hosts: Vec<PublicHost>,
        metrics: IdentityMetrics,
        clock: Clock,
    ) -> Result<Self, AccessError> {
        let hosts = Arc::new(PublicHosts::new(hosts));
        let access = match &source {
            AccessSource::File(path) => Access::read(path)?,
            AccessSource::Text(text) => parse(text)?,
        };
        let access = with_identity_service(access, &source, None, &metrics)?;
        let current = ArcSwap::from_pointee(Access { hosts: hosts.clone(), clock: clock.clone(), ..access });
        let (order, reload_metrics) = (ReloadOrder::default(), OnceLock::new());
        Ok(Self { source, metrics, hosts, clock, current, order, reload_metrics })
    }

    /// Sets the metrics that record reloads; the first read counts as a success.
    pub fn set_reload_metrics(&self, metrics: ReloadMetrics) {
        metrics.reloaded(true);
        // Set once; a second call has no effect.
        let _ = self.reload_metrics.set(metrics);
    }

    /// The current access. A request uses the same one for all its decisions.
    pub fn load(&self) -> Guard<Arc<Access>> {
        self.current.load()
    }

    /// Reads the source and replaces the current access. Returns false if a reload that began later has already finished; then
    /// that one stays current.
    ///
    /// # Errors
    ///
    /// The source cannot be read, or breaks a rule. The current access stays.
    pub fn reload(&self) -> Result<bool, AccessError> {
        let done = self.try_reload();
        self.record_reload(done.is_ok());
        done
    }

    /// Records in the metrics whether a reload succeeded.
    fn record_reload(&self, is_good: bool) {
        if let Some(metrics) = self.reload_metrics.get() {
            metrics.reloaded(is_good);
        }
    }

    fn try_reload(&self) -> Result<bool, AccessError> {
        let number = self.order.begin();
        let access = match &self.source {
            AccessSource::File(path) => Access::reread(path)?,
            AccessSource::Text(text) => parse(text)?,
        };
        self.activate(number, access)
    }

    /// Makes the access of the reload with that number current, unless a later reload has finished.
    pub(super) fn activate(&self, number: u64, access: Access) -> Result<bool, AccessError> {
        self.order.activate(number, || {
            let before = self.current.load_full();
            let access = with_identity_service(access, &self.source, before.service.as_ref(), &self.metrics)?;
            self.current.store(Arc::new(Access { hosts: self.hosts.clone(), clock: self.clock.clone(), ..access }));
            Ok(())
        })
    }
}

impl Reload for AccessHandle {
    fn name(&self) -> &'static str {
        "access file"
    }

    fn reload(&self) -> Result<bool, String> {
        self.reload().map_err(|error| error.to_string())
    }

    fn record_failure(&self) {
        self.record_reload(false);
    }
}

fn parse(text: &str) -> Result<Access, AccessError> {
    Access::parse(text).map_err(|reason| AccessError { path: PathBuf::from("access text"), reason })
}

/// Adds the identity service, if one is configured. The service and its cache are kept if the settings are unchanged.
fn with_identity_service(
    access: Access,
    source: &AccessSource,
    before: Option<&Arc<IdentityService>>,
    metrics: &IdentityMetrics,
) -> Result<Access, AccessError> {
    let Some((settings, _)) = &access.identity else { return Ok(access) };
    let service = match before.filter(|before| before.settings() == settings) {
        Some(before) => before.clone(),
        None => Arc::new(IdentityService::new(settings.clone(), metrics.clone()).map_err(|reason| {
            let path = match source {
                AccessSource::File(path) => path.clone(),
                AccessSource::Text(_) => PathBuf::from("access text"),
            };
            AccessError { path, reason }
        })?),
    };
    Ok(Access { service: Some(service), ..access })
}
