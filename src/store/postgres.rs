//! A store in a PostgreSQL database, which any number of replicas share.
//!
//! - A report goes to a write lane (`lane`): a task with one connection. It takes all changes that wait, locks their rows, plans them
//!   with the rules of every store (`core`), and writes rows and counters in one transaction (`commit`).
//! - A count is read from the counters (`group_read`): one round trip answers all counts that wait.
//! - Lists are read from the rows in a snapshot of the database (`pages`, `image_jobs`).

mod blocked;
mod change;
mod check;
mod columns;
mod commit;
mod connect;
mod error;
mod export;
mod failure;
mod group_read;
mod health;
mod image_jobs;
mod job_hash;
mod lane;
mod lists;
mod locked;
mod migrate;
mod pace;
mod pages;
mod pause;
mod queue;
mod reads;
mod repair;
mod schema;
mod session;
mod shared;
mod statements;
mod stats;
mod target;
mod tasks;
mod turns;
mod types;
mod upkeep;
mod url;
mod watching;
mod writes;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use self::change::{Change, Reply};
pub use self::check::{StoreCheck, check_database};
use self::connect::{Purpose, connect};
pub use self::error::DatabaseError;
use self::error::{ConnectError, ReadError, log_connect_error};
pub use self::export::export_database;
use self::health::Health;
use self::lists::Lists;
pub use self::migrate::{Migrated, migrate};
pub use self::repair::{Repaired, repair_database};
use self::session::Session;
use self::shared::Shared;
pub use self::stats::DatabaseStats;
use self::stats::Stats;
pub use self::target::{Target, TargetError};
use self::tasks::Tasks;
use self::types::TypeNumbers;
pub use self::url::{StoreUrl, StoreUrlError};
use super::core::NotDeletable;
use super::data_dir::OpenError;
use super::end_time::EndTime;
use super::pending::{Deferred, DeferredWork, Pending, Submitted};
use super::types::{Dropped, Outcome, StoreError};
use super::watch::Watches;
use crate::domain::{JobTypeSet, JobTypes, ProjectId, Status, SubJob, SubJobId, Timestamp};

/// How long a statement of the background work may take.
const UPKEEP_LIMIT: Duration = Duration::from_secs(60);

/// How long the end waits for the last statement.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The pause between two attempts to connect at the start.
const OPEN_PAUSE: Duration = Duration::from_millis(200);

/// How long the lease, of 30 s, is not renewed.
const LEASE_RENEWAL: Duration = Duration::from_secs(10);

/// The most subtasks that one [`PostgresStore::expire`] removes.
const EXPIRE_SLICE: usize = 1024;

/// The counts by type and status of all projects, and when they were read.
type Totals = Option<(Instant, Vec<[u64; Status::COUNT]>)>;

/// A store in a database.
#[derive(Debug)]
pub(super) struct PostgresStore {
    target: Target,
    job_types: JobTypes,
    lanes: usize,
    patience: Duration,
    health: Arc<Health>,
    watches: Arc<Watches>,
    stats: Arc<Stats>,
    /// Set when the first connection is there.
    opened: OnceLock<(Tasks, Handle)>,
    lists: Lists,
    upkeep: Session,
    polls: Session,
    recount: Mutex<upkeep::Cursor>,
    /// When the lease was last renewed; `None` if another replica has it.
    lease_renewed: Mutex<Option<Instant>>,
    /// Held by the scrape that reads the totals.
    totals_turn: tokio::sync::Mutex<()>,
    totals: Mutex<Totals>,
    drift: AtomicU64,
}

impl PostgresStore {
    pub(super) fn new(target: Target, job_types: JobTypes, lanes: usize, patience: Duration) -> Self {
        Self {
            target,
            job_types,
            lanes,
            patience,
            health: Arc::default(),
            watches: Arc::default(),
            stats: Arc::default(),
            opened: OnceLock::new(),
            lists: Lists::default(),
            upkeep: Session::default(),
            polls: Session::default(),
            recount: Mutex::default(),
            lease_renewed: Mutex::default(),
            totals_turn: tokio::sync::Mutex::default(),
            totals: Mutex::default(),
            drift: AtomicU64::new(0),
        }
    }

    /// Connects and starts the tasks. While the database cannot be reached, tries again.
    pub(super) fn open(&self, _: impl FnMut(u64, u64), cancelled: &AtomicBool) -> Result<(), OpenError> {
        let handle = Handle::current();
        handle.block_on(async {
            let mut logged = None;
            loop {
                match self.start_tasks().await {
                    Ok(tasks) => {
                        return self.opened.set((tasks, handle.clone())).map_err(|_| StoreError::Broken.into());
                    }
                    Err(ConnectError::Unusable(reason)) => return Err(OpenError::Database(reason)),
                    Err(error) => log_connect_error(&error, &mut logged),
                }
                if cancelled.load(Ordering::Relaxed) {
                    return Err(OpenError::Cancelled);
                }
                sleep(OPEN_PAUSE).await;
            }
        })
    }

