//! The server: both listeners, from start to drain.
//!
//! [`Server::bind`] binds both addresses and serves nothing yet; [`Server::run`] serves until it is told to stop.

mod addresses;
mod connection;
mod descriptor_budget;
mod drain;
mod error;
mod fragment;
mod gather;
mod http2;
mod linger;
mod listen_socket;
mod listener;
mod listener_task;
mod passed_sockets;
mod peer_limit;
mod reserve;
mod setup;
mod shutdown;
mod socket;
mod state;
mod test_control;
mod tls;
mod tls_socket;
mod tracked_body;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::addresses::Announcement;
use self::descriptor_budget::DescriptorBudget;
pub use self::error::ServerError;
use self::error::system_error;
use self::listener::BoundListener;
use self::listener_task::ListenerTask;
pub use self::passed_sockets::PassedSockets;
use self::setup::Setup;
use self::shutdown::Shutdown;
use crate::access::AccessHandle;
use crate::api::{self, Api, ConcurrencyLimit};
use crate::config::{Config, ListenAddress};
use crate::demo::{Demo, RunningDemo};
use crate::domain::Clock;
use crate::internal::{self, Internal, ReportLimits, RunningReports, TestOperations};
use crate::load;
use crate::maintenance;
use crate::metrics::{Listener, Metrics};
use crate::overview::Overview;
use crate::page;
use crate::progress::Progress;
use crate::readiness::{Phase, Readiness};
use crate::reload::Reload;
use crate::store::{DataDir, Store};
use crate::web::error::REASONS;
use crate::web::traces::Exporter;
use crate::web::waiters::Waiters;

/// What a listener without a TCP address returns as its address.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A server whose addresses are bound and which serves nothing yet.
pub struct Server {
    config: Config,
    api: Arc<Api>,
    metrics: Arc<Metrics>,
    descriptors: DescriptorBudget,
    reports: Arc<RunningReports>,
    public: BoundListener,
    internal: BoundListener,
    /// Sends spans to a collector, if the configuration names one.
    exporter: Option<Exporter>,
    /// The clock by which subtasks expire.
    clock: Clock,
}

