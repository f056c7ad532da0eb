//! The access in force, which a reload replaces whole.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::identity::IdentityService;
use super::public_host::PublicHosts;
use super::{Access, AccessError, PublicHost};
use crate::metrics::{IdentityMetrics, ReloadMetrics};

/// Where an access file's text comes from.
#[derive(Debug, Clone)]
pub enum AccessSource {
    /// A file, read again on each reload.
    File(PathBuf),
    /// The text itself, as tests and the demo have it; a reload changes nothing.
    Text(String),
}

/// The access in force.
#[derive(Debug)]
pub struct AccessHandle {
    source: AccessSource,
    metrics: IdentityMetrics,
    hosts: Arc<PublicHosts>,
    current: ArcSwap<Access>,
    /// How many reloads have begun.
    reloads_begun: AtomicU64,
    /// Which of them made what is in force.
    active_reload: Mutex<u64>,
    /// Where it is shown how reloads end.
    reload_metrics: OnceLock<ReloadMetrics>,
}

impl AccessHandle {
    /// Reads the source for the first time. Signatures are also tried with each of `hosts` in place of Host.
    pub fn open(source: AccessSource, hosts: Vec<PublicHost>, metrics: IdentityMetrics) -> Result<Self, AccessError> {
        let hosts = Arc::new(PublicHosts::new(hosts));
        let access = match &source {
            AccessSource::File(path) => Access::read(path)?,
            AccessSource::Text(text) => parse(text)?,
        };
        let access = with_identity_service(access, &source, None, &metrics)?;
        let current = ArcSwap::from_pointee(Access { hosts: hosts.clone(), ..access });
        Ok(Self {
            source,
            metrics,
            hosts,
            current,
            reloads_begun: AtomicU64::new(0),
            active_reload: Mutex::new(0),
            reload_metrics: OnceLock::new(),
        })
    }

    /// Shows from now on how reloads end; the first reading was a good one.
    pub fn set_reload_metrics(&self, metrics: ReloadMetrics) {
        metrics.reloaded(true);
        // A second one would be shown nowhere.
        let _ = self.reload_metrics.set(metrics);
    }

    /// The access in force now; a request holds on to one for as long as it decides.
    pub fn load(&self) -> Guard<Arc<Access>> {
        self.current.load()
    }

    /// Reads the source again. A good one is in force for every later request, a bad one changes nothing. False if a reload
    /// that began later was done earlier, and is in force instead.
    pub fn reload(&self) -> Result<bool, AccessError> {
        let done = self.try_reload();
        self.record_reload(done.is_ok());
        done
    }

    /// Shows how a reload has ended, or that it has not.
    pub(super) fn record_reload(&self, is_good: bool) {
        if let Some(metrics) = self.reload_metrics.get() {
            metrics.reloaded(is_good);
        }
    }

    fn try_reload(&self) -> Result<bool, AccessError> {
        let number = self.reloads_begun.fetch_add(1, Ordering::SeqCst) + 1;
        let access = match &self.source {
            AccessSource::File(path) => Access::reread(path)?,
            AccessSource::Text(text) => parse(text)?,
        };
        self.activate(number, access)
    }

    /// Puts in force what the reload of that number has read, unless a later one has.
    pub(super) fn activate(&self, number: u64, access: Access) -> Result<bool, AccessError> {
        // A number, which a panic cannot leave half changed.
        let mut active_reload = self.active_reload.lock().unwrap_or_else(PoisonError::into_inner);
        if *active_reload > number {
            return Ok(false);
        }
        let before = self.current.load_full();
        let access = with_identity_service(access, &self.source, before.service.as_ref(), &self.metrics)?;
        self.current.store(Arc::new(Access { hosts: self.hosts.clone(), ..access }));
        *active_reload = number;
        Ok(true)
    }
}

fn parse(text: &str) -> Result<Access, AccessError> {
    Access::parse(text).map_err(|reason| AccessError { path: PathBuf::from("access text"), reason })
}

/// With its identity service. What is remembered of the service's answers is kept if its settings are the same as before.
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
