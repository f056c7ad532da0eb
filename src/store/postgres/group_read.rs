//! Group reads: all counts that wait are answered by one round trip, which starts after they have arrived. So a count includes every
//! change that was acknowledged before it arrived, by whatever replica.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout};
use tokio_postgres::{Row, Statement};

use super::connect::{Connection, Purpose, check_again, connect};
use super::error::{ConnectError, ReadError, log_connect_error};
use super::job_hash::JobHash;
use super::pause::pause;
use super::shared::Shared;
use super::statements::{counters_of_jobs, counters_of_projects};
use crate::domain::{CountFilter, JobType, ProjectId, Status, StatusSet};
use crate::store::types::StoreError;

/// How many counts a round trip answers at most.
const MAX_GROUP: usize = 4096;

/// How long a round trip may take until its connection counts as lost.
const TRIP: Duration = Duration::from_millis(1500);

/// The time without a count after which the database is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_millis(300);

/// How often the rights and the schema are checked: a count needs few rights, a report all.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause between two attempts to connect, in milliseconds.
const MAX_BACK_OFF: u64 = 1000;

/// A project, or one of its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) project: ProjectId,
    pub(super) job: Option<JobHash>,
}

impl Key {
    fn order(&self) -> (&str, Option<JobHash>) {
        (self.project.as_str(), self.job)
    }
}

/// The counters of a project or a job, and the project's revision, of one moment.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// 0 if the project has never had a subtask.
    pub(super) revision: u64,
    /// In the order of the types.
    pub(super) counts: Vec<(JobType, [u64; Status::COUNT])>,
}

impl Counters {
    /// How many subtasks match; the job of the filter is that of the counters.
    pub(super) fn count(&self, filter: &CountFilter) -> u64 {
        match filter.status {
            Some(status) => self.sum(filter, |at| at == status as usize),
            None => self.sum(filter, |_| true),
        }
    }

    /// How many subtasks are in one of these statuses and match the rest of the filter.
    pub(super) fn count_in(&self, filter: &CountFilter, statuses: StatusSet) -> u64 {
        let statuses: Vec<usize> = statuses.iter().map(|status| status as usize).collect();
        self.sum(filter, |at| statuses.contains(&at) && filter.status.is_none_or(|status| at == status as usize))
    }

    fn sum(&self, filter: &CountFilter, is_meant: impl Fn(usize) -> bool) -> u64 {
        let of_types = self.counts.iter().filter(|(job_type, _)| filter.job_types.contains(job_type.index()));
        of_types.flat_map(|(_, of)| of.iter().enumerate()).filter(|(at, _)| is_meant(*at)).map(|(_, count)| count).sum()
    }

    /// Adds the numbers of a row, from the column `from` on: the type, then the statuses.
    fn add(&mut self, row: &Row, from: usize, shared: &Shared) -> Result<(), ReadError> {
        let Some(number) = row.try_get::<_, Option<i16>>(from)? else { return Ok(()) };
        let mut counts = [0; Status::COUNT];
        for (at, count) in counts.iter_mut().enumerate() {
            // Only a change of the tables by hand makes a sum negative.
            *count = u64::try_from(row.try_get::<_, i64>(from + 1 + at)?).unwrap_or(0);
        }
        match shared.types.job_type(number) {
            Some(job_type) => self.counts.push((job_type, counts)),
            // Counters of a type that no subtask has any more.
            None if counts == [0; Status::COUNT] => {}
            None => return Err(ReadError::UnknownType(number)),
        }
        Ok(())
    }
}

/// A count that waits.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) key: Key,
    pub(super) reply: oneshot::Sender<Result<Arc<Counters>, StoreError>>,
}

/// The counts that wait, shared by the lanes.
pub(super) type Queue = Arc<Mutex<Receiver<Request>>>;

struct Session {
    connection: Connection,
    of_projects: Statement,
    of_jobs: Statement,
    /// When it was last checked.
    checked: Instant,
}