impl Server {
    /// Reads the access file and the certificates, locks the data directory and binds both listeners.
    ///
    /// # Errors
    ///
    /// If the access file or a certificate is invalid, the data directory is in use, an address cannot be bound, or the system has no random
    /// bytes.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        Self::bind_with_sockets(config, PassedSockets::default()).await
    }

    /// The same as [`Server::bind`], but a socket that was passed takes the place of its listener's address.
    ///
    /// # Errors
    ///
    /// Those of [`Server::bind`].
    pub async fn bind_with_sockets(config: Config, sockets: PassedSockets) -> Result<Self, ServerError> {
        let metrics = Arc::new(Metrics::new().map_err(system_error)?);
        let identity = metrics.identity().map_err(system_error)?;
        let job_types = Arc::new(config.job_types.clone());
        let (source, hosts) = (config.access.clone(), config.public_hosts.clone());
        let control = config.ephemeral.as_ref().map(|_| test_control::new(config.retain_finished));
        let clock: Clock = control.as_ref().map(|control| control.clock.clone().into()).unwrap_or_default();
        // On a blocking thread, so that signals are handled meanwhile.
        let of_tokens = clock.clone();
        let access =
            tokio::task::spawn_blocking(move || AccessHandle::open_with_clock(source, hosts, identity, of_tokens));
        let access = access.await?;
        config.warn_about_unknown_variables(access.as_ref().ok());
        let access = Arc::new(access?);
        access.set_reload_metrics(metrics.reload());
        let public_tls = setup::open_tls(&config, &metrics, Listener::Public).await?;
        let internal_tls = setup::open_tls(&config, &metrics, Listener::Internal).await?;
        let store = match (&config.store, &config.data_dir) {
            (Some(target), _) => {
                let (types, lanes) = (config.job_types.clone(), config.store_lanes as usize);
                Store::in_postgres(target.clone(), types, lanes, config.report_timeout)
            }
            (None, Some(path)) => Store::on_disk(DataDir::claim(path)?, config.job_types.clone()),
            (None, None) => Store::in_memory(job_types.len()).with_clock(clock.clone()),
        };
        let (store, readiness) = (Arc::new(store), Arc::<Readiness>::default());
        let overview = Overview::new(store.clone(), metrics.clone(), readiness.clone(), job_types.clone());
        let api = Arc::new(Api {
            store,
            access,
            job_types,
            readiness,
            overview: Arc::new(overview),
            limit: Arc::new(ConcurrencyLimit::new(config.max_in_flight)),
            waiters: Arc::new(Waiters::new(config.max_waiters)),
        });
        metrics.init_error_reasons(&REASONS);
        metrics.set_in_flight_limit(config.max_in_flight);
        let (report_limits, reports) =
            (Arc::new(ReportLimits::new(config.report_timeout)), Arc::<RunningReports>::default());
        let internal = Internal { api: api.clone(), metrics: metrics.clone(), report_limits, reports: reports.clone() };
        let descriptors = DescriptorBudget::of_this_process(&config).map_err(system_error)?;
        let max_connections = descriptors.max_connections(config.max_connections);
        let (traces, exporter) = setup::traces(&config, &metrics)?;
        let setup = Setup { config: &config, metrics: &metrics, max_connections, traces };
        let tests = match (&control, config.allow_reset) {
            (Some(control), _) => TestOperations::All(control.clone()),
            (None, true) => TestOperations::ResetOfProject,
            (None, false) => TestOperations::None,
        };
        let reserve = Some(internal::reserve_operations(&tests));
        let (mut public_operations, internal_operations) = match control {
            Some(control) => (
                test_control::public_operations(&control),
                test_control::internal_operations(&control, &tests, &metrics),
            ),
            None => (api::operations(), internal::operations(&tests)),
        };
        if config.demo.is_some() {
            public_operations.extend(page::operations(Listener::Public, |api: &Arc<Api>| api));
        }
        Ok(Self {
            public: setup
                .listener(Listener::Public, sockets.public, public_operations, None, &*api, public_tls)
                .await?,
            internal: setup
                .listener(Listener::Internal, sockets.internal, internal_operations, reserve, &internal, internal_tls)
                .await?,
            exporter,
            descriptors,
            reports,
            api,
            metrics,
            config,
            clock,
        })
    }

    /// Where the public listener listens.
    pub fn public_address(&self) -> &ListenAddress {
        &self.public.address
    }

    /// Where the internal listener listens.
    pub fn internal_address(&self) -> &ListenAddress {
        &self.internal.address
    }

    /// The address of the public listener. That of a Unix socket is 0.0.0.0:0.
    pub fn public_addr(&self) -> SocketAddr {
        self.public.address.tcp().unwrap_or(NO_ADDRESS)
    }

    /// The address of the internal listener, which has health, metrics and workers' reports. That of a Unix socket is 0.0.0.0:0.
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal.address.tcp().unwrap_or(NO_ADDRESS)
    }

    /// How many connections each listener accepts: the configured number, or fewer if the limit of open files is too low.
    pub fn max_connections(&self) -> usize {
        self.public.max_connections
    }

    /// Who may call. With the handle the access file can be reloaded while the server runs.
    pub fn access(&self) -> Arc<AccessHandle> {
        self.api.access.clone()
    }

    /// The phase of the server.
    pub fn readiness(&self) -> Arc<Readiness> {
        self.api.readiness.clone()
    }

    /// What SIGHUP reloads: the access file and the certificates.
    pub fn reloads(&self) -> Vec<Arc<dyn Reload>> {
        let certificates = [&self.public, &self.internal].into_iter().filter_map(|bound| bound.tls.clone());
        let access: Arc<dyn Reload> = self.api.access.clone();
        [access].into_iter().chain(certificates.map(|tls| tls as Arc<dyn Reload>)).collect()
    }

    /// Serves until `stop` resolves, then drains. Both listeners answer from the start; the public API answers 503 until the
    /// data directory is recovered and the load files are imported. Returns how many running requests the drain aborted.
    ///
    /// # Errors
    ///
    /// If recovery or import fails, or a task of the server panics.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<usize, ServerError> {
        self.log_addresses();
        self.warn_about_settings();
        let announcement = self.announcement()?;
        let Self { config, api, metrics, reports, public, internal, clock, exporter, .. } = self;
        let exporter = exporter.map(Exporter::spawn);
        let is_durable = config.data_dir.is_some() || config.store.is_some();
        let mut demo = config.demo;
        let mut running_demo = None;
        let is_ready_at_start = config.load.is_empty() && !is_durable;
        if is_ready_at_start {
            // Before the first connection is accepted, so that a test never gets 503 from a server it has just started.
            running_demo = become_ready(&api, demo.take(), &announcement)?;
        }
        let (mut public, mut internal) = (ListenerTask::spawn(public), ListenerTask::spawn(internal));
        let work = async {
            if !is_ready_at_start {
                recover_and_import(&api, config.data_dir, config.load).await?;
                running_demo = become_ready(&api, demo, &announcement)?;
            }
            run_background_work(&api.store, &metrics, config.retain_finished, &clock, running_demo).await
        };
        tokio::select! {
            ended = work => ended?,
            never = api.overview.run() => match never {},
            () = stop => {}
            ended = public.wait() => return Ok(ended?),
            ended = internal.wait() => return Ok(ended?),
        }
        let ended =
            Shutdown { api: &api, reports: &reports, public, internal }.run(config.drain_delay, config.drain).await;
        announcement.withdraw();
        if let Some(exporter) = exporter {
            exporter.end().await;
        }
        ended
    }

    fn announcement(&self) -> Result<Announcement, ServerError> {
        let url = |bound: &BoundListener| bound.address.url(bound.tls.is_some());
        let urls = (url(&self.public), url(&self.internal));
        Announcement::prepare(urls, self.config.ephemeral.as_ref(), self.config.addresses_file.clone())
    }

    fn log_addresses(&self) {
        for bound in [&self.public, &self.internal] {
            let tls = bound.tls.is_some().then_some(true);
            tracing::info!(listener = bound.kind.as_str(), address = %bound.address, tls, "listening");
        }
    }

    /// Logs a warning for each setting that an operator may not have meant.
    fn warn_about_settings(&self) {
        if self.config.ephemeral.is_some() {
            tracing::warn!("--ephemeral: for tests only: whoever reaches the internal listener controls the server");
        } else if self.config.data_dir.is_none() && self.config.store.is_none() {
            tracing::warn!("no --data-dir and no --store: a restart loses all subtasks");
        }
        if self.config.allow_reset && self.config.ephemeral.is_none() {
            tracing::warn!("--allow-reset: a worker can delete all subtasks of a project");
        }
        if self.public.max_connections < self.config.max_connections {
            tracing::warn!(
                open_file_limit = self.descriptors.limit,
                reserved_descriptors = self.descriptors.reserved,
                max_connections = self.config.max_connections,
                accepted_by_each_listener = self.public.max_connections,
                "open file limit too low for --max-connections: each listener accepts fewer connections"
            );
        }
    }
}

