//! What an operator sees at one look: how many subtasks there are of each type in each status, what the server does, and whether
//! it is well; now, and over the last ten minutes.
//!
//! [`Overview::run`] keeps the history, and publishes readings while somebody follows them. Without a viewer it costs one sample
//! every five seconds, and no query of a database.

mod history;
mod json;
mod reading;
mod state;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use self::history::{Counters, History, SAMPLE_INTERVAL, Sample};
pub use self::json::OverviewJson;
pub use self::reading::{Rates, Reading};
pub use self::state::State;
use crate::domain::JobTypes;
use crate::metrics::Metrics;
use crate::readiness::{Phase, Readiness};
use crate::store::{Store, StoreKind, Totals};
use crate::web::error::Unavailable;

/// The shortest time between two published readings.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// The most callers that follow the readings at once.
const MAX_FOLLOWERS: usize = 64;

/// How long after a request for a reading the totals of a database are sampled.
const LOOK_TIME: Duration = Duration::from_secs(15);

/// The source of readings, and their history.
#[derive(Debug)]
pub struct Overview {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    job_types: Arc<JobTypes>,
    started: Instant,
    started_at: Timestamp,
    history: Mutex<History>,
    published: watch::Sender<Option<Published>>,
    /// Notified when somebody begins to follow.
    followed: Notify,
    /// When a reading was last asked for, in milliseconds since the start; 0 before that.
    looked_at: AtomicU64,
}

/// A reading as JSON.
#[derive(Debug, Clone)]
pub struct Published {
    /// The JSON object.
    pub json: Bytes,
    /// The same without its history.
    pub json_without_history: Bytes,
    /// The number of the last sample in the history.
    pub sample: u64,
    /// When it was published.
    at: Instant,
    /// Whether no other follows, because the server drains.
    pub is_last: bool,
    /// The tag of what it says, apart from the moment.
    pub tag: u64,
}

impl Overview {
    /// The overview of a server that starts now.
    pub fn new(store: Arc<Store>, metrics: Arc<Metrics>, readiness: Arc<Readiness>, job_types: Arc<JobTypes>) -> Self {
        Self {
            store,
            metrics,
            readiness,
            job_types,
            started: Instant::now(),
            started_at: Timestamp::now(),
            history: Mutex::default(),
            published: watch::Sender::new(None),
            followed: Notify::new(),
            looked_at: AtomicU64::new(0),
        }
    }

    /// The state of the server now.
    pub async fn read(&self) -> Reading {
        self.looked_at.store(self.started.elapsed().as_millis().max(1) as u64, Ordering::Relaxed);
        self.store.refresh_totals().await;
        self.reading()
    }

    /// The JSON object of a reading, with the history.
    pub fn to_json(&self, reading: &Reading) -> OverviewJson {
        OverviewJson::new(reading, &self.history(), self)
    }

    /// Where the subtasks are.
    pub fn store_kind(&self) -> StoreKind {
        self.store.kind()
    }

    /// When the server started.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The job types of the server.
    pub fn job_types(&self) -> &JobTypes {
        &self.job_types
    }

    /// Keeps the history, and publishes a reading each second while somebody follows. Runs for ever.
    pub async fn run(&self) -> std::convert::Infallible {
        let mut next_sample = Instant::now() + SAMPLE_INTERVAL;
        loop {
            let is_followed = self.published.receiver_count() > 0;
            if is_followed || self.was_looked_at() {
                self.store.refresh_totals().await;
            }
            let now = Instant::now();
            if now >= next_sample {
                self.sample(now);
                next_sample = now + SAMPLE_INTERVAL;
            }
            let pause = match is_followed {
                true => {
                    self.publish(false);
                    PUBLISH_INTERVAL.min(next_sample - now)
                }
                false => next_sample - now,
            };
            tokio::select! {
                () = sleep(pause) => {}
                // A stream that ends and begins again must not make the readings more frequent.
                () = self.followed.notified(), if !is_followed => {}
            }
        }
    }

    /// Follows the readings. The first one comes at once, the others at most once a second.
    ///
    /// # Errors
    ///
    /// If too many follow already, or the server drains.
    pub fn follow(&self) -> Result<watch::Receiver<Option<Published>>, Unavailable> {
        let mut receiver = self.published.subscribe();
        if self.published.receiver_count() > MAX_FOLLOWERS {
            return Err(Unavailable::Overloaded);
        }
        let last = receiver.borrow().as_ref().map(|last| (last.is_last, last.at.elapsed() < PUBLISH_INTERVAL));
        match last {
            Some((true, _)) => return Err(Unavailable::Draining),
            Some((false, true)) => receiver.mark_changed(),
            Some((false, false)) | None => self.followed.notify_one(),
        }
        Ok(receiver)
    }

    /// Publishes the last reading: it tells the viewers that the server drains.
    pub fn end(&self) {
        self.publish(true);
    }

    fn publish(&self, is_last: bool) {
        let json = self.to_json(&self.reading());
        let published = Published {
            json_without_history: json.without_history(),
            sample: json.sample,
            tag: json.tag(),
            json: json.to_bytes(),
            at: Instant::now(),
            is_last,
        };
        self.published.send_replace(Some(published));
    }

    fn sample(&self, now: Instant) {
        // Totals that a scrape has read are good enough.
        let totals = self.totals().filter(|totals| totals.age <= SAMPLE_INTERVAL);
        let by_status = totals.map(|totals| reading::by_status(&totals.counts));
        let counters = Counters::of(&self.metrics.activity());
        self.history().push(Sample { at: now, by_status, counters });
    }

    fn reading(&self) -> Reading {
        let activity = self.metrics.activity();
        let (since, before) = self.history().before(Instant::now(), self.started);
        Reading {
            at: Timestamp::now(),
            totals: self.totals().map(|totals| totals.counts),
            state: State::of(&self.readiness, &self.store),
            rates: Rates::between(&before, &Counters::of(&activity), since),
            activity,
            drift: self.store.drift(),
            takes_reports: self.store.takes_reports(),
        }
    }

    /// The totals, unless the store has only a part of the subtasks or cannot answer.
    fn totals(&self) -> Option<Totals> {
        match self.readiness.phase() {
            Phase::Loading | Phase::Abandoned => None,
            Phase::Ready | Phase::Draining | Phase::Ending => self.store.totals().ok(),
        }
    }

    fn was_looked_at(&self) -> bool {
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        looked_at > 0 && self.started.elapsed() < Duration::from_millis(looked_at) + LOOK_TIME
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
