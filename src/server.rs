//! The server: both listeners, from start to drain.
//!
//! [`Server::bind`] binds both addresses and serves nothing yet; [`Server::run`] serves until it is told to stop.

mod connection;
mod descriptor_budget;
mod drain;
mod fragment;
mod listener;
mod peer_limit;
mod reserve;
mod setup;
mod socket;
mod state;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::descriptor_budget::DescriptorBudget;
use self::drain::Drain;
use self::listener::BoundListener;
use self::setup::Setup;
use crate::access::{AccessError, AccessHandle};
use crate::api::{self, Api, ConcurrencyLimit};
use crate::config::Config;
use crate::demo::{Demo, RunningDemo};
use crate::internal::{self, Internal, ReportLimits, RunningReports};
use crate::load::{self, LoadError};
use crate::maintenance;
use crate::metrics::{Listener, Metrics};
use crate::progress::Progress;
use crate::readiness::Phase;
use crate::store::{DataDir, OpenError, Store};
use crate::web::error::REASONS;
use crate::web::waiters::Waiters;

/// How long shutdown waits for background work of the store, for example a snapshot.
const STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a server could not start or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The access file is invalid or cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A load file is invalid or cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("{option}: cannot listen on {address}: {cause}")]
    Bind {
        /// The option and the environment variable that set the address.
        option: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
    /// The system refuses something that the server needs.
    #[error("cannot start: {0}")]
    System(String),
    /// A task of the server has panicked. The server stops, since the other tasks need it.
    #[error("a server task panicked: {0}")]
    Crashed(#[from] JoinError),
}

/// A server whose addresses are bound and which serves nothing yet.
pub struct Server {
    config: Config,
    api: Arc<Api>,
    metrics: Arc<Metrics>,
    descriptors: DescriptorBudget,
    reports: Arc<RunningReports>,
    public: BoundListener,
    internal: BoundListener,
}

impl Server {
    /// Reads the access file, locks the data directory and binds both listeners.
    ///
    /// # Errors
    ///
    /// If the access file is invalid, the data directory is in use, an address cannot be bound, or the system has no random
    /// bytes.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let metrics = Arc::new(Metrics::new().map_err(system_error)?);
        let identity = metrics.identity().map_err(system_error)?;
        let job_types = Arc::new(config.job_types.clone());
        let (source, hosts) = (config.access.clone(), config.public_hosts.clone());
        // On a blocking thread, so that signals are handled meanwhile.
        let access = tokio::task::spawn_blocking(move || AccessHandle::open(source, hosts, identity));
        let access = access.await?;
        config.warn_about_unknown_variables(access.as_ref().ok());
        let access = Arc::new(access?);
        access.set_reload_metrics(metrics.reload());
        if config.store.is_some() {
            return Err(ServerError::System("this version cannot serve from a database yet".into()));
        }
        let store = match &config.data_dir {
            Some(path) => Store::on_disk(DataDir::claim(path)?, config.job_types.clone()),
            None => Store::in_memory(job_types.len()),
        };
        let api = Arc::new(Api {
            store: Arc::new(store),
            access,
            job_types,
            readiness: Arc::default(),
            limit: Arc::new(ConcurrencyLimit::new(config.max_in_flight)),
            waiters: Arc::new(Waiters::new(config.max_waiters)),
        });
        metrics.init_error_reasons(&REASONS);
        metrics.set_in_flight_limit(config.max_in_flight);
        let (report_limits, reports) =
            (Arc::new(ReportLimits::new(config.report_timeout)), Arc::<RunningReports>::default());
        let internal =
            Arc::new(Internal { api: api.clone(), metrics: metrics.clone(), report_limits, reports: reports.clone() });
        let descriptors = DescriptorBudget::of_this_process(config.data_dir.is_some()).map_err(system_error)?;
        let max_connections = descriptors.max_connections(config.max_connections);
        let setup = Setup { config: &config, metrics: &metrics, max_connections };
        let reserve = Some(internal::reserve_operations(config.allow_reset));
        Ok(Self {
            public: setup.listener(Listener::Public, api::operations(), None, api.clone()).await?,
            internal: setup
                .listener(Listener::Internal, internal::operations(config.allow_reset), reserve, internal)
                .await?,
            descriptors,
            reports,
            api,
            metrics,
            config,
        })
    }

    /// The address of the public listener.
    pub fn public_addr(&self) -> SocketAddr {
        self.public.address
    }

    /// The address of the internal listener, which has health, metrics and workers' reports.
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal.address
    }

    /// How many connections each listener accepts: the configured number, or fewer if the limit of open files is too low.
    pub fn max_connections(&self) -> usize {
        self.public.max_connections
    }

    /// Who may call. With the handle the access file can be reloaded while the server runs.
    pub fn access(&self) -> Arc<AccessHandle> {
        self.api.access.clone()
    }

    /// Serves until `stop` resolves, then drains. Both listeners answer from the start; the public API answers 503 until the
    /// data directory is recovered and the load files are imported. Returns how many running requests the drain aborted.
    ///
    /// # Errors
    ///
    /// If recovery or import fails, or a task of the server panics.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<usize, ServerError> {
        let Self { config, api, metrics, descriptors, reports, public, internal } = self;
        for bound in [&public, &internal] {
            tracing::info!(listener = bound.kind.as_str(), address = %bound.address, "listening");
        }
        let is_on_disk = config.data_dir.is_some();
        if !is_on_disk {
            tracing::warn!("no --data-dir: a restart loses all subtasks");
        }
        if config.allow_reset {
            tracing::warn!("--allow-reset: a worker can delete all subtasks of a project");
        }
        if public.max_connections < config.max_connections {
            tracing::warn!(
                open_file_limit = descriptors.limit,
                reserved_descriptors = descriptors.reserved,
                max_connections = config.max_connections,
                accepted_by_each_listener = public.max_connections,
                "open file limit too low for --max-connections: each listener accepts fewer connections"
            );
        }

        let mut demo = config.demo;
        let mut demo_run = None;
        let is_ready_at_start = config.load.is_empty() && !is_on_disk;
        if is_ready_at_start {
            // Before the first connection is accepted, so that a test never gets 503 from a server it has just started.
            demo_run = become_ready(&api, demo.take())?;
        }
        let (public_drain, internal_drain) = (Arc::<Drain>::default(), Arc::<Drain>::default());
        let mut public = AbortOnDrop(tokio::spawn(public.serve(public_drain.clone())));
        let mut internal = AbortOnDrop(tokio::spawn(internal.serve(internal_drain.clone())));

        tokio::pin!(stop);
        let work = async {
            if !is_ready_at_start {
                recover_and_import(&api, config.data_dir, config.load).await?;
                demo_run = become_ready(&api, demo)?;
            }
            let demo_run = async {
                match demo_run {
                    Some(mut demo_run) => loop {
                        demo_run.step(&api.store).await.map_err(system_error)?;
                    },
                    None => std::future::pending::<Result<(), ServerError>>().await,
                }
            };
            tokio::select! {
                ended = demo_run => ended,
                () = api.store.wake_watchers() => Ok(()),
                ended = maintenance::run(&api.store, &metrics, config.retain_finished) => Ok(ended?),
            }
        };
        tokio::select! {
            ended = work => ended?,
            () = &mut stop => {}
            crashed = &mut public.0 => return Ok(crashed?),
            crashed = &mut internal.0 => return Ok(crashed?),
        }

        let (delay_seconds, timeout_seconds) = (config.drain_delay.as_secs_f64(), config.drain.as_secs_f64());
        tracing::info!(delay_seconds, timeout_seconds, "draining");
        api.readiness.enter(Phase::Draining);
        api.store.end_watches();
        public_drain.announce();
        sleep(config.drain_delay).await;
        // One deadline for both listeners, so that `--drain` bounds the whole drain.
        let deadline = Instant::now() + config.drain;
        public_drain.begin(deadline);
        let aborted = (&mut public.0).await?;
        // From here on new reports get 503, and running ones may finish.
        api.readiness.enter(Phase::Ending);
        let _ = timeout_at(deadline, reports.ended()).await;
        close_store(api.store.clone()).await?;
        // The internal listener ends last, so that health and metrics are answered during the drain.
        internal_drain.begin(deadline);
        let aborted = aborted + (&mut internal.0).await?;
        if aborted > 0 {
            tracing::warn!(aborted, "drain timed out: running requests were aborted");
        }
        tracing::info!("stopped");
        Ok(aborted)
    }
}

