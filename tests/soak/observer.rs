//! A thread that only counts: a project that never changes, and those that other threads report.

use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::Duration;

use crate::client::{Client, Failure};
use crate::filter::Filter;
use crate::shared::Shared;
use crate::support::sample::Random;
use crate::time::{self, Window};

pub(crate) fn run(shared: &Shared, mut random: Random) {
    let mut instance = shared.instance();
    let mut client = Client::new(instance.public);
    while !shared.is_done() {
        let checked = if random.below(2) == 0 {
            check_frozen_project(shared, &mut client, &mut random)
        } else {
            check_changing_project(shared, &mut client, &mut random)
        };
        if let Err(failure) = checked {
            shared.request_failed(instance, &failure);
            let Some(next) = shared.wait_for_next(instance) else { return };
            instance = next;
            client = Client::new(instance.public);
        }
        sleep(Duration::from_millis(random.below(4) as u64));
    }
}

fn check_frozen_project(shared: &Shared, client: &mut Client, random: &mut Random) -> Result<(), Failure> {
    let filter = Filter::random_for(&shared.frozen, random);
    let count = client.count(&shared.frozen.id, &filter)?;
    let (now, up) = (time::now(), shared.instance().up);
    let bounds = shared.frozen.count_bounds(&filter, Window { from: now, to: now }, up);
    shared.check_count(&shared.frozen.id, &filter, bounds, count);
    Ok(())
}

fn check_changing_project(shared: &Shared, client: &mut Client, random: &mut Random) -> Result<(), Failure> {
    let history = &shared.histories[random.below(shared.histories.len())];
    let filter = Filter::random(random);
    let confirmed = history.confirmed();
    let count = client.count(&history.project, &filter)?;
    let Some(possible) = history.possible_counts_since(confirmed, &filter) else { return Ok(()) };
    shared.totals.counts.fetch_add(1, Relaxed);
    shared.totals.exact.fetch_add(u64::from(possible.iter().all(|number| *number == possible[0])), Relaxed);
    if !possible.contains(&count) {
        let query = filter.query();
        shared.report_mismatch(&format!("{}?{query} is {count} and should be one of {possible:?}", history.project));
    }
    Ok(())
}
