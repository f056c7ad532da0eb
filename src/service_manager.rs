//! Tells the service manager that started the process, for example systemd, that the server is ready, reloads its files or
//! stops. Without one, which the environment tells, nothing is sent.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::config::has_service_manager;
use crate::readiness::{Phase, Readiness};

/// How many reloads have begun and how many of them have ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReloadCounts {
    begun: u64,
    ended: u64,
}

/// Counts the reloads of one kind of file, one after the other.
#[derive(Debug, Clone)]
pub struct ReloadCounter {
    counts: Arc<watch::Sender<ReloadCounts>>,
    is_running: bool,
}

impl ReloadCounter {
    /// A counter, of which each kind of file has a clone, and the counts of all of them.
    pub fn new() -> (Self, watch::Receiver<ReloadCounts>) {
        let (counts, receiver) = watch::channel(ReloadCounts::default());
        (Self { counts: Arc::new(counts), is_running: false }, receiver)
    }

    /// A reload begins.
    pub fn begin(&mut self) {
        self.is_running = true;
        self.counts.send_modify(|counts| counts.begun += 1);
    }

    /// The reload that began has ended, if there was one.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_running) {
            self.counts.send_modify(|counts| counts.ended += 1);
        }
    }
}

/// Sends READY when the server is ready, RELOADING and READY around its reloads, WATCHDOG as often as the service manager asks, and
/// STOPPING when the server begins to drain. Returns then, or at once if there is no service manager.
pub async fn report(readiness: Arc<Readiness>, mut reloads: watch::Receiver<ReloadCounts>) {
    if !has_service_manager() {
        return;
    }
    if readiness.wait_while(Phase::Loading).await == Phase::Ready {
        // Reloads before this moment belong to the start.
        let mut announced = reloads.borrow_and_update().begun;
        send(vec![NotifyState::Ready]).await;
        let mut watchdog = watchdog_interval();
        loop {
            tokio::select! {
                _ = readiness.wait_while(Phase::Ready) => break,
                changed = reloads.changed() => {
                    if changed.is_err() {
                        // All counters are gone: there will be no more reloads.
                        readiness.wait_while(Phase::Ready).await;
                        break;
                    }
                    announce_reloads(&mut reloads, &mut announced).await;
                }
                () = tick(&mut watchdog) => send(vec![NotifyState::Watchdog]).await,
            }
        }
    }
    send(vec![NotifyState::Stopping]).await;
}

/// Sends RELOADING for reloads that have begun since the last call, waits until all have ended, and sends READY.
async fn announce_reloads(reloads: &mut watch::Receiver<ReloadCounts>, announced: &mut u64) {
    let begun = reloads.borrow_and_update().begun;
    if begun == *announced {
        return;
    }
    // The service manager ignores a reload whose time is unknown.
    let Ok(now) = NotifyState::monotonic_usec_now() else { return };
    send(vec![NotifyState::Reloading, now]).await;
    // Each ends within seconds, even one that hangs.
    let all_ended = reloads.wait_for(|counts| counts.begun == counts.ended).await.map(|counts| counts.begun);
    *announced = all_ended.unwrap_or(begun);
    send(vec![NotifyState::Ready]).await;
}

/// Half of the interval after which the service manager takes the process for dead, if it does.
fn watchdog_interval() -> Option<Interval> {
    let half = sd_notify::watchdog_enabled()?.checked_div(2).filter(|half| *half > Duration::ZERO)?;
    let mut ticks = interval(half);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(ticks)
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => pending().await,
    }
}

/// Sends a message on a blocking thread, because a service manager may be slow to receive it.
async fn send(message: Vec<NotifyState<'static>>) {
    match tokio::task::spawn_blocking(move || sd_notify::notify(&message)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot notify the service manager"),
        Err(error) => tracing::warn!(%error, "cannot notify the service manager"),
    }
}