impl Session {
    async fn open(shared: &Shared) -> Result<Self, ConnectError> {
        let connection = connect(&shared.target, Purpose::Lane).await?;
        let prepared = timeout(TRIP, Self::prepare(connection)).await;
        prepared.unwrap_or_else(|_| Err(ConnectError::Unavailable("statements could not be prepared in time".into())))
    }

    async fn prepare(connection: Connection) -> Result<Self, ConnectError> {
        let failed = |error| ConnectError::of(&error);
        let client = &connection.client;
        let of_projects = client.prepare(&counters_of_projects()).await.map_err(failed)?;
        let of_jobs = client.prepare(&counters_of_jobs()).await.map_err(failed)?;
        Ok(Self { connection, of_projects, of_jobs, checked: Instant::now() })
    }

    async fn is_alive(&self) -> bool {
        matches!(timeout(TRIP, self.connection.client.simple_query("")).await, Ok(Ok(_)))
    }

    /// Fails if the database can no longer be used.
    async fn check(&self) -> Result<(), ConnectError> {
        let checked = timeout(TRIP, check_again(&self.connection.client)).await;
        checked.unwrap_or_else(|_| Err(ConnectError::Unavailable("no answer in time".into())))
    }

    /// Reads the counters of all keys. If the database finds a fault in what it computes, for the keys of the fault alone there are none.
    async fn read_each(
        &self,
        keys: &[Key],
        shared: &Shared,
    ) -> Result<HashMap<Key, Result<Counters, StoreError>>, ReadError> {
        let (mut all, mut parts) = (HashMap::new(), vec![keys]);
        while let Some(part) = parts.pop() {
            match self.read(part, shared).await {
                Ok(read) => all.extend(read),
                Err(error) if is_data_exception(&error) => match part {
                    [key] => {
                        tracing::error!(project = %key.project, %error, "the counts of a project cannot be read");
                        all.insert(key.clone(), Err(StoreError::Unavailable));
                    }
                    part => parts.extend(<[_; 2]>::from(part.split_at(part.len() / 2))),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Reads the counters of all keys, which are sorted, in one round trip.
    async fn read(
        &self,
        keys: &[Key],
        shared: &Shared,
    ) -> Result<HashMap<Key, Result<Counters, StoreError>>, ReadError> {
        let projects: Vec<&str> = keys.iter().filter(|key| key.job.is_none()).map(|key| key.project.as_str()).collect();
        let jobs: Vec<&Key> = keys.iter().filter(|key| key.job.is_some()).collect();
        let of: Vec<&str> = jobs.iter().map(|key| key.project.as_str()).collect();
        let hashes: Vec<JobHash> = jobs.iter().filter_map(|key| key.job).collect();
        let client = &self.connection.client;
        let of_projects = async {
            match &projects[..] {
                [] => Ok(Vec::new()),
                projects => client.query(&self.of_projects, &[&projects]).await,
            }
        };
        let of_jobs = async {
            match &hashes[..] {
                [] => Ok(Vec::new()),
                hashes => client.query(&self.of_jobs, &[&of, &hashes]).await,
            }
        };
        let (of_projects, of_jobs) = join(of_projects, of_jobs).await;
        let mut read = HashMap::new();
        for row in of_projects? {
            let id: &str = row.try_get(0)?;
            let Ok(at) = keys.binary_search_by(|key| key.order().cmp(&(id, None))) else { continue };
            add(read.entry(keys[at].clone()).or_insert_with(|| Ok(Counters::default())), &row, shared)?;
        }
        for row in of_jobs? {
            let ordinal: i64 = row.try_get(0)?;
            let Some(key) = jobs.get(ordinal as usize - 1) else { continue };
            add(read.entry((*key).clone()).or_insert_with(|| Ok(Counters::default())), &row, shared)?;
        }
        Ok(read)
    }
}

/// Whether a statement has failed because of the values of a row.
fn is_data_exception(error: &ReadError) -> bool {
    matches!(error, ReadError::Database(error) if error.code().is_some_and(|code| code.code().starts_with("22")))
}

/// Adds a row: the revision, and the numbers of a type. A type that is not known fails this key alone.
fn add(counters: &mut Result<Counters, StoreError>, row: &Row, shared: &Shared) -> Result<(), ReadError> {
    let Ok(known) = counters else { return Ok(()) };
    known.revision = row.try_get::<_, i64>(1)? as u64;
    match known.add(row, 2, shared) {
        Err(ReadError::UnknownType(number)) => {
            shared.types.log_unknown(number);
            *counters = Err(StoreError::Unavailable);
            Ok(())
        }
        added => added,
    }
}

/// Answers counts until the queue is closed.
pub(super) async fn run(shared: Arc<Shared>, queue: Queue) {
    let (mut session, mut logged, mut back_off) = (None, None, 50);
    // Those whose connection was lost, as after a restart of the database. They are read once more.
    let mut again: Vec<Request> = Vec::new();
    loop {
        let open = match &mut session {
            Some(open) => open,
            None => match Session::open(&shared).await {
                Ok(opened) => {
                    shared.health.note_usable();
                    shared.pace.note_connected();
                    shared.has_reader.notify_one();
                    (logged, back_off) = (None, 50);
                    session.insert(opened)
                }
                Err(error) => {
                    log_connect_error(&error, &mut logged);
                    refuse(again.drain(..));
                    pause(back_off).await;
                    back_off = (back_off * 2).min(MAX_BACK_OFF);
                    continue;
                }
            },
        };
        let is_repeated = !again.is_empty();
        let mut requests = std::mem::take(&mut again);
        if !is_repeated {
            let mut queue = queue.lock().await;
            if let Ok(0) = timeout(PING_INTERVAL, queue.recv_many(&mut requests, MAX_GROUP)).await {
                return;
            }
        }
        // The check is sent after the counts, which do not wait for it.
        let is_due = open.checked.elapsed() >= CHECK_INTERVAL;
        let check = async { if is_due { open.check().await } else { Ok(()) } };
        let (answered, usable) = join(answer(open, requests, &shared), check).await;
        if is_due {
            open.checked = Instant::now();
        }
        let is_answered = answered.is_ok();
        match answered {
            Ok(()) => shared.health.note_answer(),
            Err(unanswered) if is_repeated => refuse(unanswered),
            Err(unanswered) => again = unanswered,
        }
        if let Err(error) = &usable {
            log_connect_error(error, &mut logged);
            if !matches!(error, ConnectError::Unavailable(_)) {
                shared.health.note_refusal();
            }
        }
        if usable.is_err() || !is_answered {
            session = None;
        }
    }
}

fn refuse(requests: impl IntoIterator<Item = Request>) {
    for request in requests {
        // The receiver may have gone.
        let _ = request.reply.send(Err(StoreError::Unavailable));
    }
}

/// Answers a group; asks for a sign of life if there is none. Returns the group if the connection cannot be used any more.
async fn answer(session: &Session, mut requests: Vec<Request>, shared: &Shared) -> Result<(), Vec<Request>> {
    // Those of callers that have gone.
    requests.retain(|request| !request.reply.is_closed());
    if requests.is_empty() {
        return if session.is_alive().await { Ok(()) } else { Err(requests) };
    }
    let begun = Instant::now();
    let mut keys: Vec<Key> = requests.iter().map(|request| request.key.clone()).collect();
    keys.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
    keys.dedup();
    let read = match timeout(TRIP, session.read_each(&keys, shared)).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => {
            tracing::error!(%error, "counts cannot be read");
            return Err(requests);
        }
        Err(_) => return Err(requests),
    };
    let took = begun.elapsed();
    shared.stats.note_read(requests.len(), took);
    shared.pace.note_read(keys.len(), took);
    let in_order = |(key, counters): (Key, Result<Counters, StoreError>)| {
        let counters = counters.map(|mut counters| {
            counters.counts.sort_unstable_by_key(|(job_type, _)| job_type.index());
            Arc::new(counters)
        });
        (key, counters)
    };
    let read: HashMap<Key, Result<Arc<Counters>, StoreError>> = read.into_iter().map(in_order).collect();
    for Request { key, reply } in requests {
        // The receiver may have gone.
        let _ = reply.send(read.get(&key).cloned().unwrap_or_else(|| Ok(Arc::default())));
    }
    Ok(())
}