/// A listener's task, which is aborted when the future of [`Server::run`] is dropped.
struct AbortOnDrop(JoinHandle<usize>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Recovers the data directory, then imports the load files, on a blocking thread that stops when this future is dropped.
async fn recover_and_import(api: &Arc<Api>, dir: Option<PathBuf>, files: Vec<PathBuf>) -> Result<(), ServerError> {
    let cancel = CancelOnDrop::default();
    let (store, job_types, flag) = (api.store.clone(), api.job_types.clone(), cancel.0.clone());
    let work = move || {
        // At the usual priority: until the server is ready there is no count to give way to.
        if let Some(dir) = dir {
            let mut progress = Progress::of_recovery(&dir);
            store.open(|done, all| progress.set_position(done, all), &flag)?;
            progress.finish();
        }
        Ok(load::load(&files, &store, &job_types, &flag)?)
    };
    tokio::task::spawn_blocking(work).await?
}

/// Adds the demo's subtasks, if configured, and makes the server ready.
fn become_ready(api: &Api, demo: Option<Demo>) -> Result<Option<RunningDemo>, ServerError> {
    let running = demo.map(|demo| demo.start(&api.store, &api.job_types)).transpose().map_err(system_error)?;
    api.readiness.enter(Phase::Ready);
    tracing::info!("ready");
    Ok(running)
}

/// Closes the store on a blocking thread, for at most [`STORE_CLOSE_TIMEOUT`].
async fn close_store(store: Arc<Store>) -> Result<(), ServerError> {
    let closed = tokio::task::spawn_blocking(move || store.close());
    match timeout(STORE_CLOSE_TIMEOUT, closed).await {
        Ok(closed) => closed?,
        // All acknowledged reports are on disk already, so ending the process now loses none.
        Err(_) => {
            tracing::warn!(after_seconds = STORE_CLOSE_TIMEOUT.as_secs_f64(), "closing the data directory timed out");
        }
    }
    Ok(())
}

fn system_error(error: impl ToString) -> ServerError {
    ServerError::System(error.to_string())
}

/// The cancellation flag of the recovering thread, which is set when the future that waits for the thread is dropped.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
