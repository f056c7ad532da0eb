//! The access in force, which a reload replaces whole.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::identity::Identity;
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
    begun: AtomicU64,
    /// Which of them made what is in force.
    in_force: Mutex<u64>,
    /// Where it is shown how reloads end.
    reloads: OnceLock<ReloadMetrics>,
}

impl AccessHandle {
    /// Reads the source for the first time. Signatures are also tried with each of `hosts` in place of Host.
    pub fn open(source: AccessSource, hosts: Vec<PublicHost>, metrics: IdentityMetrics) -> Result<Self, AccessError> {
        let hosts = Arc::new(PublicHosts::new(hosts));
        let access = match &source {
            AccessSource::File(path) => Access::read(path)?,
            AccessSource::Text(text) => parse(text)?,
        };
        let access = connected(access, &source, None, &metrics)?;
        let current = ArcSwap::from_pointee(Access { hosts: hosts.clone(), ..access });
        Ok(Self {
            source,
            metrics,
            hosts,
            current,
            begun: AtomicU64::new(0),
            in_force: Mutex::new(0),
            reloads: OnceLock::new(),
        })
    }

    /// Shows from now on how reloads end; the first reading was a good one.
    pub fn show_reloads(&self, metrics: ReloadMetrics) {
        metrics.reloaded(true);
        // A second one would be shown nowhere.
        let _ = self.reloads.set(metrics);
    }

    /// The access in force now; a request holds on to one for as long as it decides.
    pub fn load(&self) -> Guard<Arc<Access>> {
        self.current.load()
    }

    /// Reads the source again. A good one is in force for every later request, a bad one changes nothing. False if a reload
    /// that began later was done earlier, and is in force instead.
    pub fn reload(&self) -> Result<bool, AccessError> {
        let done = self.try_reload();
        self.show_reload(done.is_ok());
        done
    }

    /// Shows how a reload has ended, or that it has not.
    pub(super) fn show_reload(&self, is_good: bool) {
        if let Some(metrics) = self.reloads.get() {
            metrics.reloaded(is_good);
        }
    }

    fn try_reload(&self) -> Result<bool, AccessError> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let access = match &self.source {
            AccessSource::File(path) => Access::read_again(path)?,
            AccessSource::Text(text) => parse(text)?,
        };
        self.put_in_force(number, access)
    }

    /// Puts in force what the reload of that number has read, unless a later one has.
    pub(super) fn put_in_force(&self, number: u64, access: Access) -> Result<bool, AccessError> {
        // A number, which a panic cannot leave half changed.
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if *in_force > number {
            return Ok(false);
        }
        let before = self.current.load_full();
        let access = connected(access, &self.source, before.service.as_ref(), &self.metrics)?;
        self.current.store(Arc::new(Access { hosts: self.hosts.clone(), ..access }));
        *in_force = number;
        Ok(true)
    }
}

fn parse(text: &str) -> Result<Access, AccessError> {
    Access::parse(text).map_err(|reason| AccessError { path: PathBuf::from("access text"), reason })
}

/// With its identity service. What is remembered of the service's answers is kept if its settings are the same as before.
fn connected(
    access: Access,
    source: &AccessSource,
    before: Option<&Arc<Identity>>,
    metrics: &IdentityMetrics,
) -> Result<Access, AccessError> {
    let Some((settings, _)) = &access.identity else { return Ok(access) };
    let service = match before.filter(|before| before.settings() == settings) {
        Some(before) => before.clone(),
        None => Arc::new(Identity::new(settings.clone(), metrics.clone()).map_err(|reason| {
            let path = match source {
                AccessSource::File(path) => path.clone(),
                AccessSource::Text(_) => PathBuf::from("access text"),
            };
            AccessError { path, reason }
        })?),
    };
    Ok(Access { service: Some(service), ..access })
}