    async fn start_tasks(&self) -> Result<Tasks, ConnectError> {
        let mut connection = connect(&self.target, Purpose::Upkeep).await?;
        let types = TypeNumbers::read(&mut connection.client, &self.job_types).await?;
        let (health, watches, stats) = (self.health.clone(), self.watches.clone(), self.stats.clone());
        let (target, patience) = (self.target.clone(), self.patience);
        let (has_lane, has_reader) = (Notify::new(), Notify::new());
        let pace = Arc::default();
        let shared = Shared { target, types, health, watches, stats, pace, has_lane, has_reader, patience };
        Tasks::start(shared, self.lanes).await
    }

    pub(super) fn close(&self) {
        if let Some((tasks, handle)) = self.opened.get() {
            handle.block_on(async {
                tasks.close().await;
                let release = async |client: &mut _| upkeep::release_lease(client, tasks.holder).await;
                // Without an answer the lease expires.
                let _ = self.upkeep.run(&self.target, CLOSE_LIMIT, release).await;
            });
        }
    }

    fn tasks(&self) -> Result<&Tasks, StoreError> {
        self.opened.get().map(|(tasks, _)| tasks).ok_or(StoreError::Unavailable)
    }

    /// Waits on a thread that may block.
    fn block_on<A>(&self, future: impl Future<Output = Result<A, StoreError>>) -> Result<A, StoreError> {
        let (_, handle) = self.opened.get().ok_or(StoreError::Unavailable)?;
        handle.block_on(future)
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.drift() {
            0 if self.health.is_ready() => Ok(()),
            0 => Err(StoreError::Unavailable),
            drift => Err(StoreError::Drifted(drift)),
        }
    }

    pub(super) fn takes_reports(&self) -> bool {
        self.opened.get().is_some() && !self.health.is_down()
    }

    pub(super) fn stats(&self) -> DatabaseStats {
        self.stats.read(self.opened.get().is_some() && !self.health.is_down())
    }

    pub(super) fn unwritten_before(&self) -> Option<Duration> {
        None
    }

    pub(super) fn snapshot(&self) -> bool {
        false
    }

    pub(super) fn drift(&self) -> u64 {
        self.drift.load(Ordering::Relaxed)
    }