/// Changes the demo's subtasks, wakes waiting requests and maintains the store. Ends only if a part of it fails.
async fn run_background_work(
    store: &Arc<Store>,
    metrics: &Arc<Metrics>,
    retain_finished: Option<Duration>,
    clock: &Clock,
    demo: Option<RunningDemo>,
) -> Result<(), ServerError> {
    tokio::select! {
        ended = run_demo(store, demo) => ended,
        () = store.wake_watchers() => Ok(()),
        ended = maintenance::run(store, metrics, retain_finished, clock) => Ok(ended?),
    }
}

/// Changes the demo's subtasks, if there is a demo, until the store refuses a change.
async fn run_demo(store: &Store, demo: Option<RunningDemo>) -> Result<(), ServerError> {
    let Some(mut demo) = demo else { return std::future::pending().await };
    loop {
        demo.step(store).await.map_err(system_error)?;
    }
}

/// Recovers the data directory, or connects to the database, then imports the load files, on a blocking thread that stops when this future is dropped.
async fn recover_and_import(api: &Arc<Api>, dir: Option<PathBuf>, files: Vec<PathBuf>) -> Result<(), ServerError> {
    let cancel = CancelOnDrop::default();
    let (store, job_types, flag) = (api.store.clone(), api.job_types.clone(), cancel.0.clone());
    let work = move || {
        // At the usual priority: until the server is ready there is no count to give way to.
        match dir {
            Some(dir) => {
                let mut progress = Progress::of_recovery(&dir);
                store.open(|done, all| progress.set_position(done, all), &flag)?;
                progress.finish();
            }
            None => store.open(|_, _| (), &flag)?,
        }
        Ok(load::load(&files, &store, &job_types, &flag)?)
    };
    tokio::task::spawn_blocking(work).await?
}

/// Adds the demo's subtasks, if configured, makes the server ready, and tells its addresses.
fn become_ready(
    api: &Api,
    demo: Option<Demo>,
    announcement: &Announcement,
) -> Result<Option<RunningDemo>, ServerError> {
    let running = demo.map(|demo| demo.start(&api.store, &api.job_types)).transpose().map_err(system_error)?;
    api.readiness.enter(Phase::Ready);
    tracing::info!("ready");
    announcement.publish()?;
    Ok(running)
}

/// The cancellation flag of the recovering thread, which is set when the future that waits for the thread is dropped.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
