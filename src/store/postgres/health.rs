//! Whether the database answers and can be used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How long the database may be silent until callers are refused. Each second has several pings.
const SILENCE: Duration = Duration::from_millis(1500);

/// How long it may be silent until the server is not ready.
const READY_SILENCE: Duration = Duration::from_secs(5);

/// How often the silence is measured.
const INTERVAL: Duration = Duration::from_millis(100);

/// When the database answered last.
#[derive(Debug)]
pub(super) struct Health {
    /// `None` before the first answer.
    answered: Mutex<Option<Instant>>,
    /// Whether the role lacks a right, or the schema is another one.
    is_refused: AtomicBool,
    is_down: watch::Sender<bool>,
}

impl Default for Health {
    fn default() -> Self {
        Self { answered: Mutex::default(), is_refused: AtomicBool::new(false), is_down: watch::Sender::new(true) }
    }
}

impl Health {
    /// Notes that the schema and the rights are good.
    pub(super) fn note_usable(&self) {
        self.is_refused.store(false, Ordering::Relaxed);
        self.note_answer();
    }

    /// Notes that the database cannot be used until an operator mends it, although a connection may still answer.
    pub(super) fn note_refusal(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
        self.is_down.send_replace(true);
    }

    /// Notes an answer.
    pub(super) fn note_answer(&self) {
        if self.is_refused.load(Ordering::Relaxed) {
            return;
        }
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if *self.is_down.borrow() {
            self.is_down.send_replace(false);
            tracing::info!("the database answers");
        }
    }

    fn silence(&self) -> Option<Duration> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).map(|answered| answered.elapsed())
    }

    /// Whether callers are refused at once.
    pub(super) fn is_down(&self) -> bool {
        *self.is_down.borrow()
    }

    /// Whether it has answered lately, and can be used.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_refused.load(Ordering::Relaxed) && self.silence().is_some_and(|silence| silence < READY_SILENCE)
    }

    /// Tells when it is down.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.is_down.subscribe()
    }

    /// Measures the silence, for ever.
    pub(super) async fn run(&self) {
        loop {
            sleep(INTERVAL).await;
            if !self.is_down() && self.silence().is_some_and(|silence| silence > SILENCE) {
                self.is_down.send_replace(true);
                tracing::error!("the database does not answer: counts and reports get 503");
            }
        }
    }
}