    fn pending<A: Send + 'static>(&self, change: impl FnOnce(Reply<A>) -> Change) -> (Change, Pending<A>) {
        let (reply, result) = Reply::new();
        (change(reply), Pending::of_database(result, self.health.watch()))
    }

    /// Enqueues a change without blocking. Returns it if the queue is full. A change that is dropped here is answered with an error.
    fn try_send(&self, change: Change) -> Option<Change> {
        if self.health.is_down() {
            return None;
        }
        let queue = self.tasks().ok().and_then(Tasks::changes)?;
        match queue.try_send(change) {
            Err(TrySendError::Full(change)) => Some(change),
            Ok(()) | Err(TrySendError::Closed(_)) => None,
        }
    }

    /// Enqueues a change; waits while the queue is full, on a thread that may block.
    fn send(&self, change: Change) {
        if let Some(change) = self.try_send(change)
            && let Some(queue) = self.tasks().ok().and_then(Tasks::changes)
        {
            // A change that is not sent is answered with an error.
            let _ = queue.blocking_send(change);
        }
    }

    pub(super) fn report(&self, project: &ProjectId, batch: Vec<SubJob>) -> Result<Outcome, StoreError> {
        let submitted = self.submit(project.clone(), batch);
        self.block_on(submitted.outcome())
    }

    pub(super) fn submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Submitted {
        let (change, pending) = self.pending(|reply| Change::Report { project, batch, only_new: false, reply });
        self.send(change);
        Submitted(pending)
    }

    pub(super) fn try_submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Result<Submitted, Deferred> {
        let (change, pending) = self.pending(|reply| Change::Report { project, batch, only_new: false, reply });
        match self.try_send(change) {
            None => Ok(Submitted(pending)),
            Some(change) => {
                let queue = self.tasks().ok().and_then(Tasks::changes);
                let send = move || drop(queue.map(|queue| queue.blocking_send(change)));
                Err(Deferred { work: DeferredWork::Database(Box::new(send)), pending })
            }
        }
    }

    pub(super) fn submit_deferred(&self, deferred: Deferred) -> Submitted {
        if let DeferredWork::Database(send) = deferred.work {
            send();
        }
        Submitted(deferred.pending)
    }

    pub(super) fn delete(
        &self,
        project: ProjectId,
        ids: Vec<SubJobId>,
        job_types: JobTypeSet,
    ) -> Submitted<Result<u64, NotDeletable>> {
        let (change, pending) = self.pending(|reply| Change::Delete { project, ids, job_types, reply });
        self.send(change);
        Submitted(pending)
    }

    pub(super) fn reset(&self, project: ProjectId) -> Submitted<u64> {
        let (change, pending) = self.pending(|reply| Change::Reset { project, reply });
        self.send(change);
        Submitted(pending)
    }

    /// Looks at the oldest subtasks, whatever `from` and `most` are. Only the replica with the lease does so.
    pub(super) fn expire(&self, age: Duration, now: Timestamp, _: u64, _: u32) -> Result<Dropped, StoreError> {
        let moment = EndTime::new(now.before(age));
        let holder = self.holder()?;
        let due = self.block_on(self.upkeep.run(&self.target, UPKEEP_LIMIT, async |client| {
            match self.has_lease(client, holder).await? {
                true => upkeep::ended_before(client, moment, EXPIRE_SLICE).await,
                false => Ok(Vec::new()),
            }
        }))?;
        let is_all = due.iter().map(|(_, ids)| ids.len()).sum::<usize>() < EXPIRE_SLICE;
        let mut dropped = Dropped { next: u64::from(!is_all), count: 0 };
        for (project, ids) in due {
            let (change, pending) = self.pending(|reply| Change::Expire { project, ids, moment, reply });
            self.send(change);
            dropped.count += self.block_on(pending.get())?;
        }
        Ok(dropped)
    }

    pub(super) fn recount(&self, _: usize) -> Result<Option<u64>, StoreError> {
        let holder = self.holder()?;
        let mut cursor = *self.recount.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.block_on(self.upkeep.run(&self.target, UPKEEP_LIMIT, async |client| {
            // One that has found a mismatch looks itself whether it was mended.
            if self.drift() == 0 && !self.has_lease(client, holder).await? {
                // Another replica recounts, from the beginning.
                return Ok((upkeep::Cursor::default(), Some(0)));
            }
            let found = upkeep::recount_step(client, &mut cursor).await?;
            if found.is_some() {
                upkeep::remove_old_lanes(client).await?;
            }
            Ok((cursor, found))
        }));
        let (cursor, found) = match found {
            Ok(found) => found,
            // It goes on when the database answers again.
            Err(StoreError::Unavailable) => return Ok(None),
            Err(error) => return Err(error),
        };
        *self.recount.lock().unwrap_or_else(PoisonError::into_inner) = cursor;
        // Counters can be repaired while servers run, so the last whole recount decides.
        Ok(found.inspect(|drift| self.drift.store(*drift, Ordering::Relaxed)))
    }

    /// Whether this replica does the background work. The lease is renewed long before it expires.
    async fn has_lease(&self, client: &Client, holder: uuid::Uuid) -> Result<bool, ReadError> {
        let renewed = *self.lease_renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.is_some_and(|renewed| renewed.elapsed() < LEASE_RENEWAL) {
            return Ok(true);
        }
        let is_held = upkeep::renew_lease(client, holder).await?;
        *self.lease_renewed.lock().unwrap_or_else(PoisonError::into_inner) = is_held.then(Instant::now);
        Ok(is_held)
    }

    /// What this replica is called in the lease.
    fn holder(&self) -> Result<uuid::Uuid, StoreError> {
        Ok(self.tasks()?.holder)
    }

    pub(super) fn begin_load(&self) -> Result<bool, OpenError> {
        Ok(false)
    }

    pub(super) fn end_load(&self) -> Result<(), OpenError> {
        Ok(())
    }

    pub(super) fn load(
        &self,
        batches: impl IntoIterator<Item = (ProjectId, Vec<SubJob>)>,
    ) -> Result<Outcome, StoreError> {
        let submit = |(project, batch)| {
            let (change, pending) = self.pending(|reply| Change::Report { project, batch, only_new: true, reply });
            self.send(change);
            pending
        };
        // All are submitted before the first is waited for, so that they share transactions.
        let submitted: Vec<_> = batches.into_iter().map(submit).collect();
        let mut all = Outcome::default();
        for pending in submitted {
            all += self.block_on(pending.get())?;
        }
        Ok(all)
    }
}
