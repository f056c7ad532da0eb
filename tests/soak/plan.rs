//! What is reported next.

use crate::model::{Project, Stored};
use crate::record::{Record, STATUSES, TYPES};
use crate::support::sample::Random;
use crate::time::{Moment, Uptime, Window};

/// In the year 2100: what ended then is never old enough.
const NEVER: u32 = 4_102_444_800;

/// In 2001: what ended then goes as soon as the server looks.
const LONG_AGO: u32 = 1_000_000_000;

/// A subtask that may be gone sooner than this is left alone.
const MARGIN: Moment = 2500;

/// A report of one project, and the project as it will be when it has been taken now.
pub(crate) fn report(project: &Project, random: &mut Random, now: Moment, up: Uptime) -> (Vec<Record>, Project) {
    let size = match random.below(20) {
        0..10 => 1 + random.below(5),
        10..16 => 10 + random.below(90),
        16..19 => 100 + random.below(400),
        _ => 1000,
    };
    let (mut batch, mut after) = (Vec::with_capacity(size), project.clone());
    after.newest_job += u32::from(random.below(8) == 0);
    // Some slots are not to be touched now.
    for _ in 0..4 * size {
        if batch.len() == size {
            break;
        }
        if let Some(record) = record(&after, random, now, up) {
            after.take(&[record], Window { from: now, to: now }, up);
            batch.push(record);
        }
    }
    (batch, after)
}

fn record(project: &Project, random: &mut Random, now: Moment, up: Uptime) -> Option<Record> {
    let slot = random.below(project.slots().len());
    let Some(stored) = project.slots()[slot].filter(|stored| !stored.is_gone(now, up)) else {
        // The same one again, which is new to the server, or one that there has never been.
        let generation = if random.below(2) == 0 { 0 } else { now as u32 };
        let blank =
            Record { slot: slot as u32, generation, job: 0, job_type: 0, status: 0, version: 0, details: 0, end: None };
        let blank = Record { version: random.below(5) as u64, ..blank };
        return Some(other(Stored { record: blank, ended: None }, project, random, now));
    };
    let (old, lasts) = (stored.record, stored.ended.is_none_or(|ended| ended.stays_until() > now + 1_000_000_000));
    if !lasts && (!stored.is_there(now + MARGIN) || random.below(10) > 0) {
        return None;
    }
    let (step, roll) = (1 + random.below(3) as u64, random.below(100));
    Some(match roll {
        0..10 => old,
        // What may be gone would take it for new.
        10..20 if lasts && old.version > 0 => {
            let version = old.version - step.min(old.version);
            other(Stored { record: Record { version, ..old }, ..stored }, project, random, now)
        }
        20..25 => other(stored, project, random, now),
        _ => other(Stored { record: Record { version: old.version + step, ..old }, ..stored }, project, random, now),
    })
}

/// The same subtask otherwise.
fn other(stored: Stored, project: &Project, random: &mut Random, now: Moment) -> Record {
    let mut record = stored.record;
    if random.below(4) > 0 || record.job == 0 {
        record.status = random.below(STATUSES.len()) as u8;
    }
    if random.below(5) == 0 || record.job == 0 {
        record.job_type = random.below(TYPES.len()) as u8;
    }
    if random.below(10) == 0 || record.job == 0 {
        record.job = 1 + project.newest_job.saturating_sub(random.below(12) as u32);
    }
    record.details = random.below(2 * 8).saturating_sub(8) as u8;
    record.end = match random.below(20) {
        // Of one that is known to have ended in the far future, nothing need be said again.
        _ if record.has_ended() && project.is_steady && stored.ended.is_none() => Some(NEVER),
        0..3 => Some(NEVER),
        _ if project.is_steady => None,
        3..6 => Some(LONG_AGO),
        6..9 => Some((now / 1000) as u32 - 2 + random.below(5) as u32),
        _ => None,
    };
    record
}
