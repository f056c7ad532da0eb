//! The tasks of an open store: the lanes, the readers, the measurement of silence.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::change::Change;
use super::error::ConnectError;
use super::group_read;
use super::lane::Lane;
use super::queue::Queue;
use super::shared::Shared;
use crate::priority;

/// How many changes may wait. More senders wait or are answered later.
const CHANGES: usize = 1024;

/// How many counts may wait. Further ones are refused.
const COUNTS: usize = 16 * 1024;

/// The connections that answer counts: two, so that a group can form while another is read.
const READERS: usize = 2;

/// How long the first connections of the tasks may take.
const START_LIMIT: Duration = Duration::from_secs(10);

/// An open store.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) shared: Arc<Shared>,
    pub(super) counts: mpsc::Sender<group_read::Request>,
    /// `None` once the store is closed.
    changes: std::sync::Mutex<Option<mpsc::Sender<Change>>>,
    lanes: std::sync::Mutex<JoinSet<()>>,
    _lane_threads: LaneThreads,
    /// Ends the others when it is dropped.
    _others: JoinSet<()>,
    /// What this replica is called in the lease.
    pub(super) holder: uuid::Uuid,
}

impl Tasks {
    /// Starts the tasks of a store with that many write lanes.
    ///
    /// # Errors
    ///
    /// If the database cannot be used or reached, or the system has no random bytes.
    pub(super) async fn start(shared: Shared, lanes: usize) -> Result<Self, ConnectError> {
        let shared = Arc::new(shared);
        let (changes, received) = mpsc::channel(CHANGES);
        let queue = Queue::new(received, shared.pace.clone());
        let (lane_threads, mut write) = (LaneThreads::start(lanes.max(1))?, JoinSet::new());
        for _ in 0..lanes.max(1) {
            let lane = Lane::new(shared.clone(), random_id()?);
            write.spawn_on(lane.run(queue.clone()), &lane_threads.handle);
        }
        let (counts, received) = mpsc::channel(COUNTS);
        let queue = Arc::new(Mutex::new(received));
        let mut others = JoinSet::new();
        for _ in 0..READERS {
            others.spawn(group_read::run(shared.clone(), queue.clone()));
        }
        // A request that comes at once must not wait for a connection.
        let connected = join(shared.has_lane.notified(), shared.has_reader.notified());
        let in_time = timeout(START_LIMIT, connected).await;
        in_time.map_err(|_| ConnectError::Unavailable("the lanes could not connect in time".into()))?;
        let health = shared.health.clone();
        others.spawn(async move { health.run().await });
        let (changes, lanes) = (std::sync::Mutex::new(Some(changes)), std::sync::Mutex::new(write));
        Ok(Self { shared, counts, changes, lanes, _lane_threads: lane_threads, _others: others, holder: random_id()? })
    }

    /// The queue of changes; `None` once the store is closed.
    pub(super) fn changes(&self) -> Option<mpsc::Sender<Change>> {
        self.changes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Refuses changes from now on, and waits until those that wait are committed.
    pub(super) async fn close(&self) {
        drop(self.changes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        lanes.join_all().await;
    }
}

/// The threads of the write lanes. A transaction of thousands of subtasks takes some milliseconds of a core, in which no count of
/// the same thread would be answered.
#[derive(Debug)]
struct LaneThreads {
    handle: Handle,
    /// There until the drop.
    runtime: Option<Runtime>,
}

impl LaneThreads {
    fn start(lanes: usize) -> Result<Self, ConnectError> {
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(lanes).thread_name("lane").on_thread_start(priority::lower).enable_all();
        let runtime = threads.build().map_err(|error| ConnectError::Unavailable(format!("no threads: {error}")))?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for LaneThreads {
    fn drop(&mut self) {
        // Without waiting, which a task must not do.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// A random identifier.
pub(super) fn random_id() -> Result<uuid::Uuid, ConnectError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ConnectError::Unavailable(format!("no random bytes: {error}")))?;
    Ok(uuid::Uuid::from_bytes(bytes))
}
